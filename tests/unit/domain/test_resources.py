"""Resource estimates: a device's constants and speed, from past runs."""

import random

import pytest

from app.domain.methods import FullSpec, HeadOnlySpec, LeanFullSpec, LoraSpec
from app.domain.resources.calibration import (
    ASSUMED,
    Calibration,
    CalibrationRun,
    EstimateBand,
    accuracy,
    calibrate,
    memory_fit,
    peak,
    similar_runs,
    speed_of,
    train_seconds,
)
from app.domain.resources.devices import GIB, GPU_MODELS, MIB, WorkerDevice, usable_bytes
from app.domain.resources.savings import SAVINGS, saving_options
from app.domain.resources.speed import REPEATED, USUAL, WIDTH, DeviceRates, Speed, Trained
from app.domain.resources.work import Work
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import Task
from tests.support.rows.estimates import request, work

CLASSES: Task = "sequence-classification"


def calibrated(past: list[CalibrationRun]) -> Calibration:
    """Of full fine-tuning of a classifier on a CPU."""
    return calibrate("cpu", False, past, CLASSES, "full")


def past(*extra: int, rate: float = 1e11) -> list[CalibrationRun]:
    """Runs that needed so many MiB more than was predicted, and did so many operations a second."""
    return [
        CalibrationRun(n, CLASSES, "full", 100 * MIB, (100 + more) * MIB, Trained(work(1e12), 64, 1e12 / rate))
        for n, more in enumerate(extra, start=1)
    ]


def test_without_past_runs_a_constant_is_assumed_and_rates_tell_a_wide_time() -> None:
    found = calibrated([])
    assert (found.runs, found.constant_bytes, found.band_bytes) == (0, *ASSUMED["cpu", False])
    assert train_seconds(work(1e12), 64, speed_of([], DeviceRates())) is None
    told = train_seconds(work(1e12), 64, speed_of([], DeviceRates(1e11)))
    assert told is not None and told.runs == 0 and told.high > 3 * told.low
    known = train_seconds(work(1e12), 64, speed_of(past(30, 30, 30, rate=5e10), DeviceRates(1e11)))
    assert known is not None and known.runs == 3
    assert known.value == pytest.approx(20, rel=0.05) and known.high < 1.5 * known.low
    assert train_seconds(None, 64, speed_of(past(30), DeviceRates(1e11))) is None, "an estimate before work was counted"
    silent = [run._replace(trained=None, rates=DeviceRates(1e11)) for run in past(30)]
    told = train_seconds(work(1e12), 64, speed_of(silent, DeviceRates()))
    assert told is not None and told.runs == 0
    assert told == train_seconds(work(1e12), 64, speed_of([], DeviceRates(1e11)))


def test_the_constant_is_the_median_of_what_past_runs_needed_on_top() -> None:
    found = calibrated(past(30, 31, 32, 33, 90))
    assert (found.runs, found.constant_bytes) == (5, 32 * MIB)
    need = peak(100 * MIB, found)
    assert need.value == 132 * MIB and need.runs == 5
    assert need.low < need.value < need.high


def test_many_runs_that_agree_make_the_band_narrow_but_never_narrower_than_a_hundredth() -> None:
    few, many = (calibrated(past(*[30] * n)) for n in (2, 50))
    assert few.band_bytes > many.band_bytes
    large = peak(10 * GIB, many)
    assert large.high - large.value == pytest.approx(0.01 * large.value)


def test_a_run_is_held_against_an_estimate_that_it_had_no_part_in() -> None:
    [alone] = accuracy("cpu", "x86", "fp32", past(30))
    assert (alone.peak.runs, alone.train) == (1, None)
    assert alone.peak.worst == pytest.approx((100 + ASSUMED["cpu", False][0] / MIB) / 130 - 1)
    pair = past(30, rate=1e11) + past(30, rate=1.2e11)
    [both] = accuracy("cpu", "x86", "fp32", pair, DeviceRates(2e11))
    assert both.train is not None and both.train.runs == 2 and 0.05 < both.train.mean < 0.3
    assert both.peak.worst == pytest.approx(0)


