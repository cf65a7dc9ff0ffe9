"""Why nothing was learned: each cause by what was measured of it, and the most likely one first."""

import numpy as np
import pytest

from app.domain.comparison.learning.causes import Cause, CauseKind, Causes, causes
from app.domain.comparison.learning.loss_trend import LossTrend, loss_trend
from app.domain.comparison.model import RunOutcome
from app.domain.comparison.study import StudyArm, compare
from app.domain.failures import Failure, FailureCode
from app.domain.methods import FullSpec, LoraSpec
from app.domain.runs.result import DataSeen
from app.domain.runs.status import RunStatus
from app.domain.studies.arms import ArmSpec
from app.domain.studies.remedies import remedied
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.search_space import DimensionSpec, Parameter, SearchSpace
from app.domain.studies.tuning.tuning import GridTuning
from tests.support.rows.results import result

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


def test_a_loss_that_still_falls_means_too_few_steps() -> None:
    found = of(trend(1, 0.7), trend(1, 0.7)).found
    assert kinds(found) == [CauseKind.STEPS] and found[0].likely
    assert (found[0].runs, found[0].of_runs, found[0].steps) == (2, 2, 60)
    assert found[0].loss == (pytest.approx(0.848, abs=0.01), pytest.approx(0.7))


def test_in_a_minority_of_runs_it_is_possible_and_in_none_it_is_ruled_out() -> None:
    settled = trend(1, 0.5, settles=True)
    some = of(settled, trend(1, 0.7))
    assert next(cause for cause in some.found if cause.kind is CauseKind.STEPS).likely is False
    none = of(settled, settled)
    assert CauseKind.STEPS in kinds(none.ruled_out)


def test_a_handful_of_steps_is_too_few_without_any_trend() -> None:
    found = of(None, None, steps=4).found
    assert kinds(found) == [CauseKind.STEPS] and found[0].likely and found[0].loss is None


def test_a_loss_that_ended_above_its_beginning_means_too_high_a_rate() -> None:
    [cause, *_rest] = of(trend(1, 1.5), trend(1, 1.4)).found
    assert (cause.kind, cause.direction, cause.likely, cause.runs) == (CauseKind.LEARNING_RATE, "high", True, 2)


def test_a_run_that_diverged_means_too_high_a_rate_too() -> None:
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


def test_what_was_not_measured_is_neither_a_cause_nor_ruled_out() -> None:
    answer = of()
    assert answer.found == () and answer.ruled_out == ()
    old = of(data=DataSeen(splits="a", order="b"))
    assert old.found == () and old.ruled_out == ()


def test_likely_causes_come_first() -> None:
    answer = of(trend(1, 0.95), trend(1, 0.5, settles=True), data=data(truncated_rows=600, contradictory_rows=60))
    likely = [cause.likely for cause in answer.found]
    assert likely == sorted(likely, reverse=True) and answer.found[0].kind is CauseKind.MAX_LENGTH


def test_a_model_that_reads_no_more_has_no_remedy_for_its_max_length() -> None:
    answer = causes(arm(data=data(truncated_rows=600, long_tokens=300)), {}, 128, 128)
    assert answer.found[0].remedy is None


def test_remedies_change_one_thing() -> None:
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


def test_more_steps_are_also_those_of_an_arm_with_epochs_of_its_own() -> None:
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
