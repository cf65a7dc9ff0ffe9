"""The life of a run in the database, on SQLite and on PostgreSQL."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from app.broker.queue import TRAIN
from app.domain.failures import Failure, FailureCode
from app.domain.methods import LoraSpec
from app.domain.models.base_model import ModelRegistration
from app.domain.runs.job import (
    DownloadReport,
    EvaluationReport,
    LogReport,
    PhaseReport,
    Report,
    StepsReport,
    WeightDeltasReport,
)
from app.domain.runs.result import to_array
from app.domain.runs.status import Phase, RunStatus
from app.services.models import models
from app.services.runs import attempts, runs
from app.services.runs.attempts import Fenced
from app.services.workers import sweep, workers
from app.settings import Settings
from app.store.database.session import BINARY, Database
from app.store.runs import evaluations, events, steps, weight_deltas
from app.store.runs import queries as run_queries
from app.store.tables import now
from app.store.workers import queries as worker_queries
from app.store.workers import queue
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.attempted import LEASE, SPEC, claim, claimed, in_transaction, let_lease_expire, row, submit
from tests.support.rows.results import evaluation, result, some_weight_deltas, step


def test_a_submitted_run_is_queued_and_its_doorbell_rung_once_it_is_committed(
    registered: Database, bell: SilentBell
) -> None:
    with registered.transaction() as session:
        run = runs.submit(session, bell, SPEC)
        assert bell.rung == []
    assert bell.rung == [(TRAIN, run.id)]
    assert row(registered, run.id).status == "queued"
    assert row(registered, run.id).learning_rate == LoraSpec().learning_rate()


def test_a_run_that_is_rolled_back_rings_nothing(registered: Database, bell: SilentBell) -> None:
    with pytest.raises(RuntimeError), registered.transaction() as session:
        runs.submit(session, bell, SPEC)
        raise RuntimeError
    assert bell.rung == []


def test_a_report_renews_the_lease_and_keeps_what_was_reported(registered: Database, bell: SilentBell) -> None:
    mine = claimed(registered, bell)
    before = row(registered, mine.run_id).lease_expires_at
    reports = [
        PhaseReport(phase=Phase.TRAIN, total_steps=10),
        StepsReport(steps=[step(1), step(2, 0.5)]),
        EvaluationReport(evaluation=evaluation("base"), items=["a", "b"], scores=[1.0, 0.0]),
        EvaluationReport(evaluation=evaluation(split="validation", accuracy=0.9)),
        LogReport(message="a line"),
    ]
    with registered.transaction() as session:
        orders = attempts.report(session, mine, 1, reports, LEASE)
    assert not orders.cancel and not orders.drain
    after = row(registered, mine.run_id)
    assert before and after.lease_expires_at and after.lease_expires_at > before
    assert (after.phase, after.step, after.total_steps, after.train_loss) == ("train", 2, 10, 0.5)
    assert after.validation_score == pytest.approx(0.9)
    assert after.eta_seconds == pytest.approx(4.0)
    with registered.reading() as session:
        assert steps.read(session, mine.run_id)["step"].tolist() == [1, 2]
        assert evaluations.test_scores(session, [mine.run_id])[mine.run_id, "base"].scores.tolist() == [1.0, 0.0]
        assert "a line" in [e.message for e in events.after(session, mine.run_id)]


def test_a_run_has_the_progress_of_its_download_until_the_next_attempt(registered: Database, bell: SilentBell) -> None:
    mine = claimed(registered, bell)
    assert row(registered, mine.run_id).download is None
    reports = [PhaseReport(phase=Phase.DOWNLOAD), DownloadReport(done_bytes=3 << 32, total_bytes=4 << 32)]
    in_transaction(registered, lambda s: attempts.report(s, mine, 1, reports, LEASE))
    after = row(registered, mine.run_id)
    assert (after.phase, after.download) == ("download", (3 << 32, 4 << 32))
    in_transaction(registered, lambda s: attempts.hand_back(s, bell, mine, "shutting down"))
    assert claim(registered, mine.run_id) is not None
    assert row(registered, mine.run_id).download is None


def test_a_report_whose_answer_was_lost_is_written_once_and_renews_the_lease(
    registered: Database, bell: SilentBell
) -> None:
    mine = claimed(registered, bell)
    sent: list[Report] = [
        StepsReport(steps=[step(1)]),
        EvaluationReport(evaluation=evaluation("base"), items=["a"], scores=[1.0]),
        LogReport(message="once"),
    ]
    for _ in range(2):
        let_lease_expire(registered, mine.run_id)
        in_transaction(registered, lambda s: attempts.report(s, mine, 1, sent, LEASE))
        expires = row(registered, mine.run_id).lease_expires_at
        assert expires is not None and expires > now()
    with registered.reading() as session:
        assert steps.read(session, mine.run_id)["step"].tolist() == [1]
        assert len(evaluations.of_run(session, mine.run_id)) == 1
        assert [e.message for e in events.after(session, mine.run_id)].count("once") == 1


def test_a_nul_in_a_log_line_harms_nothing(registered: Database, bell: SilentBell) -> None:
    mine = claimed(registered, bell)
    in_transaction(registered, lambda s: attempts.report(s, mine, 1, [LogReport(message="a\0b")], LEASE))
    in_transaction(
        registered, lambda s: attempts.fail(s, bell, mine, Failure(code=FailureCode.INTERNAL, message="c\0d"))
    )
    assert row(registered, mine.run_id).status == "failed"


def test_a_result_is_written_once_with_its_scores(registered: Database, bell: SilentBell) -> None:
    mine = claimed(registered, bell)
    in_transaction(registered, lambda s: attempts.finish(s, bell, mine, result(0.75), {}))
    done = row(registered, mine.run_id)
    assert (done.status, done.score, done.base_score, done.peak_bytes) == ("succeeded", 0.75, 0.25, 900)
    assert done.tokens_per_second == pytest.approx(1000 / 3.5)
    assert done.result == result(0.75)
    with pytest.raises(Fenced):
        in_transaction(registered, lambda s: attempts.finish(s, bell, mine, result(0.1), {}))
    assert row(registered, mine.run_id).score == 0.75


def test_weight_updates_are_kept_once_and_a_new_attempt_begins_without_them(
    registered: Database, bell: SilentBell
) -> None:
    claim_ = claimed(registered, bell)
    found = some_weight_deltas()
    for number in (1, 1):  # the answer to the first was lost
        in_transaction(
            registered,
            lambda s, n=number: attempts.report(s, claim_, n, [WeightDeltasReport(weight_deltas=found)], LEASE),
        )
    with registered.reading() as session:
        assert weight_deltas.of_runs(session, [claim_.run_id]) == {claim_.run_id: found}
        assert weight_deltas.summaries(session, [claim_.run_id, 99]) == {claim_.run_id: found.summary}
        log = [e.message for e in events.last(session, claim_.run_id, limit=9)]
    assert "ΔW analysis of 2 of 3 matrices in 0.5 s: for 1 there was no time" in log
    in_transaction(registered, lambda s: attempts.hand_back(s, bell, claim_, "the worker stops"))
    assert claim(registered, claim_.run_id) is not None
    with registered.reading() as session:
        assert weight_deltas.of_runs(session, [claim_.run_id]) == {}


def test_a_new_attempt_begins_without_the_metrics_of_the_lost_one(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    lost = claimed(registered, bell)
    reports = [StepsReport(steps=[step(1)]), EvaluationReport(evaluation=evaluation("base"), items=["a"], scores=[1.0])]
    in_transaction(registered, lambda s: attempts.report(s, lost, 1, reports, LEASE))
    let_lease_expire(registered, lost.run_id)
    swept = in_transaction(registered, lambda s: sweep.sweep(s, bell, settings))
    assert swept.requeued == 1
    assert row(registered, lost.run_id).status == "queued"
    claim(registered, lost.run_id)
    with registered.reading() as session:
        assert len(steps.read(session, lost.run_id)) == 0
        assert evaluations.of_run(session, lost.run_id) == []
    assert row(registered, lost.run_id).step == 0


def test_a_cancelled_run_whose_worker_is_lost_ends_as_cancelled(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    mine = claimed(registered, bell)
    in_transaction(registered, lambda s: runs.cancel(s, bell, mine.run_id))
    let_lease_expire(registered, mine.run_id)
    in_transaction(registered, lambda s: sweep.sweep(s, bell, settings))
    assert row(registered, mine.run_id).status == "cancelled"


def test_a_run_that_is_handed_back_while_it_is_to_be_cancelled_ends_as_cancelled(
    registered: Database, bell: SilentBell
) -> None:
    for act in (
        lambda s, m: attempts.hand_back(s, bell, m, "shutting down"),
        lambda s, m: attempts.retry(s, bell, m, Failure(code=FailureCode.KILLED, message="x"), 3),
    ):
        mine = claimed(registered, bell)
        in_transaction(registered, lambda s, m=mine: runs.cancel(s, bell, m.run_id))
        in_transaction(registered, lambda s, m=mine, a=act: a(s, m))
        assert row(registered, mine.run_id).status == "cancelled"


def test_the_sweeper_leaves_a_lease_that_was_renewed_after_it_had_looked(
    registered: Database, bell: SilentBell, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = claimed(registered, bell)
    let_lease_expire(registered, mine.run_id)
    stale = row(registered, mine.run_id)
    in_transaction(registered, lambda s: attempts.report(s, mine, 1, [], LEASE))
    monkeypatch.setattr(run_queries, "expired", lambda session, at: [stale])
    swept = in_transaction(registered, lambda s: sweep.sweep(s, bell, settings))
    assert (swept.requeued, swept.ended) == (0, 0)
    assert row(registered, mine.run_id).status == "running"


def test_a_worker_whose_run_the_sweeper_ended_is_idle_again(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    in_transaction(
        registered, lambda s: workers.sign_on(s, "w1", device="cpu", device_name="CPU", memory_bytes=1, cores=2)
    )
    mine = claimed(registered, bell)
    in_transaction(registered, lambda s: runs.cancel(s, bell, mine.run_id))
    let_lease_expire(registered, mine.run_id)
    in_transaction(registered, lambda s: sweep.sweep(s, bell, settings))
    patient = settings.model_copy(update={"lease_seconds": LEASE})  # a busy machine is no lost worker
    with registered.reading() as session:
        assert [(w.state, w.run_id) for w in workers.live(session, patient)] == [("idle", None)]


def test_of_two_simultaneous_inspections_one_runs(registered: Database, bell: SilentBell, settings: Settings) -> None:
    wanted = ModelRegistration(name="other", source="hub", location="a/b")
    model = in_transaction(registered, lambda s: models.register(s, bell, wanted, []).id)
    first = in_transaction(registered, lambda s: models.begin_inspection(s, model))
    second = in_transaction(registered, lambda s: models.begin_inspection(s, model))
    assert first is not None and second is None
    bell.rung.clear()
    in_transaction(registered, lambda s: sweep.sweep(s, bell, settings))
    assert bell.rung == []  # it is under way


def test_the_sweeper_rings_again_only_while_a_worker_is_idle(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    run_id = submit(registered, bell)
    old = now() - timedelta(seconds=settings.ring_again_seconds + 1)
    in_transaction(registered, lambda s: queue.rung(s, [run_id], old))
    bell.rung.clear()
    assert in_transaction(registered, lambda s: sweep.sweep(s, bell, settings)).rung == 0
    in_transaction(
        registered, lambda s: workers.sign_on(s, "w1", device="cpu", device_name="CPU", memory_bytes=1, cores=2)
    )
    assert in_transaction(registered, lambda s: sweep.sweep(s, bell, settings)).rung == 1
    assert bell.rung == [(TRAIN, run_id)]
    assert in_transaction(registered, lambda s: sweep.sweep(s, bell, settings)).rung == 0


def test_a_draining_worker_is_told_and_listed_as_draining(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    in_transaction(
        registered, lambda s: workers.sign_on(s, "w1", device="cpu", device_name="CPU", memory_bytes=1, cores=2)
    )
    mine = claimed(registered, bell)
    patient = settings.model_copy(update={"lease_seconds": LEASE})  # a busy machine is no lost worker
    with registered.reading() as session:
        assert [(w.state, w.run_id) for w in workers.live(session, patient)] == [("running", mine.run_id)]
    in_transaction(registered, lambda s: worker_queries.drain(s, "w1"))
    assert in_transaction(registered, lambda s: attempts.report(s, mine, 1, [], LEASE)).drain
    in_transaction(registered, lambda s: attempts.hand_back(s, bell, mine, "bye"))
    with registered.reading() as session:
        assert [(w.state, w.run_id) for w in workers.live(session, patient)] == [("draining", None)]


def test_a_worker_that_was_told_to_stop_leaves_the_list_and_one_that_was_not_is_lost(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    for name in ("stopped", "killed", "replaced"):
        in_transaction(
            registered,
            lambda s, name=name: workers.sign_on(s, name, device="cpu", device_name="", memory_bytes=1, cores=2),
        )
    in_transaction(registered, lambda s: worker_queries.drain(s, "stopped"))
    long_ago, late = (
        now() - workers.FORGET - timedelta(minutes=1),
        now() - timedelta(seconds=settings.lease_seconds + 1),
    )
    for name, at in {"stopped": late, "killed": late, "replaced": long_ago}.items():
        in_transaction(registered, lambda s, name=name, at=at: worker_queries.beat(s, name, at))
    with registered.reading() as session:
        assert [(w.name, w.state) for w in workers.live(session, settings)] == [("killed", "lost")]
    in_transaction(registered, lambda s: sweep.sweep(s, bell, settings))
    with registered.reading() as session:
        assert worker_queries.get(session, "stopped") and not worker_queries.get(session, "replaced")


def test_an_illegal_change_of_state_is_a_mistake_in_the_code(registered: Database, bell: SilentBell) -> None:
    run_id = submit(registered, bell)
    with pytest.raises(ValueError, match="never goes from"):
        in_transaction(registered, lambda s: run_queries.move(s, run_id, RunStatus.SUCCEEDED, RunStatus.RUNNING))


def test_steps_come_back_byte_for_byte_on_postgresql_in_its_binary_format(
    registered: Database, bell: SilentBell
) -> None:
    mine, sent = claimed(registered, bell), [step(1), step(2)]
    in_transaction(registered, lambda s: attempts.report(s, mine, 1, [StepsReport(steps=sent)], LEASE))
    formats: set[int] = set()

    @event.listens_for(registered.engine, "after_cursor_execute")
    def seen(_c: object, cursor: Any, statement: str, *_more: object) -> None:
        if "step_chunks.data" in statement and registered.engine.dialect.name == "postgresql":
            formats.add(cursor.pgresult.fformat(0))

    with registered.reading() as session:
        assert steps.read(session, mine.run_id).tobytes() == to_array(sent).tobytes()
    if registered.engine.dialect.name == "postgresql":
        assert formats == {BINARY}
