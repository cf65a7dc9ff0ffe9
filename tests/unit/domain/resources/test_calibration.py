"""What a device adds to a prediction, whether that fits, and what to do where it does not."""

from typing import Any

import pytest

from app.domain.methods import FullSpec, HeadOnlySpec, LeanFullSpec, LoraSpec
from app.domain.resources.calibration import (
    ASSUMED,
    RATE_FACTOR,
    SHARE_FACTOR,
    USUAL_SHARE,
    Calibration,
    CalibrationRun,
    EstimateBand,
    MatmulRates,
    accuracy,
    calibrate,
    leave_one_out_errors,
    memory_fit,
    peak,
    similar_runs,
    train_seconds,
)
from app.domain.resources.devices import GIB, GPU_MODELS, MIB, WorkerDevice, usable_bytes
from app.domain.resources.savings import SAVINGS, saving_options
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import Task
from tests.estimates import request

CLASSES: Task = "sequence-classification"


def calibrated(past: list[CalibrationRun], **more: Any) -> Calibration:
    """Of full fine-tuning of a classifier on a CPU."""
    return calibrate("cpu", False, past, CLASSES, "full", **more)


def past(*extra: int, rate: float = 1e11) -> list[CalibrationRun]:
    """Runs that needed so many MiB more than was predicted."""
    return [
        CalibrationRun(n, CLASSES, "full", 100 * MIB, (100 + more) * MIB, 1e12, 1e12 / rate)
        for n, more in enumerate(extra, start=1)
    ]


def test_before_a_device_has_made_a_run_a_constant_is_assumed_and_no_time_is_told() -> None:
    found = calibrated([])
    assert (found.runs, found.constant_bytes, found.band_bytes) == (0, *ASSUMED["cpu", False])
    assert train_seconds(10**12, found) is None


def test_before_that_the_devices_matrix_product_tells_a_time_within_a_wide_band() -> None:
    found = calibrated([], rates=MatmulRates(1e11))
    told = train_seconds(3 * 10**11, found)
    assert told is not None and told.runs == 0
    assert told.value == pytest.approx(3 / USUAL_SHARE) and told.high == pytest.approx(9 * told.low)
    known = calibrated(past(30, rate=5e10), rates=MatmulRates(1e11))
    assert known.rate is not None and known.rate.value == pytest.approx(5e10) and known.rate.runs == 1


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


def test_time_follows_the_rate_that_training_reached_there() -> None:
    found = calibrated(past(30, rate=1e11) + past(30, rate=2e11) + past(30, rate=4e11))
    told = train_seconds(4 * 10**12, found)
    assert told is not None
    assert told.value == pytest.approx(20) and told.low < told.value < told.high


def test_a_run_is_held_against_an_estimate_that_it_had_no_part_in() -> None:
    [alone] = accuracy("cpu", "x86", "fp32", past(30))
    assert (alone.peak.runs, alone.train) == (1, None)
    assert alone.peak.worst == pytest.approx((100 + ASSUMED["cpu", False][0] / MIB) / 130 - 1)
    [with_rates] = accuracy("cpu", "x86", "fp32", past(30, rate=1e11), MatmulRates(2e11))
    assert with_rates.train is not None and with_rates.train.worst == pytest.approx(1 / (2 * USUAL_SHARE) - 1)
    *others, last = past(30, 30, 60)
    bytes_error, seconds_error = leave_one_out_errors(last, calibrated(others))
    assert bytes_error == pytest.approx((130 - 160) / 160)
    assert seconds_error == pytest.approx(0)


def test_runs_of_the_same_method_teach_more_than_others() -> None:
    others = past(30, 40)
    own = [CalibrationRun(9, CLASSES, "lora", 50 * MIB, 150 * MIB, 1e12, 1.0)]
    assert similar_runs([*others, *own], CLASSES, "lora") == own
    assert similar_runs(others, CLASSES, "lora") == others


def test_runs_on_the_same_task_teach_more_than_those_of_the_same_method() -> None:
    others = [run._replace(task="causal-lm", method="lora") for run in past(57, 58)]
    own = past(41, 42)
    assert similar_runs([*others, *own], CLASSES, "lora") == own
    assert similar_runs(others, CLASSES, "lora") == others


def test_runs_on_another_task_leave_the_band_as_wide_as_it_was_assumed() -> None:
    own, others = past(*[42] * 20), [run._replace(task="causal-lm") for run in past(*[57] * 20)]
    assert calibrated(own).band_bytes < ASSUMED["cpu", False][1] / 5
    strange = calibrated(others)
    assert strange.constant_bytes == 57 * MIB and strange.band_bytes == ASSUMED["cpu", False][1]


def test_a_few_runs_of_one_speed_do_not_make_a_time_certain() -> None:
    widths = []
    for runs in (1, 3, 50):
        told = train_seconds(10**12, calibrated(past(*[30] * runs)))
        assert told is not None and told.runs == runs
        assert told.high / told.value == pytest.approx(told.value / told.low)
        widths.append(told.high / told.value)
    assert RATE_FACTOR > widths[0] > widths[1] > widths[2] >= 1.01
    uneven = train_seconds(10**12, calibrated(past(30, rate=1e11) * 20 + past(30, rate=4e11) * 20))
    assert uneven is not None and uneven.high / uneven.low > 3.5


def test_other_models_tell_the_share_of_the_matrix_product_that_this_one_reaches() -> None:
    """A model with wide layers reaches more operations a second than one with narrow layers."""
    narrow = [run._replace(model="narrow", width=64) for run in past(30, 30, rate=1e10)]
    rates = MatmulRates(peak=1e11, by_width={64: 2e10, 1024: 1e11})
    wide = calibrated(narrow, rates=rates, model="wide", width=1024).rate
    assert wide is not None and wide.value == pytest.approx(5e10) and wide.factor == pytest.approx(SHARE_FACTOR)
    between = calibrated(narrow, rates=rates, model="wide", width=256).rate
    assert between is not None and between.value == pytest.approx(0.5 * (2e10 * 1e11) ** 0.5)
    own = calibrated(narrow, rates=rates, model="narrow", width=64).rate
    assert own is not None and own.value == pytest.approx(1e10) and own.factor < RATE_FACTOR
    unmeasured = calibrated(narrow, model="wide", width=1024).rate
    assert unmeasured is not None and unmeasured.value == pytest.approx(1e10)
    assert unmeasured.factor == pytest.approx(SHARE_FACTOR)


def test_without_past_runs_the_rate_at_the_models_width_counts() -> None:
    rates = MatmulRates(peak=1e11, by_width={64: 2e10, 1024: 1e11})
    found = calibrated([], rates=rates, width=64).rate
    assert found is not None and found.value == pytest.approx(2e10 * USUAL_SHARE) and found.runs == 0


def test_runs_that_tell_no_rate_leave_it_to_the_matrix_product() -> None:
    silent = [run._replace(estimated_flops=0.0) for run in past(30)]
    told = train_seconds(10**12, calibrated(silent, rates=MatmulRates(1e11)))
    assert told is not None and told.runs == 0 and told.value == pytest.approx(10 / USUAL_SHARE)
    assert train_seconds(10**12, calibrated(silent)) is None


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


def test_what_a_run_has_already_is_no_way_out() -> None:
    lean = TrainingArguments(gradient_checkpointing=True, per_device_train_batch_size=1, max_length=32)
    assert [way.name for way in saving_options(request(method=HeadOnlySpec(), training=lean, bf16=True))] == []
    assert "lora" not in {way.name for way in saving_options(request(method=LoraSpec()))}


def test_lora_as_a_way_out_adapts_every_linear_layer() -> None:
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
