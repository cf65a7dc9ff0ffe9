"""Studies that go on are exported at intervals; those whose runs are trained elsewhere when none of them goes on."""

from datetime import timedelta
from functools import partial
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from app.domain.imports.declared import ExternalStudySpec
from app.domain.imports.reports import RunEnd, RunOpening
from app.features.elsewhere.queries import tracker_exports as queries
from app.features.elsewhere.services import reports as external_reports
from app.features.elsewhere.services import studies as external
from app.features.elsewhere.services import tracker_exports
from app.features.elsewhere.services.tracker_exports import LIVE_RETRIES, MOST_ATTEMPTS, RETRY_SECONDS
from app.main import create_app
from app.services.runs import ended as ended_runs
from app.settings import load
from app.store.runs import queries as runs
from app.store.studies import collections
from app.store.tables import CollectionRow, RunRow, StudyRow, now
from tests.features.elsewhere.test_tracker_exports import Site, site
from tests.support.rows.external import FULL, LORA, SPEC, item_scores
from tests.support.servers.served import served
from worker.children.host import ChildError
from worker.features.elsewhere import host

__all__ = ["site"]

LIVE_SECONDS = 45.0


class Elsewhere:
    """A study whose runs are trained elsewhere, on a site."""

    def __init__(self, site: Site) -> None:
        self.site, self.write = site, site.database.write
        self.id = self.write(lambda session: external.declare(session, ExternalStudySpec(**SPEC)).id)

    def open(self, arm: str) -> int:
        """Open the run of an arm."""
        opening = RunOpening(key=arm, arm=arm, seed=0)
        return self.write(lambda session: external.open_run(session, self.id, opening)).run_id

    def end(self, run_id: int, outcome: str = "succeeded") -> None:
        """End a run, of which the control node takes note."""
        scores = item_scores(0.75, 0) if outcome == "succeeded" else None
        ending = RunEnd(attempt=1, outcome=outcome, item_scores=scores)
        self.write(lambda session: external_reports.end(session, run_id, ending))
        ended_runs.process(self.site.database, self.site.settings)

    def change(self, **values: Any) -> None:
        """Change the study."""
        self.write(lambda session: session.execute(update(CollectionRow).values(**values)))

    @property
    def state(self) -> str | None:
        """What people are told of its export."""
        with self.site.database.reading() as session:
            export = tracker_exports.of_study(session, collections.get(session, self.id))
            return export and export.state


@pytest.fixture
def elsewhere(site: Site) -> Elsewhere:
    return Elsewhere(site)


@pytest.fixture
def live(site: Site) -> Site:
    """A site that exports live, with one running run."""
    site.settings = site.settings.model_copy(update={"tracker_live_seconds": LIVE_SECONDS})
    site.context = site.context.__class__(site.settings, site.database, site.context.files, site.context.bell)
    with site.database.transaction() as session:
        session.execute(update(RunRow).where(RunRow.arm == "full").values(status="running"))
    return site


def test_a_study_trained_elsewhere_is_exported_when_none_of_its_runs_goes_on(elsewhere: Elsewhere) -> None:
    site, first, second = elsewhere.site, elsewhere.open(FULL), elsewhere.open(LORA)
    elsewhere.end(first)
    assert elsewhere.state == "waiting" and host.export_due(site.context) == 0, "another run goes on"
    elsewhere.end(second)
    assert elsewhere.state == "waiting"
    assert host.export_due(site.context) == 1
    [claim] = site.claims
    assert (claim.study_id, claim.external, claim.live) == (elsewhere.id, True, False)
    assert elsewhere.state == "exported" and site.row is None
    # Another try of a failed run, while the study is private.
    with site.database.transaction() as session:
        session.execute(update(RunRow).where(RunRow.id == second).values(status="failed"))
    elsewhere.change(private_to=1)
    third = elsewhere.write(
        lambda session: external.open_run(session, elsewhere.id, RunOpening(key="again", arm=LORA, seed=0))
    )
    elsewhere.end(third.run_id, "failed")
    assert elsewhere.state == "private" and host.export_due(site.context) == 0
    elsewhere.change(private_to=None)
    site.outcomes = ["http://tracker/2"]
    assert host.export_due(site.context) == 1
    with site.database.transaction() as session:
        session.query(RunRow).filter(RunRow.collection_id == elsewhere.id).delete()
        session.query(CollectionRow).delete()
    with site.database.reading() as session:
        assert queries.of_study(session, elsewhere.id, external=True) is None


