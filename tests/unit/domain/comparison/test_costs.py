"""Costs of a comparison: where one arm becomes cheaper than another, and which are Pareto-optimal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.comparison.costs.break_even import GIB, Line, Prices, Upkeep, cheaper_from, cost, stored
from app.domain.comparison.costs.pareto import Better, pareto_front

FULL = Upkeep(seconds=7200, task_bytes=4 * GIB)
LORA = Upkeep(seconds=3600, task_bytes=GIB / 64, base_bytes=4 * GIB)


def test_adapters_take_less_room_from_the_second_task_on() -> None:
    # one task: 4 + 1/64 GiB against 4; two tasks: 4 + 2/64 against 8
    assert cheaper_from(stored(LORA), stored(FULL)) == 2
    assert stored(LORA).at(10) == 4 * GIB + 10 * GIB / 64
    assert stored(FULL).at(10) == 40 * GIB


def test_hours_and_storage_are_added_up() -> None:
    prices = Prices(hour=2.0, gib_month=0.1, months=12)
    # full: 2 h · 2 + 4 GiB · 0.1 · 12 = 4 + 4.8; LoRA: 4.8 once, 1 h · 2 + 1.2/64 a task
    assert cost(FULL, prices) == Line(0.0, pytest.approx(8.8))
    assert cost(LORA, prices) == Line(pytest.approx(4.8), pytest.approx(2.01875))
    # 4.8 / (8.8 − 2.01875) = 0.708: from the first task on
    assert cheaper_from(cost(LORA, prices), cost(FULL, prices)) == 1


def test_energy_is_priced_by_the_kilowatt_hour() -> None:
    drawn = Upkeep(seconds=7200, task_bytes=0, joules=5.4e6)
    # 1.5 kWh · 0.4, beside 2 h · 2
    assert cost(drawn, Prices(kwh=0.4)) == Line(0.0, pytest.approx(0.6))
    assert cost(drawn, Prices(kwh=0.4, hour=2.0)) == Line(0.0, pytest.approx(4.6))
    assert cost(FULL, Prices(kwh=0.4)) == Line(0.0, 0.0)  # nobody counted


def test_hours_alone_are_cheaper_from_the_first_task_or_never() -> None:
    hours = Prices(hour=1.0)
    slow = Upkeep(seconds=9000, task_bytes=1, base_bytes=4 * GIB)
    assert cheaper_from(cost(LORA, hours), cost(FULL, hours)) == 1
    assert cheaper_from(cost(slow, hours), cost(FULL, hours)) is None


def test_a_line_is_cheaper_from_the_task_after_the_crossing_and_equal_lines_never() -> None:
    assert cheaper_from(Line(4.0, 1.0), Line(0.0, 3.0)) == 3  # at 2 both take 6
    assert cheaper_from(Line(1.0, 2.0), Line(1.0, 2.0)) is None
    assert cheaper_from(Line(0.5, 2.0), Line(1.0, 2.0)) == 1


@given(*[st.integers(0, 50)] * 4)
def test_it_is_cheaper_from_there_on_and_not_just_before(a: int, b: int, c: int, d: int) -> None:
    one, other = Line(a, b), Line(c, d)
    found = cheaper_from(one, other)
    if found is None:
        assert one.at(10_000) >= other.at(10_000)
    else:
        assert all(one.at(n) < other.at(n) for n in range(found, found + 60))
        assert found == 1 or one.at(found - 1) >= other.at(found - 1)


AXES = {"accuracy": Better.HIGHER, "peak_bytes": Better.LOWER, "train_seconds": Better.LOWER}


def point(accuracy: float | None, peak_bytes: float | None, train_seconds: float | None) -> dict[str, float | None]:
    return {"accuracy": accuracy, "peak_bytes": peak_bytes, "train_seconds": train_seconds}


def test_the_front_has_what_no_arm_beats_on_the_chosen_axes_and_keeps_ties() -> None:
    full, lora, clumsy = point(0.90, 400, 60), point(0.89, 150, 27), point(0.88, 200, 28)
    assert pareto_front([full, lora, clumsy], AXES) == [True, True, False]
    full, lora = point(0.90, 400, 60), point(0.89, 150, 27)
    assert pareto_front([full, lora], {"accuracy": Better.HIGHER}) == [True, False]
    assert pareto_front([point(0.9, 1, 1), point(0.9, 1, 1), point(0.9, 1, 2)], AXES) == [True, True, False]
    points = [point(None, 1, 1), point(0.5, 9, 9), point(float("nan"), 1, 1), {}]
    assert pareto_front(points, AXES) == [False, True, False, False]
    assert pareto_front([], AXES) == []


@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=12))
def test_each_arm_off_the_front_is_beaten_by_one_on_it(values: list[tuple[int, int, int]]) -> None:
    front = pareto_front([point(*v) for v in values], AXES)
    best = [v for v, on in zip(values, front, strict=True) if on]
    assert best
    for v, on in zip(values, front, strict=True):
        beaten = any(o != v and o[0] >= v[0] and o[1] <= v[1] and o[2] <= v[2] for o in best)
        assert beaten != on
