"""An attempt supervised in this process, with a fake trainer (`tests/support/fakes/trainer.py`).

A conftest that imports `here`, `claim` and `meanwhile` has them as fixtures.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.domain.methods import FullSpec
from app.domain.runs.spec import RunSpec
from app.services.runs import attempts, runs
from app.services.runs.attempts import Claim
from app.services.workers import workers as worker_service
from app.settings import ROOT, Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.runs import events
from app.store.runs import queries as run_queries
from app.store.tables import RunRow
from app.store.workers import queries as workers
from tests.support.fakes.fakes import SilentBell
from worker.nodes.context import Context
from worker.training.supervisor import supervise
from worker.training.warm_pool import WarmPool

FAKE = ROOT / "tests/support/fakes/trainer.py"


@pytest.fixture
def here(
    registered: Database, settings: Settings, files: Files, bell: SilentBell, monkeypatch: pytest.MonkeyPatch
) -> Context:
    """A worker `w1` in this process."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return Context(settings.model_copy(update={"worker_name": "w1"}), registered, files, bell)


@pytest.fixture
def claim(here: Context) -> Claim:
    """A run that it has claimed."""
    return claimed(here, submitted(here))


@pytest.fixture
def meanwhile(here: Context) -> Iterator[Callable[..., None]]:
    """Do something to the database once the attempt has reported its first steps, or when something is true."""
    threads: list[threading.Thread] = []

    def later(run_id: int, act: Callable[[Session], object], until: Callable[[], bool] | None = None) -> None:
        due = until or (lambda: bool(row(here, run_id).phase))

        def wait_and_act() -> None:
            deadline = time.monotonic() + (300 if until else 20)
            while time.monotonic() < deadline and not due():
                time.sleep(0.05)
            with here.database.transaction() as session:
                act(session)

        threads.append(threading.Thread(target=wait_and_act))
        threads[-1].start()

    yield later
    for thread in threads:
        thread.join()


def submitted(here: Context) -> int:
    """A queued run, for a worker that has signed on."""
    with here.database.transaction() as session:
        run = runs.submit(session, here.bell, RunSpec(base_model="tiny", dataset="small", method=FullSpec()))
        worker_service.sign_on(session, "w1", device="cpu", device_name="CPU", memory_bytes=None, cores=1)
    return run.id


def claimed(here: Context, run_id: int) -> Claim:
    """The run in its next attempt."""
    with here.database.transaction() as session:
        found = attempts.claim(session, run_id, "w1", here.settings.lease_seconds)
    assert found is not None
    return found


def behaving(here: Context, behaviour: str) -> Context:
    """The worker with trainers that behave like that."""
    return replace(here, trainers=WarmPool((sys.executable, str(FAKE), behaviour)))


def attempt(here: Context, claim: Claim, behaviour: str) -> RunRow:
    """The run after an attempt with such a trainer."""
    supervise(behaving(here, behaviour), claim)
    return row(here, claim.run_id)


def drained(here: Context, run_id: int) -> RunRow:
    """The run after an attempt whose worker is told to stop when two checkpoints are stored, and has signed on
    again."""

    def drain_then() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and [c.step for c in row(here, run_id).checkpoints] != [6, 9]:
            time.sleep(0.05)
        with here.database.transaction() as session:
            workers.drain(session, "w1")

    draining = threading.Thread(target=drain_then)
    draining.start()
    attempt(here, claimed(here, run_id), "leaves-a-checkpoint")
    draining.join()
    with here.database.transaction() as session:
        worker_service.sign_on(session, "w1", device="cpu", device_name="CPU", memory_bytes=None, cores=1)
    return row(here, run_id)


def row(here: Context, run_id: int) -> RunRow:
    """The run."""
    with here.database.reading() as session:
        return run_queries.get(session, run_id)


def messages(here: Context, run_id: int) -> list[str]:
    """Its log."""
    with here.database.reading() as session:
        return [event.message for event in events.after(session, run_id)]


def stored(here: Context) -> list[str]:
    """The files of checkpoints in the store."""
    return [name for name in here.files.fs.find(here.files.root) if "checkpoints" in name]


def left_folders(here: Context) -> list[Path]:
    """Folders of attempts."""
    return list((here.settings.home / "work").iterdir())