def test_a_script_that_is_silent_for_a_day_keeps_no_study_from_its_export(elsewhere: Elsewhere) -> None:
    silent, other = elsewhere.open(FULL), elsewhere.open(LORA)
    elsewhere.write(
        lambda session: session.execute(
            update(RunRow).where(RunRow.id == silent).values(heard_at=now() - timedelta(days=2))
        )
    )
    elsewhere.end(other)
    assert elsewhere.state == "waiting"
    assert host.export_due(elsewhere.site.context) == 1


@pytest.mark.parametrize("deleted", [True, False])
def test_the_last_run_is_silent_for_a_day_or_deleted_after_another_has_ended(
    elsewhere: Elsewhere, deleted: bool
) -> None:
    site, first, last = elsewhere.site, elsewhere.open(FULL), elsewhere.open(LORA)
    elsewhere.end(first)
    assert host.export_due(site.context) == 0
    with site.database.transaction() as session:
        if deleted:
            session.delete(runs.get(session, last))
        else:
            runs.get(session, last).heard_at = now() - timedelta(days=2)
    assert host.export_due(site.context) == 1 and elsewhere.state == "exported"


def test_an_end_between_finding_a_running_study_and_queueing_it_is_exported(live: Site) -> None:
    with live.database.reading() as session:
        found = queries.not_live(session, now() - timedelta(days=1))
    assert found == [(False, live.study)]
    with live.database.transaction() as session:
        session.execute(update(RunRow).values(status="succeeded"))
    live.end()
    with live.database.transaction() as session:
        queries.queue(session, live.study, now(), external=False)
    assert host.export_due(live.context) == 1
    assert not live.claims[-1].live and live.state == "exported"


@pytest.mark.parametrize("unset", ["tracker", "tracker_live_seconds"])
def test_an_end_is_exported_although_the_settings_were_away(live: Site, unset: str) -> None:
    for _number in range(MOST_ATTEMPTS + 1):
        live.outcomes = [ChildError("The tracker does not answer.")]
        assert host.export_due(live.context) == 1
        live.due()
    with live.database.transaction() as session:
        session.execute(update(RunRow).values(status="succeeded"))
    if unset == "tracker":
        live.end(live.settings.model_copy(update={"tracker": ""}))
    else:
        settings = live.settings.model_copy(update={"tracker_live_seconds": 0.0})
        live.context = live.context.__class__(settings, live.database, live.context.files, live.context.bell)
    live.outcomes = ["http://tracker/1"]
    assert host.export_due(live.context) == 1
    assert (live.claims[-1].live, live.claims[-1].number, live.state) == (False, 1, "exported")


@pytest.mark.slow
def test_a_study_no_longer_exported_live_says_that_it_waits_for_its_end(live: Site) -> None:
    live.outcomes = ["http://tracker/1", ChildError("The tracker does not answer."), "http://tracker/1"]
    assert host.export_due(live.context) == 1
    live.due()
    assert host.export_due(live.context) == 1 and live.state == "live"
    settings = live.settings.model_copy(update={"tracker_live_seconds": 0.0})
    live.context = live.context.__class__(settings, live.database, live.context.files, live.context.bell)
    assert host.export_due(live.context) == 0 and live.state == "waiting"
    assert live.row is not None and (live.row.message, live.row.url) == ("", "http://tracker/1")
    with served(create_app(live.settings)) as server:
        page = httpx2.get(f"{server}/studies/{live.study}", timeout=60).text
    assert "and again when the study has ended:" in page and "while it runs" not in page
    with live.database.transaction() as session:
        session.execute(update(RunRow).values(status="succeeded"))
    assert host.export_due(live.context) == 1 and live.state == "exported", "at once, not after the retry's pause"


