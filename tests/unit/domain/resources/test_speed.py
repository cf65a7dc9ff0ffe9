"""The time that work takes: from measured rates, from past runs, and between them."""

import random

import pytest

from app.domain.resources.speed import REPEATED, USUAL, WIDTH, DeviceRates, Speed, Trained
from app.domain.resources.work import Work

RATES = DeviceRates(1e11, {64: 2e10, 1024: 1e11}, 20_000.0, 2e10)
COSTS = (8e-5, 4e-11, 1.2e-11)
"""Seconds for a call, a byte and an operation, of a device that differs from what its rates say."""
SMALL, LONG, WIDE = Work(60_000, 3e10, 7e11), Work(60_000, 1.5e11, 4e12), Work(60_000, 6e11, 6e12)
UNKNOWN = Work(30_000, 1e11, 1e13)


def seconds(work: Work, slower: float = 1.0) -> float:
    """On that device."""
    return slower * sum(amount * cost for amount, cost in zip(work, COSTS, strict=True))


def run(work: Work, *, slower: float = 1.0, waiting: float = 0.0) -> Trained:
    """A past run of it."""
    return Trained(work, 1024, seconds(work, slower), waiting)


def test_without_past_runs_the_measured_rates_tell_a_time_within_a_wide_range() -> None:
    found = Speed(RATES, []).of(LONG, 1024)
    calls, moved, products = USUAL
    expected = calls * LONG.calls / 20_000 + moved * LONG.bytes / 2e10 + products * LONG.flops / 1e11
    assert found.value == pytest.approx(expected) and found.runs == 0 and found.factor > 1.3
    assert Speed(RATES, []).of(LONG, 64).value > 2 * found.value, "narrow layers reach fewer operations a second"
    assert Speed(DeviceRates(peak=1e11), []).of(LONG, 1024).factor > found.factor


def test_runs_on_short_rows_tell_the_time_of_long_ones() -> None:
    """Not by seconds per operation: on short rows most of the time is that of the calls."""
    short = [run(SMALL, slower=1 + 0.02 * n) for n in (-1, 0, 1)]
    found = Speed(RATES, short).of(LONG, 1024)
    per_operation = seconds(SMALL) / SMALL.flops * LONG.flops
    assert per_operation > 1.35 * seconds(LONG)
    assert found.value == pytest.approx(seconds(LONG), rel=0.12)
    assert found.value / found.factor < seconds(LONG) < found.value * found.factor


def test_past_runs_narrow_the_range_most_for_work_that_is_like_theirs() -> None:
    before = Speed(RATES, []).of(SMALL, 1024).factor
    after = Speed(RATES, [run(SMALL)] * 8)
    assert 1 + WIDTH * REPEATED < after.of(SMALL, 1024).factor < after.of(LONG, 1024).factor
    assert after.of(SMALL, 1024).factor < before
    assert after.of(SMALL, 1024).value == pytest.approx(seconds(SMALL), rel=0.02)


def test_a_range_covers_most_runs_of_other_work() -> None:
    draw, inside = random.Random(0), 0
    for _ in range(200):
        costs = [draw.lognormvariate(0, 0.25) for _ in COSTS]
        own = [Work(*(a * c for a, c in zip(work, costs, strict=True))) for work in (SMALL, LONG, UNKNOWN)]
        times = [seconds(work, draw.lognormvariate(0, 0.1)) for work in own]
        past = [Trained(work, 1024, time) for work, time in zip((SMALL, LONG), times, strict=False)]
        found = Speed(RATES, past).of(UNKNOWN, 1024)
        inside += found.value / found.factor <= times[-1] <= found.value * found.factor
    assert inside >= 160


def test_a_run_counts_with_the_seconds_in_which_all_of_its_threads_had_a_processor() -> None:
    assert Trained(SMALL, 1024, 20.0, waiting=5.0).own_seconds == pytest.approx(15.0)
    assert Trained(SMALL, 1024, 20.0, waiting=10.0, threads=2).own_seconds == pytest.approx(20 * 0.75**2)
    idle = Speed(RATES, [run(SMALL)] * 3).of(SMALL, 1024).value
    loaded = Trained(SMALL, 1024, 3 * seconds(SMALL), waiting=2 * seconds(SMALL))
    found = Speed(RATES, [loaded] * 3).of(SMALL, 1024)
    assert found.value == pytest.approx(idle, rel=0.15), "not three times as long"
    believed = Speed(RATES, [run(SMALL)] * 3).of(SMALL, 1024)
    assert found.factor > believed.factor
    mixed = Speed(RATES, [run(SMALL)] * 3 + [run(SMALL, slower=2.0, waiting=0.5 * seconds(SMALL))] * 3)
    assert mixed.of(SMALL, 1024).value == pytest.approx(idle, rel=0.1)


def test_a_run_that_fits_none_of_the_others_counts_little() -> None:
    usual = Speed(RATES, [run(SMALL)] * 5).of(SMALL, 1024).value
    assert Speed(RATES, [run(SMALL)] * 5 + [run(SMALL, slower=5.0)]).of(SMALL, 1024).value < 1.1 * usual


def test_of_several_measurements_the_best_counts_since_load_only_lowers_them() -> None:
    loaded = DeviceRates(3e10, {64: 1e9, 256: 4e10}, 30_000.0)
    assert DeviceRates.best([RATES, loaded]) == DeviceRates(1e11, {64: 2e10, 256: 4e10, 1024: 1e11}, 30_000.0, 2e10)
    assert DeviceRates.best([]) == DeviceRates()


def test_an_estimate_of_a_past_run_is_from_the_others() -> None:
    past = [run(SMALL, slower=slower) for slower in (0.9, 1.0, 1.1, 1.3)] + [run(LONG)]
    errors = Speed(RATES, past).left_out_errors()
    for place, error in enumerate(errors):
        others = Speed(RATES, [*past[:place], *past[place + 1 :]])
        own = past[place].own_seconds
        assert error == pytest.approx(others.of(past[place].work, 1024).value / own - 1, abs=0.06)
    assert Speed(RATES, past[:1]).left_out_errors() == []
