"""The process that exports studies is kept while they go on, and ended when it is of no more use."""

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import update

from app.features.elsewhere.tables import TrackerExportRow
from app.main import create_app
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.tables import RunRow, now
from tests.support.fakes.fakes import SilentBell
from tests.support.filled.filled import fill
from tests.support.servers.served import served
from tests.support.training_again import Training
from vezna.trackers.targets import recorded_at
from worker.children.host import ChildError
from worker.features.elsewhere.host import ExportProcess, export_due
from worker.nodes.context import Context

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("database", ["sqlite"], indirect=True)]
STUDY, RUN = 3, 26


@pytest.fixture
def live(database: Database, settings: Settings, files: Files, tmp_path: Path) -> Iterator[Context]:
    """A control node that exports a study with a running run every minute."""
    with database.transaction() as session:
        fill(session)
        running = RunRow.status.in_(["running", "queued"]) & (RunRow.id != RUN)
        session.execute(update(RunRow).where(running).values(status="cancelled"))
    with served(create_app(settings)) as server:
        more = {"url": server, "tracker": f"tensorboard:{tmp_path}/exported", "tracker_live_seconds": 60.0}
        context = Context(settings.model_copy(update=more), database, files, SilentBell())
        yield context
        context.one(ExportProcess).end()


def due(database: Database) -> None:
    with database.transaction() as session:
        session.execute(update(TrackerExportRow).values(next_at=now()))


@pytest.mark.nightly
def test_one_process_makes_all_exports_until_none_follows_soon(
    live: Context, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(database, RUN)

    def exported(last: int) -> int | None:
        training.report(last)
        due(database)
        assert export_due(live) == 1
        [folder] = (tmp_path / "exported").iterdir()
        [run] = recorded_at(f"tensorboard:{folder}", [f"*(run {RUN})"])
        assert [point.step for point in run.series["train/loss"]] == list(range(1, last + 1))
        return live.one(ExportProcess).pid

    first = exported(10)
    assert first is not None and exported(20) == first
    assert export_due(live) == 0 and live.one(ExportProcess).pid == first, "the next export follows soon"
    os.kill(first, signal.SIGKILL)
    while live.one(ExportProcess).pid is not None:
        time.sleep(0.01)
    second = exported(30)
    assert second not in (None, first)
    with monkeypatch.context() as later:
        later.setattr(live.one(ExportProcess), "_used", -1e12)
        assert export_due(live) == 0
    assert live.one(ExportProcess).pid is None and not Path(f"/proc/{second}").exists()
    training.end()
    due(database)
    longer = live.settings.model_copy(update={"tracker_live_seconds": 3600.0})
    rare = Context(longer, database, live.files, live.bell)
    assert export_due(rare) == 1 and rare.one(ExportProcess).pid is None, "it is not kept for an hour"


def test_a_process_that_may_still_write_is_ended(live: Context, tmp_path: Path) -> None:
    def lost() -> None:
        raise ChildError("The study is private now.")

    process = ExportProcess()
    request = {"study": STUDY, "external": False, "live": True, "to": live.settings.tracker, "token": ""}
    ask = partial(process.ask, request | {"server": live.settings.url}, tmp_path, 60.0, every=0.01)
    with pytest.raises(ChildError, match="is private now"):
        ask(meanwhile=lost)
    assert process.pid is None
