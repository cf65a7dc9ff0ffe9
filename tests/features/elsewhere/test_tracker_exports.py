"""Studies that have ended wait for their export, which is tried again, and fails in the end; no run notices."""

from collections.abc import Iterator
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from sqlalchemy import update

from app.features.elsewhere import checks as tracker_check
from app.features.elsewhere.queries import tracker_exports as queries
from app.features.elsewhere.services import tracker_exports
from app.features.elsewhere.services.tracker_exports import MOST_ATTEMPTS, RETRY_SECONDS
from app.features.elsewhere.tables import ExternalTrackerExportRow, TrackerExport, TrackerExportRow
from app.services.runs import ended as ended_runs
from app.settings import Settings, load
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.studies import queries as studies
from app.store.tables import EstimateRow, RunRow, StudyRow, now
from tests.integration.web.test_client import serving
from tests.support.fakes.fakes import SilentBell
from tests.support.filled.filled import add_baselines
from tests.support.rows.factories import FULL, LORA, seed_study
from worker.children.host import ChildError, ChildInterrupted
from worker.features.elsewhere import child, host
from worker.nodes.context import Context

TRACKER = "http://127.0.0.1:9"


class Site:
    """An installation with a tracker and a study of two runs that have ended."""

    def __init__(self, database: Database, settings: Settings, files: Files) -> None:
        self.database, self.outcomes = database, ["http://tracker/1"]
        self.claims: list[tracker_exports.Claim] = []
        self.settings = settings.model_copy(update={"tracker": TRACKER})
        self.context = Context(self.settings, database, files, SilentBell())
        with database.transaction() as session:
            self.study = seed_study(session, arms=(FULL, LORA), seeds=(0,))

    def end(self, settings: Settings | None = None) -> None:
        """Its runs have just ended."""
        with self.database.transaction() as session:
            for run_id in session.query(RunRow.id).where(RunRow.study_id == self.study):
                ended_runs.note(session, run_id[0])
        ended_runs.process(self.database, settings or self.settings)

    def due(self) -> None:
        """Let the time of the next attempt come, and the lease of a killed one expire."""
        with self.database.transaction() as session:
            for table in (TrackerExportRow, ExternalTrackerExportRow):
                earlier = now() - timedelta(seconds=1)
                session.execute(update(table).where(table.leased_until.is_not(None)).values(leased_until=earlier))
                session.execute(update(table).where(table.next_at.is_not(None)).values(next_at=earlier))

    def change(self, **values: Any) -> None:
        with self.database.transaction() as session:
            session.execute(update(StudyRow).values(**values))

    @property
    def row(self) -> TrackerExport | None:
        with self.database.reading() as session:
            return queries.of_study(session, self.study)

    @property
    def state(self) -> str | None:
        """What people are told."""
        with self.database.reading() as session:
            export = tracker_exports.of_study(session, studies.get(session, self.study))
            return export and export.state


