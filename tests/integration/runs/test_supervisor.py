"""An attempt supervised, with a fake trainer: every end that it can come to. On SQLite and on PostgreSQL."""

import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from app.broker.queue import TRAIN
from app.domain.runs.job import WorkingReport
from app.services.runs import attempts, runs
from app.services.runs.attempts import Claim
from app.services.workers import sweep, workers
from app.store.files.files import Files
from app.store.runs import artifacts, steps
from app.store.runs import queries as run_queries
from app.store.workers import queries as worker_queries
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.attempted import SPEC
from tests.support.servers.supervised import FAKE, attempt, claimed, messages
from worker import tasks
from worker.nodes.context import Context
from worker.training import attempt as supervised_attempt
from worker.training import outcome, workdir
from worker.training.supervisor import supervise
from worker.training.warm_pool import WarmPool


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
    assert any("unreadable report" in line for line in messages(here, run.id))


def test_a_report_that_work_goes_on_is_not_written() -> None:
    supervised = object.__new__(supervised_attempt.SupervisedAttempt)  # it has no lease, which would write the report
    supervised.take([WorkingReport()])


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_deaf_trainer_is_ended_by_force(here: Context, claim: Claim, meanwhile: Callable[..., None]) -> None:
    here = Context(here.settings.model_copy(update={"stop_seconds": 0.5}), here.database, here.files, here.bell)
    meanwhile(claim.run_id, lambda session: runs.cancel(session, here.bell, claim.run_id))
    assert attempt(here, claim, "deaf").status == "cancelled"


def test_a_dataset_that_is_gone_fails_the_run_and_names_the_setting(here: Context, claim: Claim) -> None:
    here.files.remove("datasets")
    run = attempt(here, claim, "succeeds")
    assert (run.status, run.failure_code) == ("failed", "dataset_unavailable")
    assert "VEZNA_FILES_URL" in (run.failure_message or "")


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), OSError(errno.EBUSY, "slow down"), KeyError("odd")])
def test_a_run_that_begins_in_an_outage_of_the_store_waits_for_its_end(
    here: Context, claim: Claim, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    get, errors = here.files.fs.get_file, [error, error, error]

    def away(source: str, target: str) -> None:
        if errors:
            raise errors.pop()
        get(source, target)

    monkeypatch.setattr(supervised_attempt, "FETCH_AGAIN_SECONDS", (0.01,))
    monkeypatch.setattr(here.files.fs, "get_file", away)
    run = attempt(here, claim, "succeeds")
    assert (run.status, run.attempts, run.failure_code) == ("queued", 0, None)
    assert messages(here, run.id)[-1].startswith("queued again: The files store does not answer")
    run = attempt(here, claimed(here, run.id), "succeeds")
    assert (run.status, run.attempts, errors) == ("succeeded", 1, [])


@pytest.mark.parametrize(("order", "status"), [("cancel", "cancelled"), ("drain", "queued")])
def test_an_order_ends_the_wait_for_the_store(
    here: Context, claim: Claim, order: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(source: str, target: str) -> None:
        with here.database.transaction() as session:
            if order == "cancel":
                runs.cancel(session, here.bell, claim.run_id)
            else:
                worker_queries.drain(session, here.worker)
        raise ConnectionResetError("reset")

    monkeypatch.setattr(supervised_attempt, "FETCH_AGAIN_SECONDS", (3600.0,))
    monkeypatch.setattr(here.files.fs, "get_file", away)
    run = attempt(here, claim, "succeeds")
    assert (run.status, run.attempts) == (status, 1 if order == "cancel" else 0)


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


@pytest.mark.nightly
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


@pytest.mark.slow
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


def test_an_abandoned_folder_that_disappears_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work" / "run-left").mkdir(parents=True)
    present = list((tmp_path / "work").iterdir())
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [self / "run-gone", *present])
    workdir.remove_abandoned(tmp_path)
    assert not any(folder.exists() for folder in present)


def test_a_draining_worker_passes_a_ring_on_and_the_sweep_repeats_it(
    here: Context, bell: SilentBell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "process_context", lambda: here)
    with here.database.transaction() as session:
        workers.sign_on(session, here.worker, device="cpu", device_name="", memory_bytes=None, cores=1)
        worker_queries.drain(session, here.worker)
        run = runs.submit(session, bell, SPEC)
    bell.rung.clear()
    tasks.train(run.id)
    assert bell.rung == [(TRAIN, run.id)]
    with here.database.reading() as session:
        waiting = run_queries.get(session, run.id)
        assert (waiting.status, waiting.rung_at) == ("queued", None)
