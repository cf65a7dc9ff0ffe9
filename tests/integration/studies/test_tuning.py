"""Tuning while a study is under way, on SQLite and on PostgreSQL: nothing is queued twice, and nothing is forgotten."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.domain.errors import Conflict, Invalid, NotFound
from app.domain.failures import Failure, FailureCode
from app.domain.methods import FullSpec, HeadOnlySpec, LoraSpec
from app.domain.runs.result import RunResult
from app.domain.runs.status import RunStatus
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.tuning import FIRST_SEED
from app.services.runs import attempts
from app.services.runs import runs as run_service
from app.services.runs.attempts import Claim
from app.services.studies import studies, tuning
from app.services.workers.sweep import sweep
from app.settings import Settings
from app.store.database.session import Database
from app.store.resources import past_runs
from app.store.studies import queries as study_queries
from app.store.tables import RunRow, StudyRow, now
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.results import evaluation, result

FULL, HEAD = ArmSpec(method=FullSpec()), ArmSpec(method=HeadOnlySpec())
DIVERGED = Failure(code=FailureCode.DIVERGED, message="not finite")


def spec(**values: Any) -> StudySpec:
    usual = {"name": "s", "base_model": "tiny", "dataset": "small", "arms": [FULL, HEAD], "seeds": [0, 1]}
    return StudySpec.model_validate(usual | {"tuning": "grid"} | values)


def submitted(db: Database, bell: SilentBell, **values: Any) -> int:
    with db.transaction() as session:
        return studies.submit(session, bell, spec(**values)).id


def rows(db: Database, study_id: int, arm: str = "", *, trials: bool | None = None) -> list[RunRow]:
    with db.reading() as session:
        found = session.scalars(select(RunRow).where(RunRow.study_id == study_id).order_by(RunRow.id)).all()
    return [
        run for run in found
        if (not arm or run.arm == arm) and (trials is None or (run.trial_round is not None) == trials)
    ]  # fmt: skip


def is_tuning(db: Database, study_id: int) -> bool:
    with db.reading() as session:
        return session.get_one(StudyRow, study_id).tuning


def reached(score: float) -> RunResult:
    """What a trial finds: on the validation split alone."""
    return result().model_copy(update={"evaluations": [evaluation("adapted", "validation", score)]})


def claim(db: Database, run_id: int) -> Claim:
    with db.transaction() as session:
        mine = attempts.claim(session, run_id, "w1", 45)
    assert mine is not None
    return mine


def end(db: Database, bell: SilentBell, run: RunRow, score: float | None) -> None:
    """A run succeeds with a score on validation, or diverges."""
    mine = claim(db, run.id)
    with db.transaction() as session:
        if score is None:
            attempts.fail(session, bell, mine, DIVERGED)
        else:
            attempts.finish(session, bell, mine, reached(score), {})


def end_all(db: Database, bell: SilentBell, runs: Iterable[RunRow], *scores: float | None) -> None:
    for run, score in zip(runs, scores, strict=True):
        end(db, bell, run, score)


def at_once(db: Database, *acts: Callable[[Session], object]) -> None:
    """Each in a transaction and a thread of its own, all begun together."""
    together = Barrier(len(acts))

    def act(what: Callable[[Session], object]) -> None:
        together.wait()
        with db.transaction() as session:
            what(session)

    with ThreadPoolExecutor(len(acts)) as pool:
        list(pool.map(act, acts))


def test_a_study_with_tuning_begins_with_trials_alone(registered: Database, bell: SilentBell) -> None:
    study = submitted(registered, bell)
    found = rows(registered, study)
    assert len(found) == 6
    assert {run.trial_round for run in found} == {0}
    assert {run.seed for run in found} == {FIRST_SEED}
    assert [run.arm for run in found[:2]] == ["full", "head only"]
    assert is_tuning(registered, study)
    assert claim(registered, found[0].id).trial


def test_the_runs_that_count_follow_at_the_rate_that_was_best_on_validation(
    registered: Database, bell: SilentBell
) -> None:
    study = submitted(registered, bell)
    trials = rows(registered, study, "full")
    end_all(registered, bell, trials[:2], 0.6, 0.9)
    assert rows(registered, study, "full", trials=False) == []
    rung = len(bell.rung)

    end(registered, bell, trials[2], 0.7)

    final = rows(registered, study, "full", trials=False)
    assert [(run.seed, run.learning_rate, run.status) for run in final] == [
        (seed, trials[1].learning_rate, "queued") for seed in (0, 1)
    ]
    assert len(bell.rung) >= rung + 2
    assert is_tuning(registered, study)  # the other arm has not chosen
    end_all(registered, bell, rows(registered, study, "head only"), 0.5, 0.4, 0.3)
    assert len(rows(registered, study, "head only", trials=False)) == 2
    assert not is_tuning(registered, study)


def test_a_trial_has_no_score_on_the_test_split_even_if_its_trainer_reports_one(
    registered: Database, bell: SilentBell
) -> None:
    study = submitted(registered, bell)
    mine = claim(registered, rows(registered, study)[0].id)
    with registered.transaction() as session:
        attempts.finish(session, bell, mine, result(0.99), {})
    [run] = [run for run in rows(registered, study) if run.status == "succeeded"]
    assert (run.score, run.base_score, run.loss) == (None, None, None)


def test_trials_are_told_in_a_comparison_and_weighed_nowhere(registered: Database, bell: SilentBell) -> None:
    study = submitted(registered, bell)
    trials = rows(registered, study, "full")
    end_all(registered, bell, trials, 0.6, 0.9, 0.7)
    with registered.reading() as session:
        found = studies.comparison(session, study)
    full, head = found.arms
    assert (full.score, full.costs, [run.seed for run in full.runs]) == (None, None, [0, 1])
    assert full.tuning and (full.tuning.chosen, full.tuning.edge) == (trials[1].configuration, None)
    assert full.learning_rate == trials[1].learning_rate
    assert (head.awaits_rate, found.complete, found.done, found.total) == (True, False, 3, 3 + 2 + 3 + 2)


def test_a_diverged_trial_is_the_worst_and_an_arm_without_any_rate_blocks_nothing(
    registered: Database, bell: SilentBell
) -> None:
    study = submitted(registered, bell)
    end_all(registered, bell, rows(registered, study, "full"), None, None, None)
    end_all(registered, bell, rows(registered, study, "head only"), 0.5, None, None)
    assert rows(registered, study, "full", trials=False) == []
    final = rows(registered, study, "head only", trials=False)
    assert len(final) == 2
    end_all(registered, bell, final, 0.5, 0.5)
    with registered.reading() as session:
        found, progress = studies.comparison(session, study), studies.progress(session, study)
    full = found.arms[0]
    assert full.tuning and full.tuning.failed and full.over
    assert full.failure and full.failure.code is FailureCode.DIVERGED
    assert (found.complete, progress.status) == (True, "finished")


def test_halving_queues_its_second_round_once_the_first_has_ended(registered: Database, bell: SilentBell) -> None:
    study = submitted(registered, bell, arms=[FULL], tuning={"kind": "halving", "rates": 4, "eta": 2})
    first = rows(registered, study)
    assert {run.spec.training.num_train_epochs for run in first} == {1.5}
    end_all(registered, bell, first, 0.1, 0.4, None, 0.3)
    second = [run for run in rows(registered, study) if run.trial_round == 1]
    assert [run.learning_rate for run in second] == [first[1].learning_rate, first[3].learning_rate]
    assert {run.spec.training.num_train_epochs for run in second} == {3}
    end_all(registered, bell, second, 0.5, 0.6)
    assert {run.learning_rate for run in rows(registered, study, trials=False)} == {first[3].learning_rate}


def test_of_two_trials_that_end_at_once_the_second_queues_what_follows_once(
    registered: Database, bell: SilentBell
) -> None:
    study = submitted(registered, bell, arms=[FULL])
    trials = rows(registered, study)
    end(registered, bell, trials[0], 0.5)
    mine = [claim(registered, run.id) for run in trials[1:]]
    at_once(registered, *(lambda s, one=one: attempts.finish(s, bell, one, reached(0.9), {}) for one in mine))
    assert [run.seed for run in rows(registered, study, trials=False)] == [0, 1]


def test_an_arm_that_is_added_while_the_last_trial_of_another_ends_is_tuned_and_the_other_runs(
    registered: Database, bell: SilentBell
) -> None:
    study = submitted(registered, bell, arms=[FULL])
    *others, last = rows(registered, study)
    end_all(registered, bell, others, 0.5, 0.6)
    mine = claim(registered, last.id)
    at_once(
        registered,
        lambda s: attempts.finish(s, bell, mine, reached(0.9), {}),
        lambda s: studies.add_arm(s, bell, study, HEAD),
        lambda s: studies.add_seeds(s, bell, study, 1),
    )
    assert [run.seed for run in rows(registered, study, "full", trials=False)] == [0, 1, 2]
    assert len(rows(registered, study, "head only")) == len(rows(registered, study, "head only", trials=True)) == 3
    assert is_tuning(registered, study)
    end_all(registered, bell, rows(registered, study, "head only"), 0.1, 0.2, 0.3)
    assert [run.seed for run in rows(registered, study, "head only", trials=False)] == [0, 1, 2]


def test_an_arm_that_is_stopped_while_its_last_trial_ends_has_nothing_left_to_do(
    registered: Database, bell: SilentBell
) -> None:
    study = submitted(registered, bell)
    *others, last = rows(registered, study, "head only")
    end_all(registered, bell, others, 0.5, 0.6)
    mine = claim(registered, last.id)
    at_once(
        registered,
        lambda s: attempts.finish(s, bell, mine, reached(0.9), {}),
        lambda s: studies.stop_arm(s, bell, study, "head only"),
    )
    assert {run.status for run in rows(registered, study, "head only", trials=False)} <= {"cancelled"}
    assert is_tuning(registered, study)
    end_all(registered, bell, rows(registered, study, "full"), 0.1, 0.2, 0.3)
    assert {run.status for run in rows(registered, study, "head only")} <= {"succeeded", "cancelled"}
    assert not is_tuning(registered, study)


@pytest.mark.slow
def test_the_sweep_and_a_study_that_is_called_off_do_not_wait_for_each_other(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    """The workers of a run that counts and of a trial are lost, while its owner ends their study: whoever changes runs
    locks their study first, or PostgreSQL ends one of the two."""
    study = submitted(registered, bell, arms=[FULL])
    end_all(registered, bell, rows(registered, study), 0.1, 0.2, 0.3)
    with registered.transaction() as session:
        studies.add_arm(session, bell, study, HEAD)
    run, trial = rows(registered, study, "full", trials=False)[0], rows(registered, study, "head only")[0]
    for one in (run, trial):
        claim(registered, one.id)
    with registered.transaction() as session:
        studies.stop_arm(session, bell, study, "head only")
        session.execute(update(RunRow).values(lease_expires_at=now().replace(year=2020)))
    assert not is_tuning(registered, study)
    with ThreadPoolExecutor(1) as pool:
        with registered.transaction() as session:
            study_queries.get(session, study, lock=True)
            swept = pool.submit(at_once, registered, lambda s: sweep(s, bell, settings))
            time.sleep(0.5)
            studies.cancel(session, bell, study)
        swept.result(timeout=20)
    assert {one.status for one in rows(registered, study) if one.id in (run.id, trial.id)} == {"cancelled"}


def test_advancing_again_queues_nothing(registered: Database, bell: SilentBell) -> None:
    study = submitted(registered, bell, arms=[FULL])
    end_all(registered, bell, rows(registered, study), 0.1, 0.2, 0.3)
    with registered.transaction() as session:
        session.get_one(StudyRow, study).tuning = True
    with registered.transaction() as session:
        assert tuning.advance(session, bell, study) == 0
    assert len(rows(registered, study)) == 3 + 2


def test_the_sweep_moves_a_study_that_stands_still(registered: Database, bell: SilentBell, settings: Settings) -> None:
    study = submitted(registered, bell, arms=[FULL])
    trials = rows(registered, study)
    with registered.transaction() as session:  # as if whoever ended them had been lost before it could go on
        session.execute(update(RunRow).values(status="succeeded", result_json=reached(0.5).model_dump(mode="json")))
    with registered.transaction() as session:
        sweep(session, bell, settings)
    assert {run.learning_rate for run in rows(registered, study, trials=False)} == {trials[0].learning_rate}
    assert not is_tuning(registered, study)


def test_a_lost_worker_ends_a_trial_like_any_run(registered: Database, bell: SilentBell, settings: Settings) -> None:
    study = submitted(registered, bell, arms=[FULL])
    *others, last = rows(registered, study)
    end_all(registered, bell, others, 0.5, 0.6)
    claim(registered, last.id)
    with registered.transaction() as session:
        session.execute(
            update(RunRow).where(RunRow.id == last.id)
            .values(lease_expires_at=now().replace(year=2020), attempts=settings.max_attempts)
        )  # fmt: skip
    with registered.transaction() as session:
        sweep(session, bell, settings)
    assert [run.learning_rate for run in rows(registered, study, trials=False)] == [others[1].learning_rate] * 2


def test_a_study_that_cannot_continue_holds_up_neither_its_trial_nor_other_studies(
    registered: Database, bell: SilentBell, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, other = submitted(registered, bell, arms=[FULL]), submitted(registered, bell, arms=[FULL])
    queue = tuning.enqueue_follow_up

    def fails(session: Session, bell: SilentBell, study: StudyRow, *rest: Any) -> None:
        queue(session, bell, study, *rest)
        if study.id == broken:
            raise RuntimeError("no next step")

    monkeypatch.setattr(tuning, "enqueue_follow_up", fails)
    *before, last = rows(registered, broken)
    end_all(registered, bell, before, 0.5, 0.6)
    rung = list(bell.rung)
    end(registered, bell, last, 0.7)
    assert bell.rung == rung, "what was not queued rings for nothing"
    assert [run.status for run in rows(registered, broken)] == ["succeeded"] * 3
    with registered.transaction() as session:
        session.execute(
            update(RunRow).where(RunRow.study_id == other).values(status=RunStatus.FAILED.value, finished_at=now())
        )
    with registered.transaction() as session:
        sweep(session, bell, settings)
    assert (is_tuning(registered, broken), is_tuning(registered, other)) == (True, False)

    monkeypatch.undo()
    with registered.transaction() as session:
        sweep(session, bell, settings)
    assert len(rows(registered, broken, trials=False)) == 2


def test_a_trial_that_is_cancelled_counts_as_the_worst(registered: Database, bell: SilentBell) -> None:
    study = submitted(registered, bell, arms=[FULL])
    *others, last = rows(registered, study)
    end_all(registered, bell, others, 0.5, 0.6)
    with registered.transaction() as session:
        run_service.cancel(session, bell, last.id)
    assert [run.learning_rate for run in rows(registered, study, trials=False)] == [others[1].learning_rate] * 2


def test_nothing_follows_from_the_trials_of_a_study_that_was_cancelled(registered: Database, bell: SilentBell) -> None:
    study = submitted(registered, bell)
    end(registered, bell, rows(registered, study)[0], 0.5)
    running = claim(registered, rows(registered, study)[1].id)
    with registered.transaction() as session:
        studies.cancel(session, bell, study)
    with registered.transaction() as session:
        attempts.stop(session, bell, running)
    assert rows(registered, study, trials=False) == []
    assert {run.status for run in rows(registered, study)} == {"succeeded", "cancelled"}
    with registered.reading() as session:
        found = studies.comparison(session, study)
    assert (found.complete, [arm.stopped for arm in found.arms]) == (True, [True, True])


def test_more_seeds_run_at_the_rates_that_were_chosen(registered: Database, bell: SilentBell) -> None:
    study = submitted(registered, bell)
    end_all(registered, bell, rows(registered, study, "full"), 0.6, 0.9, 0.7)
    with registered.transaction() as session:
        studies.add_seeds(session, bell, study, 2)
    chosen = rows(registered, study, "full")[1].learning_rate
    final = rows(registered, study, "full", trials=False)
    assert [(run.seed, run.learning_rate) for run in final] == [(seed, chosen) for seed in range(4)]
    assert rows(registered, study, "head only", trials=False) == []
    end_all(registered, bell, rows(registered, study, "head only"), 0.6, 0.9, 0.7)
    assert [run.seed for run in rows(registered, study, "head only", trials=False)] == [0, 1, 2, 3]


def test_seeds_that_no_arm_could_take_are_refused(registered: Database, bell: SilentBell) -> None:
    study = submitted(registered, bell, arms=[FULL])
    end_all(registered, bell, rows(registered, study), None, None, None)
    with pytest.raises(Conflict, match="No arm of study"), registered.transaction() as session:
        studies.add_seeds(session, bell, study, 2)


@pytest.mark.parametrize("kind", ["none", "grid"])
def test_an_arm_that_is_added_gets_the_seeds_that_are_there_and_its_own_trials(
    registered: Database, bell: SilentBell, kind: str
) -> None:
    study = submitted(registered, bell, tuning=kind, arms=[HEAD])
    for run in rows(registered, study):
        end(registered, bell, run, 0.5)
    for run in rows(registered, study, trials=False):
        if run.status == "queued":
            end(registered, bell, run, 0.5)
    with registered.transaction() as session:
        studies.add_arm(session, bell, study, FULL)
    if kind == "grid":
        trials = rows(registered, study, "full")
        assert [(run.trial_round, run.seed) for run in trials] == [(0, FIRST_SEED)] * 3
        end_all(registered, bell, trials, 0.6, 0.9, 0.7)
    assert [run.seed for run in rows(registered, study, "full", trials=False)] == [0, 1]
    with registered.reading() as session:
        found = studies.comparison(session, study)
    assert [arm.title for arm in found.arms] == ["head only", "full"]
    assert found.reference.title == "head only"  # what was weighed before is weighed against the same still


def test_an_arm_that_is_there_already_or_does_not_fit_is_refused(registered: Database, bell: SilentBell) -> None:
    study = submitted(registered, bell, tuning="none")
    with pytest.raises(Exception, match="Two arms are named"), registered.transaction() as session:
        studies.add_arm(session, bell, study, FULL)
    with pytest.raises(Invalid, match="no linear module"), registered.transaction() as session:
        studies.add_arm(session, bell, study, ArmSpec(method=LoraSpec(target_modules=["q_proj"])))
    assert len(rows(registered, study)) == 4


def test_an_arm_that_is_stopped_keeps_what_it_has_done_and_the_others_go_on(
    registered: Database, bell: SilentBell
) -> None:
    study = submitted(registered, bell, tuning="none", seeds=[0, 1, 2])
    first, second, third = rows(registered, study, "head only")
    end(registered, bell, first, 0.5)
    running = claim(registered, second.id)
    with registered.transaction() as session:
        studies.stop_arm(session, bell, study, "head only")
    assert [run.status for run in rows(registered, study, "head only")] == ["succeeded", "running", "cancelled"]
    assert {run.status for run in rows(registered, study, "full")} == {"queued"}
    with registered.transaction() as session:
        attempts.stop(session, bell, running)
        studies.add_seeds(session, bell, study, 1)
    assert [run.seed for run in rows(registered, study, "full")] == [0, 1, 2, 3]
    assert [run.seed for run in rows(registered, study, "head only")] == [0, 1, 2]
    assert third.status == "queued"


def test_an_arm_that_is_stopped_while_it_is_tuned_has_no_runs_and_blocks_nothing(
    registered: Database, bell: SilentBell
) -> None:
    study = submitted(registered, bell)
    end(registered, bell, rows(registered, study, "head only")[0], 0.9)
    with registered.transaction() as session:
        studies.stop_arm(session, bell, study, "head only")
    end_all(registered, bell, rows(registered, study, "full"), 0.6, 0.9, 0.7)
    for run in rows(registered, study, "full", trials=False):
        end(registered, bell, run, 0.9)
    with registered.reading() as session:
        found = studies.comparison(session, study)
    head = found.arms[1]
    assert (found.complete, head.stopped, head.over, head.runs) == (True, True, True, ())
    assert not is_tuning(registered, study)


def test_an_arm_without_anything_left_to_do_cannot_be_stopped(registered: Database, bell: SilentBell) -> None:
    study = submitted(registered, bell, tuning="none", arms=[FULL])
    for run in rows(registered, study):
        end(registered, bell, run, 0.5)
    with pytest.raises(Conflict, match="have already ended"), registered.transaction() as session:
        studies.stop_arm(session, bell, study, "full")
    with pytest.raises(NotFound, match=r"has no arm 'other'\. Choose from: full"), registered.transaction() as session:
        studies.stop_arm(session, bell, study, "other")


def test_a_trial_is_no_past_run_whose_time_or_score_a_plan_would_take(registered: Database, bell: SilentBell) -> None:
    study = submitted(registered, bell, arms=[FULL])
    end_all(registered, bell, rows(registered, study), 0.6, 0.9, 0.7)
    with registered.reading() as session:
        run = session.get_one(RunRow, rows(registered, study)[0].id)
        assert run.status == RunStatus.SUCCEEDED
        from_past = past_runs.succeeded(session, run.base_model_id, run.dataset_id)
    assert from_past == []