@pytest.fixture
def site(database: Database, settings: Settings, files: Files, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    found = Site(database, settings, files)

    def exported(_context: Context, claim: tracker_exports.Claim, _stopping: object) -> str:
        found.claims.append(claim)
        outcome = found.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(host, "_exported", exported)
    return found


def test_a_study_is_exported_once_when_it_has_ended(site: Site) -> None:
    site.end()
    assert host.export_due(site.context) == 1
    assert site.row is not None
    assert (site.row.url, site.row.message, site.row.next_at) == ("http://tracker/1", "", None)
    assert site.state == "exported"
    assert host.export_due(site.context) == 0
    site.outcomes = ["http://tracker/1"]
    site.end()  # with seeds that were added
    assert host.export_due(site.context) == 1


def test_nothing_is_exported_without_a_tracker_or_while_runs_go_on(site: Site) -> None:
    site.end(site.settings.model_copy(update={"tracker": ""}))
    assert site.row is None
    with site.database.transaction() as session:
        session.execute(update(RunRow).where(RunRow.seed == 0, RunRow.arm == "full").values(status="running"))
    site.end()
    assert host.export_due(site.context) == 0 and site.state == "waiting"
    with site.database.transaction() as session:
        session.execute(update(RunRow).values(status="succeeded"))
    assert host.export_due(site.context) == 1, "its runs say that it has ended, whether or not that was noted"


def test_a_private_study_waits_until_the_team_sees_it(site: Site) -> None:
    site.change(private_to=1)
    site.end()
    assert host.export_due(site.context) == 0
    assert site.state == "private"
    site.change(private_to=None)
    assert site.state == "waiting"
    assert host.export_due(site.context) == 1
    assert site.state == "exported"
    site.change(private_to=1)
    assert site.state == "exported"
    site.end()  # seeds were added
    assert host.export_due(site.context) == 0
    site.outcomes = ["http://tracker/1"]
    site.change(private_to=None)
    assert host.export_due(site.context) == 1


def test_a_study_that_goes_on_again_waits_for_its_end(site: Site) -> None:
    site.end()
    with site.database.transaction() as session:
        session.execute(update(RunRow).where(RunRow.arm == "full").values(status="queued"))
    assert host.export_due(site.context) == 0
    assert site.state == "waiting"
    with site.database.transaction() as session:
        session.execute(update(RunRow).values(status="succeeded"))
    assert host.export_due(site.context) == 1


def test_a_study_that_cannot_be_read_and_a_full_disk_fail_an_attempt_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_args: object) -> bool:
        raise ValueError("spec")

    site.end()
    with monkeypatch.context() as broken:
        broken.setattr(tracker_exports, "_awaits_baselines", unreadable)
        assert host.export_due(site.context) == 0
    row = site.row
    assert row is not None and row.next_at is not None and row.attempts == 1 and "ValueError" in row.message
    assert row.next_at - now() < timedelta(seconds=RETRY_SECONDS[0] + 1)
    site.due()
    site.outcomes = [OSError(28, "No space left on device")]
    assert host.export_due(site.context) == 1
    row = site.row
    assert row is not None and row.next_at is not None and row.attempts == 2
    assert "No space left on device" in row.message and row.next_at - now() < timedelta(seconds=RETRY_SECONDS[1] + 1)


def test_a_failed_export_is_tried_again_and_fails_for_good_in_the_end(site: Site) -> None:
    site.end()
    for number, seconds in enumerate((*RETRY_SECONDS, None), start=1):
        site.outcomes = [ChildError("The tracker does not answer.")]
        before = now()
        assert host.export_due(site.context) == 1
        row = site.row
        assert row is not None and row.attempts == number and row.message == "The tracker does not answer."
        if seconds is None:
            assert row.next_at is None and site.state == "failed"
        else:
            assert row.next_at is not None and site.state == "waiting"
            assert timedelta(0) <= row.next_at - before - timedelta(seconds=seconds) < timedelta(seconds=30)
            assert host.export_due(site.context) == 0
            [finding] = tracker_check.check(site.database, site.settings)
            assert finding.state == "warning" and "is tried again" in finding.message
            site.due()
    assert number == MOST_ATTEMPTS
    [finding] = [found for found in tracker_check.check(site.database, site.settings) if found.state == "warning"]
    assert f"Study {site.study}: The tracker does not answer" in finding.message
    site.end()
    site.outcomes = ["http://tracker/2"]
    assert host.export_due(site.context) == 1
    [finding] = tracker_check.check(site.database, site.settings)
    assert finding.state == "ok" and TRACKER in finding.message
    assert finding.line.startswith("ok       tracker: Studies are exported to")


