"""An attempt supervised, with a fake trainer: every end that it can come to. On SQLite and on PostgreSQL."""

import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.domain.methods import FullSpec
from app.domain.runs.spec import RunSpec
from app.services import attempts, runs, sweep
from app.services import workers as worker_service
from app.services.attempts import Claim
from app.settings import Settings
from app.store.files import Files
from app.store.queries import artifacts, events, steps, workers
from app.store.queries import runs as run_queries
from app.store.session import Database
from app.store.tables import RunRow
from tests.fakes import SilentBell
from worker.context import Context
from worker.training import outcome, workdir
from worker.training.supervisor import supervise
from worker.training.warm_pool import WarmPool

FAKE = Path(__file__).with_name("fake_trainer.py")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def here(
    registered: Database, settings: Settings, files: Files, bell: SilentBell, monkeypatch: pytest.MonkeyPatch
) -> Context:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return Context(settings.model_copy(update={"worker_name": "w1"}), registered, files, bell)


@pytest.fixture
def claim(here: Context) -> Claim:
    with here.database.transaction() as session:
        run = runs.submit(session, here.bell, RunSpec(base_model="tiny", dataset="small", method=FullSpec()))
        worker_service.sign_on(session, "w1", device="cpu", device_name="CPU", memory_bytes=None, cores=1)
        found = attempts.claim(session, run.id, "w1", here.settings.lease_seconds)
    assert found is not None
    return found


def attempt(here: Context, claim: Claim, behaviour: str) -> RunRow:
    supervise(replace(here, trainers=WarmPool((sys.executable, str(FAKE), behaviour))), claim)
    with here.database.reading() as session:
        return run_queries.get(session, claim.run_id)


def log_of(here: Context, run_id: int) -> list[str]:
    with here.database.reading() as session:
        return [event.message for event in events.after(session, run_id)]


@pytest.fixture
def meanwhile(here: Context) -> Iterator[Callable[..., None]]:
    """Do something to the database once the attempt has reported its first steps."""
    threads: list[threading.Thread] = []

    def later(run_id: int, act: Callable[[Session], object]) -> None:
        def wait_and_act() -> None:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                with here.database.reading() as session:
                    if run_queries.get(session, run_id).phase:
                        break
                time.sleep(0.05)
            with here.database.transaction() as session:
                act(session)

        threads.append(threading.Thread(target=wait_and_act))
        threads[-1].start()

    yield later
    for thread in threads:
        thread.join()


def test_a_success_is_stored_with_its_files(here: Context, claim: Claim) -> None:
    run = attempt(here, claim, "succeeds")
    assert (run.status, run.score, run.step, run.phase) == ("succeeded", 0.75, 10, None)
    with here.database.reading() as session:
        assert steps.read(session, run.id)["step"].tolist() == list(range(1, 11))
        [file] = artifacts.of_run(session, run.id)
    assert file.file == f"runs/{run.id}/1/adapter/adapter_model.safetensors"
    assert b"".join(here.files.chunks(file.file)) == b"weights"
    assert list((here.settings.home / "work").iterdir()) == []


def test_a_failure_keeps_its_code_and_its_sentence(here: Context, claim: Claim) -> None:
    run = attempt(here, claim, "fails")
    assert (run.status, run.failure_code, run.failure_message) == ("failed", "diverged", "loss is not finite at step 3")


def test_a_trainer_that_crashes_fails_the_run_as_our_mistake(here: Context, claim: Claim) -> None:
    run = attempt(here, claim, "crashes")
    assert (run.status, run.failure_code) == ("failed", "internal")
    assert "status 3" in (run.failure_message or "")


def test_what_a_library_prints_harms_nothing(here: Context, claim: Claim) -> None:
    run = attempt(here, claim, "babbles")
    assert run.status == "succeeded"
    assert any("unreadable report" in line for line in log_of(here, run.id))


