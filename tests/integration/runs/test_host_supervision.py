"""The supervisors of a run's two hosts, each in a thread, with trainers that train nothing."""

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from app.domain.failures import Failure, FailureCode
from app.domain.methods import FullSpec
from app.domain.resources.devices import Gpu
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments
from app.queue import JOIN
from app.services.runs import attempts, runs
from app.services.runs.attempts import Claim, hosts
from app.services.workers import workers
from app.settings import ROOT, Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.runs import events
from app.store.runs import hosts as run_hosts
from app.store.runs import queries as run_queries
from app.store.tables import DeviceRow, RunHostRow, RunRow
from app.store.workers import queries as worker_queries
from tests.support.fakes.fakes import SilentBell
from worker.context import Context
from worker.training import other_hosts
from worker.training.part import supervise_part
from worker.training.supervisor import supervise
from worker.training.warm_pool import WarmPool

FAKE = ROOT / "tests/support/fakes/host_trainer.py"
SPEC = RunSpec(
    base_model="tiny",
    dataset="small",
    method=FullSpec(),
    training=TrainingArguments(devices=2, gradient_accumulation_steps=2),
)
FIRST, SECOND = "GPU-first", "GPU-second"
SECONDS = 60.0


class Pair:
    """Two workers with a GPU each, and the run that they train."""

    def __init__(self, settings: Settings, database: Database, files: Files, bell: SilentBell) -> None:
        self.database, self.bell = database, bell
        self._contexts = {
            name: Context(
                settings.model_copy(update={"worker_name": name, "home": settings.home / name}), database, files, bell
            )
            for name in ("first", "second")
        }
        for name, uuid in (("first", FIRST), ("second", SECOND)):
            gpu = Gpu(uuid=uuid, name="NVIDIA L4", memory_bytes=24 * 2**30)
            facts = {"device": "cuda", "device_name": "NVIDIA L4", "memory_bytes": None, "cores": 1}
            with database.transaction() as session:
                workers.sign_on(session, name, gpus=[gpu], address="10.0.0.1", **facts)
        with database.transaction() as session:
            self.run_id = runs.submit(session, bell, SPEC).id
        self.parts: list[threading.Thread] = []

    def context(self, name: str, behaviour: str) -> Context:
        trainers = WarmPool((sys.executable, str(FAKE), behaviour))
        trainers.use({uuid: uuid for uuid in (FIRST, SECOND)}, 0)
        return replace(self._contexts[name], trainers=trainers)

    def train(self, first: str, second: str | None, meanwhile: Callable[[], object] | None = None) -> RunRow:
        """The run after an attempt, for which the second worker joins with a trainer that behaves like that, if any;
        `meanwhile` happens once both train, or before the attempt if none joins."""
        context = self.context("first", first)
        with self.database.transaction() as session:
            claim = attempts.claim(session, self.run_id, "first", context.settings.lease_seconds, [FIRST])
        assert claim is not None
        if second is None and meanwhile is not None:
            meanwhile()
            meanwhile = None
        if second is not None:
            self.parts.append(threading.Thread(target=self._take_part, args=(second,)))
        if meanwhile is not None:
            self.parts.append(threading.Thread(target=self._later, args=(meanwhile,)))
        for part in self.parts:
            part.start()
        supervise(context, claim)
        for part in self.parts:
            part.join(SECONDS)
            assert not part.is_alive()
        return self.row()

    def _take_part(self, behaviour: str) -> None:
        joined = self.join()
        assert joined is not None
        supervise_part(self.context("second", behaviour), joined)

    def join(self) -> Claim | None:
        lease_seconds = self._contexts["second"].settings.lease_seconds
        with self.database.transaction() as session:
            return hosts.join(session, self.run_id, "second", lease_seconds)

    def _later(self, act: Callable[[], object]) -> None:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until and not (self.row().step and self.part().ready):
            time.sleep(0.05)
        act()

    def row(self) -> RunRow:
        with self.database.reading() as session:
            return run_queries.get(session, self.run_id)

    def part(self) -> RunHostRow:
        with self.database.reading() as session:
            return session.query(RunHostRow).filter(RunHostRow.worker == "second").one()

    def said(self) -> str:
        with self.database.reading() as session:
            return [event.message for event in events.after(session, self.run_id)][-1]

    def free(self) -> bool:
        with self.database.reading() as session:
            return {row.run_id for row in session.query(DeviceRow)} == {None}