def test_a_shutdown_gives_the_study_back_and_a_killed_attempt_counts(site: Site) -> None:
    site.end()
    site.outcomes = [ChildInterrupted("The worker shuts down.")]
    host.export_due(site.context)
    assert site.row is not None and site.row.attempts == 0 and site.row.leased_until is None
    for number in range(1, MOST_ATTEMPTS + 1):
        began = now()
        claim = site.database.write(tracker_exports.begin)
        assert claim is not None and claim.number == number
        assert site.row.next_at is not None and site.row.leased_until is not None
        assert site.row.leased_until - began < timedelta(minutes=3)
        pause = site.row.next_at - began - timedelta(seconds=(*RETRY_SECONDS, 120)[number - 1])
        assert timedelta(0) <= pause < timedelta(seconds=30), "as if it had failed"
        site.due()
        if number == 1:  # the process goes on
            assert site.database.write(lambda session, claim=claim: tracker_exports.renew(session, claim))
            assert site.database.write(tracker_exports.begin) is None, "it is being exported"
            site.due()
        # The process was killed, and its lease expires.
    assert site.database.write(tracker_exports.begin) is None
    assert site.state == "failed" and "ended during the last attempt" in site.row.message


def test_an_attempt_that_lost_its_lease_writes_nothing(site: Site) -> None:
    site.end()
    old = site.database.write(tracker_exports.begin)
    assert old is not None
    site.due()  # its machine was suspended
    new = site.database.write(tracker_exports.begin)
    assert new is not None and new.number == 2
    assert not site.database.write(lambda session: tracker_exports.renew(session, old))
    with pytest.raises(ChildError, match="another attempt exports it"):
        host._renew(site.context, old, Event())
    site.database.write(lambda session: tracker_exports.succeeded(session, old, "http://tracker/old"))
    site.database.write(lambda session: tracker_exports.failed(session, old, "late"))
    site.database.write(lambda session: tracker_exports.give_back(session, old))
    assert site.row is not None and (site.row.url, site.row.message, site.row.attempts) == ("", "", 2)
    assert site.row.leased_until is not None and site.state == "waiting"


def test_a_study_that_ends_again_during_an_attempt_is_exported_again(site: Site) -> None:
    site.end()
    claim = site.database.write(tracker_exports.begin)
    assert claim is not None
    site.end()  # with seeds that were added meanwhile
    assert site.database.write(tracker_exports.begin) is None, "the attempt goes on"
    site.database.write(lambda session: tracker_exports.succeeded(session, claim, "http://tracker/1"))
    assert site.row is not None and site.row.url == "http://tracker/1" and site.state == "waiting"
    assert host.export_due(site.context) == 1
    assert site.state == "exported"


def test_a_study_waits_for_its_baselines_and_a_deleted_one_is_forgotten(site: Site) -> None:
    with site.database.transaction() as session:
        add_baselines(session, studies.get(session, site.study).spec)
        session.execute(update(EstimateRow).values(status="queued"))
    site.end()
    assert host.export_due(site.context) == 0
    with site.database.transaction() as session:
        session.execute(update(EstimateRow).values(status="ready"))
    claim = site.database.write(tracker_exports.begin)
    assert claim is not None
    with site.database.transaction() as session:
        session.query(RunRow).delete()
        session.query(StudyRow).delete()
    assert site.row is None
    site.database.write(lambda session: tracker_exports.failed(session, claim, "late"))
    assert site.row is None


@pytest.mark.parametrize("address", ["mlflow", "tensorboard:", "ftp://host", "http://ann:secret@host", "http://"])
def test_a_setting_that_names_no_tracker_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEZNA_TRACKER", address)
    with pytest.raises(Exception, match="VEZNA_TRACKER") as refused:
        load()
    assert "secret" not in str(refused.value)


def test_the_child_says_in_a_sentence_what_went_wrong() -> None:
    request = '{"study": 1, "to": "tensorboard:runs", "server": "%s", "token": "", "external": false, "live": false}'
    assert "is not the address of a tracker" in child.answer(
        request.replace("tensorboard:runs", "elsewhere") % "http://127.0.0.1:9"
    )
    refusal = (401, "application/problem+json", '{"title": "Unauthorized", "detail": "Log in."}')
    with serving(lambda _number: refusal) as address:
        assert "Set VEZNA_TRACKER_TOKEN of the control node" in child.answer(request % address)