@pytest.mark.parametrize("behaviour", ["killed", "abandons", "stops-unasked"])
def test_a_trainer_that_is_ended_from_outside_is_tried_again_and_counted(
    here: Context, claim: Claim, behaviour: str
) -> None:
    run = attempt(here, claim, behaviour)
    assert (run.status, run.attempts, run.failure_code) == ("queued", 1, None)


def test_a_cancelled_run_stops_after_its_present_step(
    here: Context, claim: Claim, meanwhile: Callable[..., None]
) -> None:
    meanwhile(claim.run_id, lambda session: runs.cancel(session, here.bell, claim.run_id))
    run = attempt(here, claim, "steps-forever")
    assert run.status == "cancelled"
    assert run.step > 0


def test_a_run_in_a_trainer_that_waited_for_it_is_cancelled_like_any_other(
    here: Context, claim: Claim, meanwhile: Callable[..., None]
) -> None:
    trainers = WarmPool((sys.executable, str(FAKE), "steps-forever"), keep_spare=True)
    trainers.warm_up()
    waiting = trainers.spare
    meanwhile(claim.run_id, lambda session: runs.cancel(session, here.bell, claim.run_id))
    supervise(replace(here, trainers=trainers), claim)
    with here.database.reading() as session:
        assert run_queries.get(session, claim.run_id).status == "cancelled"
    assert waiting is not None and not waiting.alive
    assert trainers.spare is not None and trainers.spare.alive
    trainers.end()


def test_a_deaf_trainer_is_ended_by_force(here: Context, claim: Claim, meanwhile: Callable[..., None]) -> None:
    here = Context(here.settings.model_copy(update={"stop_seconds": 0.5}), here.database, here.files, here.bell)
    meanwhile(claim.run_id, lambda session: runs.cancel(session, here.bell, claim.run_id))
    assert attempt(here, claim, "deaf").status == "cancelled"


def test_a_drained_worker_hands_its_run_back(here: Context, claim: Claim, meanwhile: Callable[..., None]) -> None:
    meanwhile(claim.run_id, lambda session: workers.drain(session, "w1"))
    run = attempt(here, claim, "steps-forever")
    assert (run.status, run.attempts) == ("queued", 0)


def test_a_trainer_without_progress_is_ended_as_stalled(here: Context, claim: Claim) -> None:
    here = Context(here.settings.model_copy(update={"stall_seconds": 1.0}), here.database, here.files, here.bell)
    run = attempt(here, claim, "hangs")
    assert (run.status, run.failure_code) == ("failed", "stalled")


def test_a_zombie_ends_itself_and_writes_nothing(here: Context, claim: Claim, meanwhile: Callable[..., None]) -> None:
    passed_on = update(RunRow).where(RunRow.id == claim.run_id).values(epoch=2, worker="w2")
    meanwhile(claim.run_id, lambda session: session.execute(passed_on))
    run = attempt(here, claim, "steps-forever")
    assert (run.status, run.epoch, run.worker) == ("running", 2, "w2")


def test_a_dataset_that_is_gone_fails_the_run_and_names_the_setting(here: Context, claim: Claim) -> None:
    here.files.remove("datasets")
    run = attempt(here, claim, "succeeds")
    assert (run.status, run.failure_code) == ("failed", "dataset_unavailable")
    assert "VEZNA_FILES_URL" in (run.failure_message or "")


def test_progress_is_kept_while_the_database_is_away_and_written_once(
    here: Context, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"failed": 0}
    real = attempts.report

    def sometimes(*arguments: object) -> object:
        if calls["failed"] < 3:
            calls["failed"] += 1
            raise OperationalError("UPDATE", {}, Exception("the database is away"))
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(attempts, "report", sometimes)
    run = attempt(here, claim, "succeeds")
    assert (run.status, calls["failed"]) == ("succeeded", 3)
    with here.database.reading() as session:
        assert steps.read(session, run.id)["step"].tolist() == list(range(1, 11))