@pytest.fixture
def pair(
    registered: Database, settings: Settings, files: Files, bell: SilentBell, monkeypatch: pytest.MonkeyPatch
) -> Pair:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    quick = {"report_seconds": 0.1, "heartbeat_seconds": 1.0, "lease_seconds": 5.0, "join_seconds": 30.0}
    return Pair(settings.model_copy(update=quick), registered, files, bell)


@pytest.fixture(params=["sqlite"])
def database(database: Database) -> Database:
    """The queries are tried on both databases in test_several_hosts.py."""
    return database


def test_a_result_of_the_first_host_is_that_of_the_run_and_ends_the_other(pair: Pair) -> None:
    run = pair.train("succeeds", "trains")
    assert run.status == "succeeded" and pair.free()
    assert run.result is not None and run.result.environment.gpus == [FIRST, SECOND]
    assert pair.part().ended == "stopped", "it was killed, as the attempt had ended"


def test_a_second_host_that_never_comes_is_released_after_the_deadline(pair: Pair) -> None:
    pair._contexts["first"] = replace(
        pair._contexts["first"], settings=pair._contexts["first"].settings.model_copy(update={"join_seconds": 0.5})
    )
    run = pair.train("meets nobody", None)
    assert (run.status, run.attempts) == ("queued", 1) and pair.free()
    assert pair.said().startswith("queued again: second did not join within 0 s. Not all hosts of the run met in time.")
    assert (JOIN, "second", pair.run_id) in pair.bell.rung
    assert pair.part().ended == "released" and pair.join() is None


@pytest.mark.slow
def test_hosts_that_join_but_do_not_meet_are_released_too(pair: Pair) -> None:
    pair._contexts["first"] = replace(
        pair._contexts["first"], settings=pair._contexts["first"].settings.model_copy(update={"join_seconds": 2.0})
    )
    run = pair.train("meets nobody", "trains")
    assert run.status == "queued" and pair.free()
    assert pair.said().startswith("queued again: The processes on first, second did not meet within 2 s.")


@pytest.mark.slow
@pytest.mark.parametrize("first", ["trains", "breaks"])
def test_a_death_on_the_second_host_queues_the_run_again(pair: Pair, first: str) -> None:
    """Whether rank 0 notices it first, by its connection, or the database tells."""
    run = pair.train(first, "dies")
    assert (run.status, run.attempts, run.failure_code) == ("queued", 1, None) and pair.free()
    assert pair.said().startswith("queued again: A process of the run on second was lost.")
    assert pair.part().ended == "killed"


@pytest.mark.slow
def test_a_failure_of_the_second_host_is_that_of_the_run(pair: Pair) -> None:
    run = pair.train("breaks", "fails")
    assert (run.status, run.failure_code) == ("failed", "out_of_memory") and pair.free()
    assert run.failure_message == "second: The device ran out of memory."


@pytest.mark.slow
def test_a_failure_of_the_first_host_ends_the_second(pair: Pair) -> None:
    run = pair.train("fails", "breaks")
    assert (run.status, run.failure_message) == ("failed", "The device ran out of memory.") and pair.free()


@pytest.mark.slow
def test_a_cancel_reaches_both(pair: Pair) -> None:
    def cancel() -> None:
        with pair.database.transaction() as session:
            runs.cancel(session, pair.bell, pair.run_id)

    run = pair.train("trains", "trains", cancel)
    assert run.status == "cancelled" and pair.free()


@pytest.mark.slow
def test_a_worker_of_the_second_host_that_is_told_to_stop_hands_the_run_back(pair: Pair) -> None:
    def drain() -> None:
        with pair.database.transaction() as session:
            worker_queries.drain(session, "second")

    run = pair.train("trains", "trains", drain)
    assert (run.status, run.attempts) == ("queued", 0) and pair.free()
    assert pair.said() == "queued again: second is shutting down"


