"""The Pareto front: who beats whom."""

from hypothesis import given
from hypothesis import strategies as st

from app.domain.comparison.costs.pareto import Better, pareto_front

AXES = {"accuracy": Better.HIGHER, "peak_bytes": Better.LOWER, "train_seconds": Better.LOWER}


def point(accuracy: float | None, peak_bytes: float | None, train_seconds: float | None) -> dict[str, float | None]:
    return {"accuracy": accuracy, "peak_bytes": peak_bytes, "train_seconds": train_seconds}


def test_an_arm_that_another_beats_on_every_axis_is_not_on_the_front() -> None:
    full, lora, clumsy = point(0.90, 400, 60), point(0.89, 150, 27), point(0.88, 200, 28)
    assert pareto_front([full, lora, clumsy], AXES) == [True, True, False]


def test_an_axis_that_was_not_chosen_does_not_count() -> None:
    full, lora = point(0.90, 400, 60), point(0.89, 150, 27)
    assert pareto_front([full, lora], {"accuracy": Better.HIGHER}) == [True, False]


def test_ties_stay() -> None:
    assert pareto_front([point(0.9, 1, 1), point(0.9, 1, 1), point(0.9, 1, 2)], AXES) == [True, True, False]


def test_an_arm_without_a_number_is_not_on_the_front_and_beats_none() -> None:
    points = [point(None, 1, 1), point(0.5, 9, 9), point(float("nan"), 1, 1), {}]
    assert pareto_front(points, AXES) == [False, True, False, False]


def test_without_arms_there_is_no_front() -> None:
    assert pareto_front([], AXES) == []


@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=12))
def test_each_arm_off_the_front_is_beaten_by_one_on_it(values: list[tuple[int, int, int]]) -> None:
    front = pareto_front([point(*v) for v in values], AXES)
    best = [v for v, on in zip(values, front, strict=True) if on]
    assert best
    for v, on in zip(values, front, strict=True):
        beaten = any(o != v and o[0] >= v[0] and o[1] <= v[1] and o[2] <= v[2] for o in best)
        assert beaten != on