def test_a_database_that_is_away_longer_than_the_lease_ends_the_trainer(
    here: Context, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> object:
        raise OperationalError("UPDATE", {}, Exception("the database is away"))

    monkeypatch.setattr(attempts, "report", never)
    began = time.monotonic()
    run = attempt(here, claim, "steps-forever")
    assert time.monotonic() - began < here.settings.lease_seconds + 10
    assert run.status == "running"  # the sweeper takes it from here


def test_a_trainer_is_told_no_secret(here: Context, claim: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEZNA_DATABASE_URL", "postgresql://secret")
    seen = here.settings.home / "environment"
    script = f"import os; open({str(seen)!r}, 'w').write(repr(dict(os.environ)))"
    supervise(replace(here, trainers=WarmPool((sys.executable, "-c", script))), claim)
    assert "postgresql://secret" not in seen.read_text()
    assert "MALLOC_MMAP_THRESHOLD_" in seen.read_text()
    assert "VEZNA_DATABASE_URL" in os.environ


class SlowFiles(Files):
    """A store that takes longer than the lease, and is busy at first."""

    def __init__(self, url: str, seconds: float, refusals: int = 0) -> None:
        super().__init__(url)
        self.seconds, self.refusals = seconds, refusals

    def put(self, source: Path, name: str) -> None:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.EBUSY, "slow down")
        time.sleep(self.seconds)
        super().put(source, name)


def test_an_upload_that_takes_longer_than_the_lease_loses_nothing(here: Context, claim: Claim) -> None:
    slow = SlowFiles(here.settings.files, here.settings.lease_seconds * 1.5, refusals=1)
    here = Context(here.settings, here.database, slow, here.bell)
    stop = threading.Event()

    def sweep_often() -> None:
        while not stop.wait(0.2):
            with here.database.transaction() as session:
                sweep.sweep(session, here.bell, here.settings)

    sweeper = threading.Thread(target=sweep_often)
    sweeper.start()
    run = attempt(here, claim, "succeeds")
    stop.set()
    sweeper.join()
    assert (run.status, run.epoch) == ("succeeded", 1)


def test_a_disk_that_is_full_is_said_so(here: Context, claim: Claim) -> None:
    class Full(Files):
        def put(self, source: Path, name: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    run = attempt(Context(here.settings, here.database, Full(here.settings.files), here.bell), claim, "succeeds")
    assert (run.status, run.failure_code) == ("failed", "disk_full")


def test_whatever_goes_wrong_in_the_supervisor_ends_the_run(
    here: Context, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "STORE_AGAIN_SECONDS", (0.01, 0.01))

    class Strange(Files):
        def put(self, source: Path, name: str) -> None:
            raise RuntimeError("nobody foresaw this")

    run = attempt(Context(here.settings, here.database, Strange(here.settings.files), here.bell), claim, "succeeds")
    assert (run.status, run.failure_code) == ("failed", "internal")
    assert "nobody foresaw this" in (run.failure_message or "")


def test_only_the_attempt_that_succeeded_keeps_its_files(here: Context, claim: Claim) -> None:
    stray = here.settings.home / "stray"
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"left by a lost attempt")
    here.files.put(stray, f"runs/{claim.run_id}/1/model/model.safetensors")
    with here.database.transaction() as session:
        attempts.hand_back(session, here.bell, claim, "a test")
        again = attempts.claim(session, claim.run_id, "w1", here.settings.lease_seconds)
    assert again is not None and again.epoch == 2
    attempt(here, again, "succeeds")
    kept = sorted(p.name for p in (here.settings.home / "files" / "runs" / str(claim.run_id)).iterdir())
    assert kept == ["2"]


def test_a_folder_that_a_killed_worker_left_is_removed_and_one_in_use_is_not(tmp_path: Path) -> None:
    (tmp_path / "work" / "run-left").mkdir(parents=True)
    with workdir.workdir(tmp_path) as used:
        workdir.remove_abandoned(tmp_path)
        assert list((tmp_path / "work").iterdir()) == [used]