def test_an_attempt_that_goes_on_when_the_setting_is_unset_keeps_its_row(live: Site) -> None:
    live.database.write(tracker_exports.go_live)
    claim = live.database.write(partial(tracker_exports.begin, live=True))
    assert claim is not None
    live.database.write(tracker_exports.leave_live)
    assert live.state == "live"
    live.database.write(lambda session: tracker_exports.succeeded(session, claim, "http://tracker/1", 45))
    live.database.write(tracker_exports.leave_live)
    assert live.state == "waiting" and live.row is not None and live.row.attempts == 0


def test_failed_exports_are_listed_by_the_age_of_their_studies(live: Site) -> None:
    elsewhere = Elsewhere(live)
    elsewhere.open(FULL)
    with live.database.transaction() as session:
        session.execute(update(StudyRow).values(created_at=now() - timedelta(hours=1)))
    for newest in (True, False):
        elsewhere.change(created_at=now() - timedelta(hours=0 if newest else 2))
        live.outcomes = [ChildError("The tracker does not answer.")] * 2
        assert host.export_due(live.context) == 2
        with live.database.reading() as session:
            assert [row.external for row in queries.failing(session)] == [newest, not newest]
        live.due()


def test_a_round_exports_each_study_once_however_long_exports_take(live: Site) -> None:
    settings = live.settings.model_copy(update={"tracker_live_seconds": 1e-9})  # each is due again at once
    live.context = live.context.__class__(settings, live.database, live.context.files, live.context.bell)
    Elsewhere(live).open(FULL)
    live.outcomes = ["http://tracker/1"] * 2
    assert host.export_due(live.context) == 2
    assert {claim.external for claim in live.claims} == {False, True}


def test_the_end_of_one_run_brings_no_live_export_forward(live: Site) -> None:
    assert host.export_due(live.context) == 1
    live.end()  # of the run that has ended
    assert host.export_due(live.context) == 0 and live.state == "live"


def test_a_study_that_goes_on_is_exported_at_intervals_and_once_more_when_it_has_ended(live: Site) -> None:
    live.outcomes = ["http://tracker/1"] * 9
    before = now()
    assert host.export_due(live.context) == 1
    assert live.claims[-1].live and live.state == "live"
    row = live.row
    assert row is not None and row.next_at is not None and row.url == "http://tracker/1"
    assert timedelta(0) <= row.next_at - before - timedelta(seconds=LIVE_SECONDS) < timedelta(seconds=30)
    assert host.export_due(live.context) == 0, "its time has not come"
    live.due()
    assert host.export_due(live.context) == 1
    live.due()
    with live.database.transaction() as session:  # it waits for a worker: nothing is new
        session.execute(update(RunRow).where(RunRow.arm == "full").values(status="queued"))
    assert host.export_due(live.context) == 0
    with live.database.transaction() as session:
        session.execute(update(RunRow).values(status="succeeded"))
    live.end()
    assert live.state == "waiting"
    assert host.export_due(live.context) == 1
    assert not live.claims[-1].live and live.state == "exported"
    assert host.export_due(live.context) == 0
    # Seeds are added.
    with live.database.transaction() as session:
        session.execute(update(RunRow).where(RunRow.arm == "full").values(status="running"))
    assert host.export_due(live.context) == 1
    assert live.claims[-1].live and live.state == "live"


