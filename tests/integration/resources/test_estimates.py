"""Estimates in the database: asked for once, worked out by one, copied to their runs. On SQLite and on PostgreSQL."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.broker.queue import ESTIMATE
from app.domain.errors import VeznaError
from app.domain.failures import Failure, FailureCode, RunFailed
from app.domain.messages import Message
from app.domain.methods import FullSpec, LoraSpec
from app.domain.resources.estimate import EstimateRequest, MapRequest
from app.domain.runs.spec import RunSpec
from app.domain.runs.status import RunStatus
from app.domain.runs.training import TrainingArguments
from app.services.resources import estimates
from app.services.runs import attempts, runs
from app.services.workers import sweep, workers
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.resources import estimates as queries
from app.store.runs import queries as run_queries
from app.store.tables import EstimateRow, RunRow, WorkerRow, now
from app.store.workers import queries as worker_queries
from app.store.workers import queue as queue_queries
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.estimates import estimate, ledger, memory_map, request
from tests.support.rows.results import result
from worker import tasks
from worker.estimation.host import Estimator, NoAnswer
from worker.nodes.context import Context

SPEC = RunSpec(base_model="tiny", dataset="small", method=LoraSpec(r=2, target_modules=["query"]))
MAP = MapRequest(
    location="/nowhere",
    task="sequence-classification",
    methods=(FullSpec(),),
    lengths=(8,),
    batch_sizes=(1, 2),
    device="cpu",
    bf16=False,
)


def within(db: Database, act: Callable[[Session], Any]) -> Any:
    with db.transaction() as session:
        return act(session)


def asked(db: Database, bell: SilentBell, *requests: EstimateRequest | MapRequest) -> list[int]:
    found = within(db, lambda s: estimates.all_wanted(s, bell, requests))
    return [found[one.key].id for one in requests]


def begun(db: Database, estimate_id: int) -> EstimateRow | None:
    row: EstimateRow | None = within(db, lambda s: estimates.begin(s, estimate_id))
    return row


def row(db: Database, estimate_id: int) -> EstimateRow:
    with db.reading() as session:
        return queries.get(session, estimate_id)


def run_row(db: Database, run_id: int) -> RunRow:
    with db.reading() as session:
        return run_queries.get(session, run_id)


def rings(bell: SilentBell) -> list[int]:
    return [ring[1] for ring in bell.rung if ring[0] == ESTIMATE]


def sign_on(db: Database, name: str = "w1", **facts: Any) -> None:
    usual = {"device": "cpu", "device_name": "CPU", "memory_bytes": 1 << 33, "cores": 2}
    within(db, lambda s: workers.sign_on(s, name, **{**usual, **facts}))
    # It stays alive for the whole test, however busy the machine.
    within(db, lambda s: worker_queries.beat(s, name, now() + timedelta(hours=1)))


def test_the_same_request_is_inserted_and_rung_for_once(database: Database, bell: SilentBell) -> None:
    [first] = asked(database, bell, request())
    [again, other] = asked(database, bell, request(), request(bf16=True))
    assert (again, rings(bell)) == (first, [first, other])
    assert row(database, first).request == request()
    assert row(database, first).status == "queued"


def test_a_seed_a_rate_and_a_schedule_make_no_other_request(database: Database, bell: SilentBell) -> None:
    same = TrainingArguments(seed=7, learning_rate=1e-3, warmup_steps=5, weight_decay=0.1, eval_steps=3)
    assert len(set(asked(database, bell, request(), request(training=same)))) == 1
    for change in ({"max_length": 64}, {"per_device_train_batch_size": 8}, {"gradient_checkpointing": True}):
        assert request(training=TrainingArguments(**change)).key != request().key  # type: ignore[arg-type]


def test_of_many_that_ask_at_once_all_get_the_same_one(database: Database, bell: SilentBell) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: asked(database, bell, request())[0], range(8)))
    assert len(set(found)) == 1
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(EstimateRow)) == 1


def test_one_estimate_is_in_progress_at_a_time_and_its_end_rings_for_the_next(
    database: Database, bell: SilentBell
) -> None:
    first, second, third = asked(database, bell, request(), request(bf16=True), MAP)
    mine = begun(database, first)
    assert mine is not None and row(database, first).status == "working"
    assert begun(database, first) is None
    assert begun(database, second) is None
    bell.rung.clear()
    assert within(database, lambda s: estimates.ready(s, bell, mine, estimate()))
    assert rings(bell) == [second]  # a map takes longer than anything that may be waited for
    assert row(database, first).estimate == estimate()
    assert begun(database, first) is None
    mine = begun(database, second)
    assert mine is not None
    assert within(database, lambda s: estimates.failed(s, bell, mine, "It is too large."))
    assert (row(database, second).status, row(database, second).message) == ("failed", "It is too large.")
    assert rings(bell) == [second, third]
    mine = begun(database, third)
    assert mine is not None
    assert within(database, lambda s: estimates.ready(s, bell, mine, memory_map(MAP)))
    assert row(database, third).map == memory_map(MAP)
    assert rings(bell) == [second, third]


def test_of_many_simultaneous_claims_of_an_estimate_one_succeeds(database: Database, bell: SilentBell) -> None:
    [wanted] = asked(database, bell, request())
    with ThreadPoolExecutor(8) as pool:
        assert sum(claim is not None for claim in pool.map(lambda _: begun(database, wanted), range(8))) == 1


def test_two_claims_of_two_estimates_that_overlap_do_not_both_succeed(database: Database, bell: SilentBell) -> None:
    first, second = asked(database, bell, request(), MAP)
    with ThreadPoolExecutor() as pool:
        with database.transaction() as session:
            assert estimates.begin(session, first) is not None
            other = pool.submit(begun, database, second)
            time.sleep(0.3)  # it reads before the first commits, or waits; the outcome does not depend on it
        assert other.result() is None


def test_the_claim_of_a_lost_worker_is_taken_over_and_its_late_answer_is_ignored(
    database: Database, bell: SilentBell
) -> None:
    [wanted] = asked(database, bell, request())
    lost = begun(database, wanted)
    assert lost is not None
    long_ago = now() - timedelta(seconds=estimates.SILENT_SECONDS + 1)

    def let_it_age(session: Session) -> None:
        queries.get(session, wanted).seen_at = long_ago

    within(database, let_it_age)
    lost.seen_at = long_ago
    mine = begun(database, wanted)
    assert mine is not None
    assert not within(database, lambda s: estimates.failed(s, bell, lost, "late"))
    assert within(database, lambda s: estimates.ready(s, bell, mine, estimate()))
    assert not within(database, lambda s: estimates.failed(s, bell, mine, "twice"))
    assert row(database, wanted).status == "ready"


def test_a_heartbeat_keeps_the_claim_and_one_of_an_expired_claim_says_so(database: Database, bell: SilentBell) -> None:
    [wanted] = asked(database, bell, request())
    lost = begun(database, wanted)
    assert lost is not None
    almost = now() - timedelta(seconds=estimates.SILENT_SECONDS - 30)

    def let_it_age(session: Session) -> None:
        queries.get(session, wanted).seen_at = almost

    within(database, let_it_age)
    lost.seen_at = almost
    seen_at = within(database, lambda s: estimates.heartbeat(s, lost))
    assert seen_at is not None and seen_at > almost and begun(database, wanted) is None
    assert within(database, lambda s: estimates.heartbeat(s, lost)) is None, "that claim is of the time before"
    lost.seen_at = seen_at
    assert within(database, lambda s: estimates.ready(s, bell, lost, estimate()))


def test_a_failed_estimate_is_retried_when_it_is_requested_later(database: Database, bell: SilentBell) -> None:
    [wanted] = asked(database, bell, request())
    mine = begun(database, wanted)
    assert mine is not None
    within(database, lambda s: estimates.failed(s, bell, mine, "The hub is away."))
    asked(database, bell, request())
    assert (row(database, wanted).status, rings(bell)) == ("failed", [wanted])

    def let_it_age(session: Session) -> None:
        queries.get(session, wanted).seen_at = now() - estimates.AGAIN

    within(database, let_it_age)
    asked(database, bell, request())
    assert (row(database, wanted).status, rings(bell)) == ("queued", [wanted, wanted])


def test_an_internal_error_is_no_answer_for_long_and_one_of_the_input_stays(
    database: Database, bell: SilentBell
) -> None:
    [wanted] = asked(database, bell, request())

    def shown() -> bool:
        return bool(within(database, lambda s: estimates.known(s, [request().key])))

    def let_it_age(session: Session) -> None:
        queries.get(session, wanted).seen_at = now() - estimates.SOON

    for internal in (False, True):
        mine = begun(database, wanted)
        assert mine is not None
        within(database, lambda s, mine=mine, ours=internal: estimates.failed(s, bell, mine, "No.", internal=ours))
        asked(database, bell, request())
        assert row(database, wanted).status == "failed" and shown(), "a page that asks at once does not repeat it"
        within(database, let_it_age)
        assert shown() != internal
        asked(database, bell, request())
        assert row(database, wanted).status == ("queued" if internal else "failed")
        within(database, lambda s: setattr(queries.get(s, wanted), "status", "queued"))
    assert not row(database, wanted).internal


def test_the_sweep_rings_for_an_estimate_whose_ring_was_lost(
    database: Database, bell: SilentBell, settings: Settings
) -> None:
    bell.there = False
    older, newer = asked(database, bell, request(), request(bf16=True))
    bell.rung.clear()
    within(database, lambda s: sweep.sweep(s, bell, settings))
    assert rings(bell) == []  # it may still be on its way

    def let_it_age(session: Session) -> None:
        queries.rung(session, [older, newer], now() - timedelta(seconds=settings.ring_again_seconds + 1))

    within(database, let_it_age)
    within(database, lambda s: sweep.sweep(s, bell, settings))
    assert rings(bell) == [newer]  # and who works it out rings for the next


def test_an_old_estimate_is_forgotten_unless_a_run_is_held_against_it(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    sign_on(registered)
    run = within(registered, lambda s: runs.submit(s, bell, SPEC))
    [other] = asked(registered, bell, request())

    def let_them_age(session: Session) -> None:
        for one in session.scalars(select(EstimateRow)):
            one.created_at = now() - estimates.REMEMBER - timedelta(days=1)

    within(registered, let_them_age)
    within(registered, lambda s: sweep.sweep(s, bell, settings))
    with registered.reading() as session:
        assert session.get(EstimateRow, run.estimate_id) is not None
        assert session.get(EstimateRow, other) is None


def test_a_submitted_run_is_predicted_for_the_worker_that_would_take_it(registered: Database, bell: SilentBell) -> None:
    sign_on(registered, bf16=True)
    run = within(registered, lambda s: runs.submit(s, bell, SPEC))
    wanted = row(registered, run.estimate_id).request
    assert isinstance(wanted, EstimateRequest)
    assert (wanted.location, wanted.device, wanted.bf16, wanted.labels) == ("/nowhere", "cpu", True, 2)
    assert wanted.dataset_file.startswith(f"datasets/{wanted.dataset_hash}-labelled-")
    seeds = [SPEC.model_copy(update={"training": TrainingArguments(seed=seed)}) for seed in (1, 2)]
    more = [within(registered, lambda s, spec=spec: runs.submit(s, bell, spec)) for spec in seeds]
    assert {one.estimate_id for one in more} == {run.estimate_id}


def test_without_a_worker_it_is_predicted_once_it_is_claimed(registered: Database, bell: SilentBell) -> None:
    run = within(registered, lambda s: runs.submit(s, bell, SPEC))
    assert run.estimate_id is None
    sign_on(registered, device="cuda", bf16=True)

    def claim(session: Session) -> None:
        assert attempts.claim(session, run.id, "w1", 45)
        estimates.for_claimed(session, bell, run.id, session.get(WorkerRow, "w1"))

    within(registered, claim)
    wanted = row(registered, run_row(registered, run.id).estimate_id or 0).request
    assert (wanted.device, wanted.bf16) == ("cuda", True)


def test_an_answer_reaches_runs_that_wait_and_runs_that_have_ended(registered: Database, bell: SilentBell) -> None:
    sign_on(registered)
    ended, waiting = (within(registered, lambda s: runs.submit(s, bell, SPEC)) for _ in range(2))

    def finish(session: Session) -> None:
        mine = attempts.claim(session, ended.id, "w1", 45)
        assert mine is not None
        attempts.finish(session, bell, mine, result(), {})

    within(registered, finish)
    assert run_row(registered, ended.id).estimated_bytes is None
    mine = begun(registered, ended.estimate_id)
    assert mine is not None
    within(registered, lambda s: estimates.ready(s, bell, mine, estimate(flops=10**20)))
    for run in (ended, waiting, within(registered, lambda s: runs.submit(s, bell, SPEC))):
        found = run_row(registered, run.id)
        assert (found.estimated_bytes, found.estimated_flops) == (estimate().peak_bytes, 1e20)


def test_an_answer_and_a_study_that_is_called_off_do_not_wait_for_each_other(
    registered: Database, bell: SilentBell
) -> None:
    """Both change several runs: in one order, or PostgreSQL ends one of them, and the answer is lost."""
    sign_on(registered)
    ids = [within(registered, lambda s: runs.submit(s, bell, SPEC)).id for _ in range(2)]
    estimate_id = run_row(registered, ids[0]).estimate_id
    assert estimate_id is not None
    with registered.transaction() as session:  # the first lies behind the second now, where PostgreSQL keeps them
        queue_queries.rung(session, ids[:1], now())
        run_queries.move(session, ids[0], RunStatus.QUEUED, RunStatus.RUNNING)
    begun(registered, estimate_id)
    with ThreadPoolExecutor(1) as pool:
        with registered.transaction() as session:
            run_queries.ask_to_cancel(session, ids[0], now())
            ready = pool.submit(
                within, registered, lambda s: estimates.ready(s, bell, row(registered, estimate_id), estimate())
            )
            time.sleep(0.5)
            run_queries.move(session, ids[1], RunStatus.QUEUED, RunStatus.CANCELLED)
        assert ready.result(timeout=20)
    assert [run_row(registered, run_id).estimated_bytes for run_id in ids] == [estimate().peak_bytes] * 2


def test_a_finished_attempt_records_precision_libraries_and_its_workers_rate(
    registered: Database, bell: SilentBell
) -> None:
    sign_on(registered)
    run = within(registered, lambda s: runs.submit(s, bell, SPEC))
    found = result()
    versions = {"python": "3", "torch": "2.13", "transformers": "5.1", "peft": "0.18"}
    environment = found.environment.model_copy(update={"versions": versions, "matmul_flops": 1e11})

    def finish(session: Session) -> None:
        mine = attempts.claim(session, run.id, "w1", 45)
        assert mine is not None
        attempts.finish(session, bell, mine, found.model_copy(update={"environment": environment}), {})

    within(registered, finish)
    assert run_row(registered, run.id).libraries == "torch 2.13, transformers 5.1"
    assert run_row(registered, run.id).precision == "fp32"
    sign_on(registered)
    with registered.reading() as session:
        worker = session.get(WorkerRow, "w1")
    assert worker is not None and worker.matmul_flops == 1e11
    sign_on(registered, device_name="another CPU")
    with registered.reading() as session:
        worker = session.get(WorkerRow, "w1")
    assert worker is not None and worker.matmul_flops is None


def test_a_run_that_ran_out_of_memory_has_its_ledger(registered: Database, bell: SilentBell) -> None:
    run = within(registered, lambda s: runs.submit(s, bell, SPEC))
    failure = Failure(code=FailureCode.OUT_OF_MEMORY, message="no memory left", ledger=ledger(), requested_bytes=2**31)

    def fail(session: Session) -> None:
        mine = attempts.claim(session, run.id, "w1", 45)
        assert mine is not None
        attempts.fail(session, bell, mine, failure)

    within(registered, fail)
    assert run_row(registered, run.id).failure == failure


class Told(Estimator):
    """An estimator without a process: it answers as told, or raises it."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def estimate(self, request: EstimateRequest | MapRequest, files: Files, hub: object, heartbeat: Any) -> Any:
        heartbeat()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "status", "message", "internal"),
    [
        (estimate(), "ready", "", False),
        (NoAnswer("The architecture is not known."), "failed", "The architecture is not known.", False),
        (NoAnswer("The process ended.", internal=True), "failed", "The process ended.", True),
        (VeznaError("The sample is not installed."), "failed", "The sample is not installed.", False),
        (RunFailed(FailureCode.BAD_CONFIGURATION, Message("No.")), "failed", "No.", False),
        (RuntimeError("boom"), "failed", "The estimate failed (RuntimeError: boom).", True),
    ],
)
def test_the_task_notes_the_answer_or_a_sentence_and_a_second_ring_does_nothing(
    database: Database,
    bell: SilentBell,
    settings: Settings,
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
    answer: Any,
    status: str,
    message: str,
    internal: bool,
) -> None:
    here = Context(settings, database, files, bell, estimator=Told(answer))
    monkeypatch.setattr(tasks, "process_context", lambda: here)
    [wanted] = asked(database, bell, request())
    for _ in range(2):
        tasks.estimate(wanted)
    stored = row(database, wanted)
    assert (stored.status, stored.message, stored.internal) == (status, message, internal)
    assert rings(bell) == [wanted]
    tasks.estimate(wanted + 1)  # nobody knows it