def test_runs_teach_most_of_their_task_and_method() -> None:
    others = past(30, 40)
    own = [CalibrationRun(9, CLASSES, "lora", 50 * MIB, 150 * MIB)]
    assert similar_runs([*others, *own], CLASSES, "lora") == own
    assert similar_runs(others, CLASSES, "lora") == others
    others = [run._replace(task="causal-lm", method="lora") for run in past(57, 58)]
    own = past(41, 42)
    assert similar_runs([*others, *own], CLASSES, "lora") == own
    assert similar_runs(others, CLASSES, "lora") == others
    own, others = past(*[42] * 20), [run._replace(task="causal-lm") for run in past(*[57] * 20)]
    assert calibrated(own).band_bytes < ASSUMED["cpu", False][1] / 5
    strange = calibrated(others)
    assert strange.constant_bytes == 57 * MIB and strange.band_bytes == ASSUMED["cpu", False][1]


@pytest.mark.parametrize(
    ("low", "high", "says"), [(5, 6, "fits"), (5, 8, "tight"), (7.2, 9, "does_not_fit"), (6.4, 6.6, "tight")]
)
def test_it_is_tight_where_the_band_reaches_what_a_host_has_left(low: float, high: float, says: str) -> None:
    need = EstimateBand(value=(low + high) / 2 * GIB, low=low * GIB, high=high * GIB, runs=1)
    assert usable_bytes(8 * GIB, "cpu") == pytest.approx(7.2 * GIB - 700 * MIB)
    host = WorkerDevice(name="w1", kind="cpu", device_name="x86", memory_bytes=8 * GIB, bf16=False)
    assert memory_fit(need, host) == says
    assert memory_fit(need, host.model_copy(update={"memory_bytes": None})) == "unknown"


def test_a_cards_context_and_what_its_allocator_holds_are_taken_off() -> None:
    for gpu in GPU_MODELS:
        assert 0.9 < usable_bytes(gpu.memory_bytes, "cuda") / gpu.memory_bytes * (1.05) < 1
    assert [gpu.memory_bytes for gpu in GPU_MODELS] == sorted(gpu.memory_bytes for gpu in GPU_MODELS)


def test_each_way_out_changes_one_thing_and_says_which() -> None:
    asked = request(training=TrainingArguments(max_length=128))
    found = {way.name: way for way in saving_options(asked)}
    assert set(found) == set(SAVINGS) - {"qlora", "offload"}  # on a card only
    assert found["accumulation"].fields == {
        "training.per_device_train_batch_size": 4,
        "training.gradient_accumulation_steps": 4,
    }
    assert len({way.request.key for way in found.values()} | {asked.key}) == len(found) + 1
    assert "qlora" in {way.name for way in saving_options(request(device="cuda"))}


def test_what_a_run_has_is_no_saving_and_lora_adapts_every_linear_layer() -> None:
    lean = TrainingArguments(gradient_checkpointing=True, per_device_train_batch_size=1, max_length=32)
    assert [way.name for way in saving_options(request(method=HeadOnlySpec(), training=lean, bf16=True))] == []
    assert "lora" not in {way.name for way in saving_options(request(method=LoraSpec()))}
    [way] = [way for way in saving_options(request(method=FullSpec())) if way.name == "lora"]
    assert way.request.method == LoraSpec(r=8, target_modules="all-linear")
    assert way.fields == {"method": {"kind": "lora"}}


def test_lean_full_fine_tuning_that_does_not_fit_is_offered_what_is_leaner() -> None:
    def names(**changes: object) -> set[str]:
        methods = {"lora", "qlora", "adamw-8bit", "lean", "offload"}
        return {option.name for option in saving_options(request(device="cuda", **changes)) if option.name in methods}

    assert names(method=LeanFullSpec()) == {"lora", "qlora", "offload"}
    assert names(method=LeanFullSpec(weight_storage="float32")) == {"lora", "qlora", "lean", "offload"}
    assert names(method=LeanFullSpec(offload_activations=True)) == {"lora", "qlora", "lean"}
    [way] = [way for way in saving_options(request(device="cuda", method=LeanFullSpec())) if way.name == "offload"]
    assert way.fields == {
        "method": {"kind": "lean-full", "offload_activations": True},
        "training.gradient_checkpointing": True,
    }
    assert way.request.method.clash(way.request.training) is None
    exact = TrainingArguments(bf16=False)
    assert names(method=FullSpec(), training=exact) == {"lora", "qlora", "adamw-8bit"}


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