def test_an_outage_of_the_tracker_is_tried_again_until_the_study_ends(live: Site) -> None:
    for number in range(1, 12):  # more often than a study that has ended is tried
        live.outcomes, before = [ChildError("The tracker does not answer.")], now()
        assert host.export_due(live.context) == 1
        row = live.row
        assert row is not None and row.next_at is not None and row.message == "The tracker does not answer."
        pause = max(LIVE_SECONDS, RETRY_SECONDS[min(number, LIVE_RETRIES) - 1])
        assert timedelta(0) <= row.next_at - before - timedelta(seconds=pause) < timedelta(seconds=30)
        assert live.state == "live"
        live.due()
    live.outcomes = ["http://tracker/1"] * 2
    assert host.export_due(live.context) == 1
    assert live.row is not None and (live.row.message, live.row.attempts) == ("", 0)


def test_a_study_that_ends_during_a_live_export_is_exported_whole_after_it(live: Site) -> None:
    live.database.write(tracker_exports.go_live)
    claim = live.database.write(partial(tracker_exports.begin, live=True))
    assert claim is not None and claim.live
    with live.database.transaction() as session:
        session.execute(update(RunRow).values(status="succeeded"))
    live.end()
    assert live.database.write(partial(tracker_exports.begin, live=True)) is None, "the live export goes on"
    live.database.write(lambda session: tracker_exports.failed(session, claim, "The tracker does not answer.", 45))
    assert live.row is not None and live.row.message == "" and live.state == "waiting"
    assert host.export_due(live.context) == 1
    assert live.state == "exported"


def test_a_private_study_and_one_without_the_setting_are_not_exported_live(live: Site) -> None:
    live.change(private_to=1)
    assert host.export_due(live.context) == 0
    live.change(private_to=None)
    assert host.export_due(live.context) == 1 and live.state == "live"
    live.change(private_to=1)
    live.due()
    assert host.export_due(live.context) == 0 and live.state == "private"
    live.change(private_to=None)
    ended_only = live.settings.model_copy(update={"tracker_live_seconds": 0.0})
    live.context = live.context.__class__(ended_only, live.database, live.context.files, live.context.bell)
    assert host.export_due(live.context) == 0


def test_a_study_trained_elsewhere_is_exported_live_while_its_script_reports(live: Site) -> None:
    with live.database.transaction() as session:
        session.execute(update(RunRow).values(status="succeeded"))
    elsewhere = Elsewhere(live)
    run_id = elsewhere.open(FULL)
    assert host.export_due(live.context) == 1
    assert live.claims[-1].external and live.claims[-1].live and elsewhere.state == "live"
    live.due()
    with live.database.transaction() as session:
        run = runs.get(session, run_id)
        run.heard_at = now() - timedelta(days=2)
    live.outcomes = ["http://tracker/1"]
    assert host.export_due(live.context) == 1, "it counts as ended"
    assert not live.claims[-1].live and elsewhere.state == "exported"


@pytest.mark.parametrize(
    ("seconds", "words"), [("inf", ""), ("nan", ""), ("1e12", ""), ("0.001", "at least 5"), ("-1", "")]
)
def test_an_interval_that_is_none_is_refused(seconds: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEZNA_TRACKER", "tensorboard:runs")
    monkeypatch.setenv("VEZNA_TRACKER_LIVE_SECONDS", seconds)
    with pytest.raises(Exception, match=f"VEZNA_TRACKER_LIVE_SECONDS.*{words}"):
        load()
    monkeypatch.setenv("VEZNA_TRACKER_LIVE_SECONDS", "60")
    monkeypatch.setenv("VEZNA_TRACKER", "")
    with pytest.raises(Exception, match="exports nothing without VEZNA_TRACKER"):
        load()


@pytest.mark.parametrize("tracker", ["trackio:headlines", "wandb:headlines"])
def test_a_tracker_that_cannot_append_is_refused_for_live_exports(
    tracker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEZNA_TRACKER", tracker)
    assert load().tracker == tracker
    monkeypatch.setenv("VEZNA_TRACKER_LIVE_SECONDS", "60")
    with pytest.raises(Exception, match="needs MLflow or TensorBoard"):
        load()
    monkeypatch.setenv("VEZNA_TRACKER", "tensorboard:runs")
    assert load().tracker_live_seconds == 60