def test_a_worker_that_is_told_to_stop_before_it_joins_does_not_keep_the_first_waiting(pair: Pair) -> None:
    def drain() -> None:
        with pair.database.transaction() as session:
            worker_queries.drain(session, "second")

    began = time.monotonic()
    run = pair.train("meets nobody", None, drain)
    assert time.monotonic() - began < pair.context("first", "").settings.join_seconds
    assert (run.status, run.attempts) == ("queued", 0) and pair.free()
    assert pair.said() == "queued again: second is shutting down"


def test_a_stop_that_breaks_the_connection_of_the_other_host_is_a_stop(pair: Pair) -> None:
    """While models load, ranks do not agree on a stop: rank 0 is gone before the others know."""
    broken = Failure(code=FailureCode.INTERNAL, message="RuntimeError: [gloo] Connection closed by peer")

    def stop() -> None:
        with pair.database.transaction() as session:
            worker_queries.drain(session, "first")
            failure = {"failure_json": broken.model_dump(mode="json")}
            assert run_hosts.end(session, pair.run_id, 1, "second", "failed", **failure)

    run = pair.train("trains", "trains", stop)
    assert (run.status, run.attempts) == ("queued", 0) and pair.free()
    assert pair.said() == "queued again: first is shutting down"


@pytest.mark.slow
def test_a_broken_connection_that_nothing_explains_is_named(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_hosts, "GRACE_SECONDS", 1.0)
    run = pair.train("breaks", "trains")
    assert (run.status, run.attempts) == ("queued", 1) and pair.free()
    assert "was lost (RuntimeError: [gloo] Connection closed by peer [10.0.0.2]:1). The trainer was" in pair.said()


@pytest.mark.slow
def test_a_lost_gpu_of_the_second_host_is_named(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.machine.nvidia.is_lost", lambda uuid: uuid == SECOND)
    run = pair.train("breaks", "dies")
    assert (run.status, run.attempts) == ("queued", 1) and pair.free()
    assert pair.said().startswith("queued again: second: The driver lost the GPU on which the run trained.")
    assert pair.part().ended == "killed"


def test_a_lease_that_the_sweep_takes_ends_the_group(pair: Pair) -> None:
    """The second host's is of the past, as of a frozen worker; then it finds that its part was taken from it."""

    def expire() -> None:
        with pair.database.transaction() as session:
            at = pair.part().lease_expires_at.replace(year=2999)
            assert hosts.expire(session, pair.bell, run_hosts.expired(session, at), at) == 1

    run = pair.train("trains", "trains", expire)
    assert (run.status, run.attempts) == ("queued", 1) and pair.free()
    assert pair.said().startswith("queued again: A process of the run on second was lost.")
    assert pair.part().ended == "lost"


def test_a_part_whose_run_is_taken_from_the_first_host_is_killed(pair: Pair) -> None:
    """As after a lease that the first host has lost."""

    def lose() -> None:
        with pair.database.transaction() as session:
            pair_run = run_queries.get(session, pair.run_id)
            attempt = attempts.Attempt(pair.run_id, pair_run.epoch, "first")
            attempts.back_to_queue(session, pair.bell, attempt, "the worker was lost", counted=True)

    run = pair.train("trains", "trains", lose)
    assert (run.status, run.epoch) == ("queued", 1) and pair.free()
    assert pair.part().ended == "stopped"


def test_a_second_host_without_the_files_fails_the_run_with_its_name(pair: Pair, tmp_path: Path) -> None:
    elsewhere = Files(str(tmp_path / "another store"))
    pair._contexts["second"] = replace(pair._contexts["second"], files=elsewhere)
    run = pair.train("trains", "trains")
    assert (run.status, run.failure_code) == ("failed", "dataset_unavailable") and pair.free()
    assert (run.failure_message or "").startswith("second: The worker could not read the dataset's file.")
