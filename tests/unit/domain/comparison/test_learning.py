"""Whether anything was learned, why not, and whether a loss still falls."""

from collections.abc import Sequence

import numpy as np
import pytest

from app.domain.comparison.baselines import BaselineResult, StoredBaseline, baseline_results
from app.domain.comparison.learning.causes import Cause, CauseKind, Causes, causes
from app.domain.comparison.learning.learning import (
    Criterion,
    Helps,
    helps,
    learning,
    most_predicted,
    validation_progress,
)
from app.domain.comparison.learning.loss_trend import FEWEST_STEPS, LossTrend, loss_trend
from app.domain.comparison.model import RunOutcome
from app.domain.comparison.statistics.intervals import difference
from app.domain.comparison.study import StudyArm, compare
from app.domain.data.baselines import Baseline, BaselineKind
from app.domain.failures import Failure, FailureCode
from app.domain.methods import FullSpec, LoraSpec
from app.domain.runs.confusion import Answers, Confusion
from app.domain.runs.result import DataSeen, Evaluation, RunResult
from app.domain.runs.status import RunStatus
from app.domain.studies.arms import ArmSpec
from app.domain.studies.remedies import remedied
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.search_space import DimensionSpec, Parameter, SearchSpace
from app.domain.studies.tuning.tuning import GridTuning
from tests.support.rows.results import result

N = 400


def baseline(kind: BaselineKind, right: int) -> StoredBaseline:
    scores = [1.0] * right + [0.0] * (N - right)
    values = {"metrics": {}, "items_hash": "h", "trained_rows": 1, "train_rows": 1, "seconds": 0.0}
    return StoredBaseline(kind, "ready", baseline=Baseline(kind=kind, scores={"accuracy": scores}, **values))


def compared(*known: StoredBaseline, right: int) -> tuple[BaselineResult, ...]:
    reference = np.zeros((2, N))
    reference[:, :right] = 1
    return baseline_results(known, "accuracy", reference, "h", 0.95)


def run(seed: int = 0, confusion: Confusion | None = None, scores: Sequence[float | None] = ()) -> RunOutcome:
    """A run with a confusion matrix and the validation scores of its evaluations; None: a loss only."""
    evaluations = [
        Evaluation(
            subject="adapted",
            split="validation",
            step=10 * place,
            epoch=place,
            n=50,
            loss=1.0 if score is not None else 2.0 - 0.1 * place,
            metric="accuracy",
            metrics={} if score is None else {"accuracy": score},
        )
        for place, score in enumerate(scores, start=1)
    ]
    changed: RunResult = result().model_copy(update={"confusion": confusion, "evaluations": evaluations})
    return RunOutcome(seed, "full", seed, RunStatus.SUCCEEDED, changed)


