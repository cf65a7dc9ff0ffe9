"""An export of the installation keeps its lease only while the node runs and the team sees the study."""

from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import update

from app.features.elsewhere.services import tracker_exports
from app.features.elsewhere.tables import TrackerExportRow
from app.store.database.session import Database
from app.store.tables import RunRow, StudyRow, now
from app.store.workers import clock
from tests.features.elsewhere.test_tracker_exports import Site, site
from tests.integration.tracking.test_tensorboard import server
from tests.integration.tracking.test_trackers import sqlite
from vezna import Client
from vezna.errors import Refused, StudyIsPrivate
from vezna.trackers import tensorboard, writing
from vezna.trackers.study import read_study
from vezna.trackers.writing import write_study
from worker.children.host import ChildError, ChildInterrupted
from worker.features.elsewhere import host

__all__ = ["server", "site"]


def test_a_stopping_node_begins_no_attempt_and_gives_the_current_one_back(site: Site) -> None:
    stopping = Event()
    site.end()
    stopping.set()
    assert host.export_due(site.context, stopping) == 0 and site.state == "waiting"
    claim = site.database.write(tracker_exports.begin)
    assert claim is not None
    with pytest.raises(ChildInterrupted):
        host._renew(site.context, claim, stopping)


def test_a_study_that_is_made_private_loses_its_lease(site: Site) -> None:
    site.end()
    claim = site.database.write(tracker_exports.begin)
    assert claim is not None
    site.change(private_to=1)
    with pytest.raises(ChildError, match="The study is private now"):
        host._renew(site.context, claim, Event())


def test_no_wall_clock_ends_a_lease_or_puts_an_export_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.end()
    claim = site.database.write(tracker_exports.begin)
    assert claim is not None
    with monkeypatch.context() as patched:
        patched.setattr(tracker_exports, "now", lambda: now() + timedelta(days=1))
        assert site.database.write(tracker_exports.begin) is None
        assert site.database.write(lambda session: tracker_exports.renew(session, claim))
    # The database's clock jumps: the lease begins anew, and what would wait for days is due.
    with site.database.transaction() as session:
        session.execute(update(TrackerExportRow).values(next_at=now() + timedelta(days=30), leased_until=now()))
        clock.renew_everything(session, clock.now(session), timedelta(seconds=45))
    row = site.row
    assert row is not None and row.next_at is not None and row.leased_until is not None
    assert row.next_at < now() + timedelta(seconds=1) < row.leased_until < now() + timedelta(seconds=60)


@sqlite
@pytest.mark.slow
def test_a_study_made_private_is_written_no_further_and_a_deleted_run_fails_nothing(
    server: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = tmp_path / "exported"

    def write(study: int, *, team_only: bool = True) -> list[str]:
        """The folders of a study that was written."""
        with Client(server) as client:
            write_study(client, read_study(client, study), tensorboard.connect(str(exported)), team_only=team_only)
        [folder] = exported.iterdir()
        return sorted(place.name for place in folder.iterdir() if place.is_dir())

    def change(**values: Any) -> None:
        with database.transaction() as session:
            session.execute(update(StudyRow).where(StudyRow.id == 3).values(**values))
            session.execute(update(RunRow).where(RunRow.study_id == 3).values(**values))

    reading, begun = writing.read_run, list[int]()

    def read(client: Client, run_id: int) -> Any:
        begun.append(run_id)
        if len(begun) == 2:
            change(private_to=1)
        return reading(client, 10**6 if run_id == 27 else run_id)

    with monkeypatch.context() as patched:
        patched.setattr(writing, "read_run", read)
        with pytest.raises(StudyIsPrivate):
            write(3)
    assert len(begun) == 2
    [folder] = exported.iterdir()
    assert [place.name for place in folder.iterdir() if place.is_dir()] == ["full, seed 7 (run 25)"]
    with pytest.raises(StudyIsPrivate):
        write(3)
    assert len(write(3, team_only=False)) == 5, "a person may export it"
    change(private_to=None)

    with monkeypatch.context() as patched:
        patched.setattr(writing, "read_run", read)
        patched.setattr(writing, "_exists", lambda _client, run_id: run_id != 27)
        assert len(write(3)) == 5, "the run was deleted; its copy stays"
        patched.setattr(writing, "_exists", lambda _client, _run: True)
        with pytest.raises(Refused):
            write(3)