def matrix(predicted: dict[int, int], true: int = 0) -> Confusion:
    """Items by predicted label; half of them truly of label `true`."""
    answers = [Answers(true, label, items // 2) for label, items in predicted.items()]
    answers += [Answers(true + 1, label, items - items // 2) for label, items in predicted.items()]
    return Confusion(answers=answers)


def test_the_reference_must_beat_every_baseline() -> None:
    assert helps(compared(baseline("most-frequent", 100), baseline("tfidf", 200), right=300)) is Helps.YES
    assert helps(compared(baseline("most-frequent", 100), baseline("tfidf", 298), right=300)) is Helps.NO
    assert helps(compared(baseline("most-frequent", 310), baseline("tfidf", 100), right=300)) is Helps.NO


def test_a_baseline_that_failed_does_not_count_and_one_in_progress_leaves_the_answer_open() -> None:
    failed, working = StoredBaseline("embeddings", "failed", "why"), StoredBaseline("embeddings", "working")
    trivial = baseline("most-frequent", 100)
    assert helps(compared(trivial, failed, right=300)) is Helps.YES
    assert helps(compared(trivial, working, right=300)) is Helps.OPEN
    assert helps(compared(baseline("most-frequent", 300), working, right=300)) is Helps.NO
    assert helps(compared(failed, right=300)) is None
    assert helps(()) is None
    assert helps(baseline_results([trivial], "accuracy", None, None, 0.95)) is Helps.OPEN


def test_no_better_than_the_trivial_baseline_is_nothing_learned_but_no_better_than_tfidf_is_not() -> None:
    good = {"full": [run()]}
    trivial = learning(compared(baseline("most-frequent", 298), right=300), good, "full", None)
    assert trivial.criteria == (Criterion.TRIVIAL,) and trivial.nothing and trivial.closed
    tfidf = learning(compared(baseline("most-frequent", 100), baseline("tfidf", 298), right=300), good, "full", None)
    assert tfidf.criteria == () and not tfidf.nothing and tfidf.closed
    better = learning(compared(baseline("most-frequent", 100), right=300), good, "full", None)
    assert not better.closed


@pytest.mark.parametrize(("alike", "nothing"), [(95, True), (94, False)])
def test_one_label_for_95_percent_of_the_items_is_nothing_learned(alike: int, nothing: bool) -> None:
    runs = [run(0, matrix({0: alike, 1: 100 - alike})), run(1, matrix({0: alike, 1: 100 - alike}))]
    answer = learning((), {"full": runs}, "full", None)
    assert answer.nothing is nothing
    assert answer.predicted["full"].share == alike / 100 and answer.predicted["full"].same


def test_one_collapsed_seed_rare_labels_and_other_arms_decide_nothing() -> None:
    own = learning((), {"full": [run(0, matrix({0: 100})), run(1, matrix({1: 100}))]}, "full", None)
    assert own.criteria == (Criterion.ONE_LABEL,) and not own.predicted["full"].same
    mixed = learning((), {"full": [run(0, matrix({0: 100})), run(1, matrix({0: 60, 1: 40}))]}, "full", None)
    assert mixed.criteria == ()
    rare = Confusion(answers=[Answers(0, 0, 960), Answers(1, 0, 5), Answers(1, 1, 35)])
    assert learning((), {"full": [run(0, rare)]}, "full", None).criteria == ()
    arms = {"full": [run(0, matrix({0: 50, 1: 50}))], "LoRA r=8": [run(1, matrix({0: 100}))]}
    answer = learning((), arms, "full", None)
    assert answer.criteria == () and answer.predicted["LoRA r=8"].one_label


def test_validation_that_never_improved_is_nothing_learned_unless_the_reference_is_known_to_be_better() -> None:
    stuck = {"full": [run(0, scores=(0.5, 0.5, 0.4)), run(1, scores=(0.5, 0.45))]}
    answer = learning((), stuck, "full", None)
    assert answer.criteria == (Criterion.NO_PROGRESS,) and (answer.improved, answer.validated) == (0, 2)
    assert learning(compared(baseline("most-frequent", 100), right=300), stuck, "full", None).criteria == ()
    base = difference(np.zeros((2, N)), np.ones((2, N)))
    assert learning((), stuck, "full", base).criteria == ()


def test_one_improved_run_is_enough_and_a_single_evaluation_or_no_matrix_says_nothing() -> None:
    some = {"full": [run(0, scores=(0.5, 0.5)), run(1, scores=(0.5, 0.6))]}
    assert learning((), some, "full", None).criteria == ()
    single = {"full": [run(0, scores=(0.5,))]}
    answer = learning((), single, "full", None)
    assert answer.criteria == () and answer.validated == 0
    progress = validation_progress(run(scores=(None, None, None)).result)  # type: ignore[arg-type]
    assert progress is not None and (progress.best, progress.step, progress.improved) == (3, 30, True)
    assert most_predicted([result()]) is None


SPEC = StudySpec(name="s", base_model="m", dataset="d", arms=[ArmSpec(method=FullSpec())], seeds=[0, 1])


def trend(start: float, end: float, settles: bool = False) -> LossTrend | None:
    steps = np.linspace(start, end, 60)
    return loss_trend(np.concatenate([steps, np.full(120, end)]) if settles else steps)


def arm(steps: int = 60, data: DataSeen | None = None, diverged: int = 0) -> StudyArm:
    done = result().model_copy(update={"steps": steps, "data": data})
    runs = [RunOutcome(seed, "full", seed, RunStatus.SUCCEEDED, done) for seed in (0, 1)]
    failure = Failure(code=FailureCode.DIVERGED, message="m")
    runs += [RunOutcome(9 + n, "full", 9 + n, RunStatus.FAILED, failure=failure) for n in range(diverged)]
    return compare(SPEC, runs).arms[0]


def data(**changes: int) -> DataSeen:
    usual = {"train_rows": 1000, "truncated_rows": 0, "long_tokens": 90, "contradictory_rows": 0}
    return DataSeen(splits="a", order="b", **usual | changes)


def of(*trends: LossTrend | None, **options: object) -> Causes:
    return causes(arm(**options), dict(enumerate(trends)), 128, 512)  # type: ignore[arg-type]


def kinds(found: tuple[Cause, ...]) -> list[CauseKind]:
    return [cause.kind for cause in found]


def test_too_few_steps_are_likely_in_most_runs_possible_in_some_and_else_ruled_out() -> None:
    found = of(trend(1, 0.7), trend(1, 0.7)).found
    assert kinds(found) == [CauseKind.STEPS] and found[0].likely
    assert (found[0].runs, found[0].of_runs, found[0].steps) == (2, 2, 60)
    assert found[0].loss == (pytest.approx(0.848, abs=0.01), pytest.approx(0.7))
    settled = trend(1, 0.5, settles=True)
    some = of(settled, trend(1, 0.7))
    assert next(cause for cause in some.found if cause.kind is CauseKind.STEPS).likely is False
    none = of(settled, settled)
    assert CauseKind.STEPS in kinds(none.ruled_out)
    found = of(None, None, steps=4).found
    assert kinds(found) == [CauseKind.STEPS] and found[0].likely and found[0].loss is None


def test_a_rising_loss_or_a_diverged_run_means_too_high_a_rate() -> None:
    [cause, *_rest] = of(trend(1, 1.5), trend(1, 1.4)).found
    assert (cause.kind, cause.direction, cause.likely, cause.runs) == (CauseKind.LEARNING_RATE, "high", True, 2)
    settled = trend(1, 0.5, settles=True)
    [cause] = of(settled, settled, diverged=1).found
    assert (cause.kind, cause.direction, cause.diverged, cause.of_runs) == (CauseKind.LEARNING_RATE, "high", 1, 3)


def test_a_loss_that_hardly_fell_means_too_low_a_rate_and_one_that_settled_leaves_both() -> None:
    slow = of(trend(1, 0.95), trend(1, 0.96)).found
    assert kinds(slow) == [CauseKind.STEPS, CauseKind.LEARNING_RATE]
    assert slow[1].direction == "low" and not slow[1].likely
    stuck = of(trend(1, 0.99, settles=True), trend(1, 0.99, settles=True)).found
    assert stuck[0].direction == "low" and stuck[0].likely
    [both] = of(trend(1, 0.5, settles=True), trend(1, 0.5, settles=True)).found
    assert both.direction == "unknown" and not both.likely


@pytest.mark.parametrize(("rows", "cause", "likely"), [(249, False, False), (250, True, False), (500, True, True)])
def test_truncated_rows(rows: int, cause: bool, likely: bool) -> None:
    settled = trend(1, 0.5, settles=True)
    answer = of(settled, settled, data=data(truncated_rows=rows, long_tokens=300))
    [checked] = [c for c in (*answer.found, *answer.ruled_out) if c.kind is CauseKind.MAX_LENGTH]
    assert (checked in answer.found, checked.likely) == (cause, likely)
    assert checked.share == rows / 1000 and checked.max_length == 320


@pytest.mark.parametrize(("rows", "cause", "likely"), [(49, False, False), (50, True, False), (200, True, True)])
def test_contradictory_rows(rows: int, cause: bool, likely: bool) -> None:
    settled = trend(1, 0.5, settles=True)
    answer = of(settled, settled, data=data(contradictory_rows=rows))
    [checked] = [c for c in (*answer.found, *answer.ruled_out) if c.kind is CauseKind.LABELS]
    assert (checked in answer.found, checked.likely) == (cause, likely)


def test_likely_causes_come_first_and_what_was_not_measured_is_none() -> None:
    answer = of()
    assert answer.found == () and answer.ruled_out == ()
    old = of(data=DataSeen(splits="a", order="b"))
    assert old.found == () and old.ruled_out == ()
    answer = of(trend(1, 0.95), trend(1, 0.5, settles=True), data=data(truncated_rows=600, contradictory_rows=60))
    likely = [cause.likely for cause in answer.found]
    assert likely == sorted(likely, reverse=True) and answer.found[0].kind is CauseKind.MAX_LENGTH
    answer = causes(arm(data=data(truncated_rows=600, long_tokens=300)), {}, 128, 128)
    assert answer.found[0].remedy is None


def test_remedies_change_one_thing_and_keep_the_epochs_of_an_arm() -> None:
    more = remedied(SPEC, "steps", None, None)
    assert more.training.num_train_epochs == 4 * SPEC.training.num_train_epochs
    capped = SPEC.model_copy(update={"training": SPEC.training.model_copy(update={"max_steps": 30})})
    assert remedied(capped, "steps", None, None).training.max_steps == 120
    search = remedied(SPEC, "learning-rate", None, None)
    assert search.tuning == GridTuning(rates=5) and search.training == SPEC.training
    known = [
        remedied(SPEC, "max-length", tokens, most).training.max_length for tokens, most in ((246, 512), (700, 512))
    ]
    assert known == [256, 512]
    assert remedied(SPEC, "max-length", None, None).training.max_length == 2 * SPEC.training.max_length
    assert remedied(SPEC, "labels", None, None).dataset == ""
    own = SPEC.model_copy(update={"arms": [ArmSpec(method=FullSpec(), num_train_epochs=3)]})
    assert remedied(own, "steps", None, None).arms[0].num_train_epochs == 12


@pytest.mark.parametrize("name", ["num_train_epochs", "max_steps"])
def test_more_steps_are_also_those_that_an_arm_searches(name: Parameter) -> None:
    listed = SearchSpace.model_validate({name: [1, 2], "r": [4, 8]})
    ranged = SearchSpace.model_validate({name: {"low": 1, "high": 9, "log": True}})
    arms = [ArmSpec(method=LoraSpec(), search=listed), ArmSpec(method=FullSpec(), search=ranged)]
    first, second = (
        arm.search.dimensions if arm.search else {}
        for arm in remedied(SPEC.model_copy(update={"arms": arms}), "steps", None, None).arms
    )
    assert first == {name: DimensionSpec(values=(4, 8)), "r": DimensionSpec(values=(4, 8))}
    assert second == {name: DimensionSpec(low=4, high=36, log=True)}


def test_a_line_down_is_falling_and_one_up_is_rising() -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, 100)
    down = loss_trend(np.linspace(1.0, 0.6, 100) + noise)
    assert down and down.kind == "falling" and down.steps == 100
    assert down.half_start == pytest.approx(0.8, abs=0.02) and down.half_end == pytest.approx(0.6, abs=0.02)
    assert down.fallen == pytest.approx(0.37, abs=0.03)
    up = loss_trend(np.linspace(0.6, 1.0, 100) + noise)
    assert up and up.kind == "rising" and up.fallen < 0


def test_settled_losses_small_slopes_and_few_steps_are_no_trend() -> None:
    settled = loss_trend(np.concatenate([np.linspace(2, 0.5, 50), np.full(150, 0.5)]))
    assert settled and settled.kind == "flat" and settled.fallen > 0.5
    trend = loss_trend(np.linspace(1.0, 0.985, 20_000))
    assert trend and trend.kind == "flat"
    assert loss_trend(np.linspace(1, 0, FEWEST_STEPS - 1)) is None
    assert loss_trend(np.array([1.0] * 20 + [np.inf])) is None


def test_noise_alone_is_called_a_trend_at_most_at_twice_the_level() -> None:
    """5 % on each side."""
    rng = np.random.default_rng(1)
    trends = [loss_trend(1 + rng.normal(0, 0.2, 60)) for _ in range(400)]
    assert sum(trend is not None and trend.kind != "flat" for trend in trends) / 400 <= 0.14
