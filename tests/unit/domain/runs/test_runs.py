"""Runs: devices, how attempts end, which train together, confusion matrices, and curves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.domain.failures import FAILURES, Failure, FailureCode
from app.domain.methods import FullSpec, LeanFullSpec, LoraSpec, MethodSpec
from app.domain.resources.estimate import Lengths, ResourceEstimate
from app.domain.resources.ledger import Ledger, owners
from app.domain.runs.confusion import Answers, Confusion
from app.domain.runs.curves.downsampling import lttb
from app.domain.runs.curves.smoothing import seed_band, smoothed, still_falling, usual_factor
from app.domain.runs.ending import Cancel, Decision, End, Fail, Finish, HandBack, Orders, Retry, decide
from app.domain.runs.job import FailureReport, ResultReport
from app.domain.runs.spec import RunSpec
from app.domain.runs.together import can_train_together, group_peak_bytes, most_members, same_shapes
from app.domain.runs.training import TrainingArguments, TrainingBudget
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.search_space import Configuration
from tests.support.rows.results import result


def training(devices: int, batches: int, size: int = 8) -> TrainingBudget:
    return TrainingBudget(
        gradient_accumulation_steps=batches, per_device_train_batch_size=size, devices=devices, max_steps=4
    )


def study(budget: TrainingBudget, *arms: ArmSpec) -> StudySpec:
    return StudySpec(name="s", base_model="bert", dataset="words", arms=list(arms), training=budget)


def problem(error: pytest.ExceptionInfo[ValidationError]) -> tuple[str, str]:
    [found] = error.value.errors()
    path = ".".join([*map(str, found["loc"]), found["ctx"]["path"]])
    return path, f"{found['msg']}. {found['ctx']['remedy']}"


def test_devices_divide_the_batches_of_a_step() -> None:
    assert training(2, 4).devices == 2
    assert training(1, 3).devices == 1
    assert TrainingArguments().devices == 1


@pytest.mark.parametrize(
    ("size", "remedy"),
    [
        (8, "set gradient_accumulation_steps to 2 and per_device_train_batch_size to 12"),
        (5, "Choose a number of rows per optimizer step that is a multiple of 2"),
    ],
)
def test_the_remedy_keeps_the_rows_of_a_step(size: int, remedy: str) -> None:
    with pytest.raises(ValidationError) as error:
        training(2, 3, size)
    path, message = problem(error)
    assert path == "devices" and remedy in message


def test_what_cannot_be_distributed_is_refused_by_name() -> None:
    with pytest.raises(ValidationError) as error:
        TrainingBudget(devices=2, gradient_accumulation_steps=2, padding_free=True)
    path, message = problem(error)
    assert path == "devices" and "padding_free" in message
    clash = LeanFullSpec().clash(training(2, 2))
    assert clash is not None and clash.path == "training.devices" and "lean full" in str(clash.message)
    assert LeanFullSpec().clash(training(1, 2)) is None
    assert FullSpec().clash(training(2, 2)) is None


def test_an_arm_has_its_own_devices_which_divide_a_searched_batch_size() -> None:
    full, lora = ArmSpec(method=FullSpec(), devices=2), ArmSpec(method=LoraSpec())
    runs = study(training(1, 2), full, lora).owed()
    assert {run.arm: run.spec.training.devices for run in runs} == {"full": 2, lora.label: 1}
    arm = ArmSpec(method=FullSpec())
    settled = arm.at(Configuration(batch_size=16), training(2, 2, size=16))
    assert (settled.per_device_train_batch_size, settled.gradient_accumulation_steps) == (8, 2)


@pytest.mark.parametrize(
    ("budget", "arm", "path"),
    [
        (training(1, 1), ArmSpec(method=FullSpec(), devices=2), "arms.0.devices"),
        (
            training(2, 2),
            ArmSpec(method=FullSpec(), gradient_accumulation_steps=1),
            "arms.0.gradient_accumulation_steps",
        ),
    ],
)
def test_an_arm_that_its_devices_cannot_divide_is_named(budget: TrainingBudget, arm: ArmSpec, path: str) -> None:
    with pytest.raises(ValidationError) as error:
        study(budget, arm)
    assert problem(error)[0] == path


RESULT = result()
DIVERGED = Failure(code=FailureCode.DIVERGED, message="The loss became NaN.")
NO_MEMORY = Failure(code=FailureCode.OUT_OF_MEMORY, message="No memory.")
CANCEL, DRAIN, PAUSE, NONE = Orders(cancel=True), Orders(drain=True), Orders(pause=True), Orders()


def plain(code: FailureCode) -> Failure:
    return Failure(code=code, message=FAILURES[code])


def alone(why: str) -> HandBack:
    return HandBack(f"{why}; the run trains alone from now on")


def said(report: ResultReport | FailureReport, *, lost_gpu: bool = False) -> End:
    return End("w1", report=report, lost_gpu=lost_gpu)


DONE, FAILED, FULL = ResultReport(result=RESULT), FailureReport(failure=DIVERGED), FailureReport(failure=NO_MEMORY)
SIGNALLED = End("w1", status=-9, killed=True)


@pytest.mark.parametrize(
    ("end", "orders", "others", "decision"),
    [
        (said(DONE), NONE, False, Finish(RESULT)),
        (said(DONE, lost_gpu=True), CANCEL, True, Finish(RESULT)),
        (said(FAILED), NONE, False, Fail(DIVERGED)),
        (said(FAILED), CANCEL, True, Fail(DIVERGED)),
        (said(FULL), NONE, False, Fail(NO_MEMORY)),
        (said(FULL), NONE, True, alone("No memory")),
        (said(FAILED, lost_gpu=True), DRAIN, False, Retry(plain(FailureCode.DEVICE_LOST))),
        (End("w1", status=-9, killed=True, lost_gpu=True), NONE, True, Retry(plain(FailureCode.DEVICE_LOST))),
        (End("w1", lost_gpu=True), CANCEL, False, Cancel()),
        (End("w1"), Orders(cancel=True, drain=True), False, Cancel()),
        (End("w1"), DRAIN, False, HandBack("w1 is shutting down")),
        (End("w1"), PAUSE, True, HandBack("it was paused")),
        (End("w1"), Orders(drain=True, pause=True), False, HandBack("w1 is shutting down")),
        (End("w1", stalled=True), PAUSE, False, HandBack("it was paused")),
        (End("w1", alone="Its batch differs."), NONE, True, alone("Its batch differs")),
        (SIGNALLED, NONE, False, Retry(plain(FailureCode.KILLED))),
        (SIGNALLED, NONE, True, alone("the trainer of its group ended with status -9")),
        (End("w1", status=-9, killed=True, oom_killed=True), NONE, False, Retry(plain(FailureCode.HOST_OOM))),
        (End("w1", status=-9, killed=True, stalled=True), NONE, False, Fail(plain(FailureCode.STALLED))),
        (End("w1", stalled=True), NONE, True, alone(FAILURES[FailureCode.STALLED].rstrip("."))),
    ],
)
def test_how_an_attempt_ends(end: End, orders: Orders, others: bool, decision: Decision) -> None:
    assert decide(end, orders, others=others) == decision


def test_a_trainer_that_ends_without_a_reason_is_an_internal_error_that_names_its_status() -> None:
    decision = decide(End("w1", status=3), NONE, others=False)
    assert isinstance(decision, Fail) and decision.failure.code is FailureCode.INTERNAL
    assert "status 3" in decision.failure.message


MIB = 2**20


def spec(method: MethodSpec | None = None, **training: object) -> RunSpec:
    arguments = TrainingArguments.model_validate(training)
    return RunSpec(base_model="tiny", dataset="words", method=method or LoraSpec(), training=arguments)


@pytest.mark.parametrize(
    ("one", "possible"),
    [
        (spec(), True),
        (spec(LoraSpec(use_rslora=True, loraplus_lr_ratio=16)), True),
        (spec(FullSpec()), False),
        (spec(LoraSpec(use_dora=True)), False),
        (spec(LoraSpec(init_lora_weights="pissa")), False),
        (spec(LoraSpec(bias="all")), False),
        (spec(packing=True), False),
        (spec(padding_free=True), False),
        (spec(devices=2, gradient_accumulation_steps=2), False),
    ],
)
def test_plain_lora_can_train_together(one: RunSpec, possible: bool) -> None:
    assert can_train_together(one) is possible


def test_a_loss_that_compares_the_rows_of_a_batch_is_not_shared() -> None:
    assert not can_train_together(spec().model_copy(update={"task": "sentence-embeddings"}))


def test_members_differ_in_seed_rate_schedule_and_scaling_only() -> None:
    one = spec(LoraSpec(r=8, lora_alpha=16), learning_rate=1e-4)
    assert same_shapes(one, spec(LoraSpec(r=8, lora_alpha=32), learning_rate=1e-3, warmup_steps=5, weight_decay=0.1))
    assert not same_shapes(one, spec(LoraSpec(r=16, lora_alpha=16)))
    assert not same_shapes(one, spec(LoraSpec(r=8, lora_dropout=0.1)))
    assert not same_shapes(one, spec(LoraSpec(r=8), per_device_train_batch_size=8))
    assert same_shapes(one, spec(LoraSpec(r=8), seed=1))


def estimate(weights: int, others: int, trainable: int) -> ResourceEstimate:
    ledger = Ledger(
        kind="estimated",
        owners=owners({"weights": weights, "activations": others}),
        moment="backward",
        rows=4,
        length=16,
    )
    return ResourceEstimate(
        ledger=ledger,
        phases={"load": weights, "baseline": 0, "train": ledger.total, "evaluate": 0},
        lengths=Lengths(source="max_length", rows=0, longest=16, mean=16),
        step_flops=1,
        train_flops=0,
        steps=10,
        trainable=trainable,
        total=weights // 4,
        file_bytes=1,
        seconds=0.1,
    )


def test_a_group_has_one_base_model_and_everything_else_for_each_member() -> None:
    one = estimate(weights=100 * MIB + 4 * MIB, others=30 * MIB, trainable=MIB)
    assert [group_peak_bytes(one, members) for members in (1, 2, 8)] == [
        (100 + members * (4 + 30 + 8)) * MIB for members in (1, 2, 8)
    ]
    assert most_members(one, usable_bytes=300 * MIB, constant=50 * MIB) == 3
    assert group_peak_bytes(one, 3) + 50 * MIB <= 300 * MIB < group_peak_bytes(one, 4) + 50 * MIB
    assert most_members(one, usable_bytes=10 * MIB, constant=0) == 1


def test_pairs_are_counted() -> None:
    confusion = Confusion.of([0, 0, 0, 1, 2], [0, 1, 1, 1, 0])
    assert confusion.answers == [Answers(0, 0, 1), Answers(0, 1, 2), Answers(1, 1, 1), Answers(2, 0, 1)]
    assert confusion.items == 5
    assert confusion.labels == {0: 3, 1: 1, 2: 1}
    assert confusion.predictions == {0: 2, 1: 3}
    assert confusion.errors == [Answers(0, 1, 2), Answers(2, 0, 1)]
    assert confusion.most_predicted == (1, 0.6)


NUMBERS = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([np.nan, np.inf, -np.inf]))


@given(st.lists(NUMBERS, max_size=500), st.integers(3, 100))
def test_at_most_so_many_points_in_order_with_both_ends(values: list[float], points: int) -> None:
    n = len(values)
    kept = lttb(np.arange(n, dtype=float), np.array(values, dtype=float), points)
    assert len(kept) == min(n, points)
    assert n == 0 or (kept[0], kept[-1]) == (0, n - 1)
    assert (np.diff(kept) > 0).all()


@given(st.integers(0, 9_999), st.sampled_from([1.0, -1.0]))
def test_a_single_spike_survives(place: int, height: float) -> None:
    y = np.zeros(10_000)
    y[place] = height
    assert place in lttb(np.arange(10_000.0), y, 100)


def test_points_span_the_largest_triangle_at_their_places() -> None:
    """By hand, of nine points in five: the buckets are the second and third, fourth and fifth, sixth to eighth."""
    x, y = np.arange(9.0), np.array([0, 1, 5, 4, -3, 2, 0, 9, 1], dtype=float)
    assert lttb(x, y, 5).tolist() == [0, 2, 4, 7, 8]
    y = np.array([0.0, 0.0, 8.5, 10.0])
    assert lttb(np.array([0.0, 1.0, 9.0, 10.0]), y, 3).tolist() == [0, 1, 3]
    assert lttb(np.array([0.0, 0.2, 9.0, 10.0]), y, 3).tolist() == [0, 2, 3]


def test_values_that_are_not_finite_push_out_no_others_and_keep_their_places() -> None:
    """One in ten of a curve far from zero: what is kept shows the curve nearly everywhere, and its spike."""
    y = 5 + np.random.default_rng(0).normal(size=10_000)
    y[::10] = np.nan
    y[4321] = 50
    kept = lttb(np.arange(10_000.0), y, 100)
    assert np.isfinite(y[kept]).mean() > 0.9
    assert 4321 in kept
    kept = lttb(np.arange(1000.0), np.full(1000, np.nan), 50)
    assert len(kept) == 50
    assert np.diff(kept).max() < 45


@given(st.floats(-100, 100), st.floats(0, 0.999), st.integers(1, 300))
def test_a_constant_stays_that_constant_from_the_first_step(value: float, factor: float, steps: int) -> None:
    assert np.allclose(smoothed(np.full(steps, value), factor), value)


def test_the_first_value_is_itself_and_the_second_is_weighed_as_in_adam() -> None:
    calm = smoothed(np.array([10.0, 0.0, 0.0]), 0.6)
    # m_1 = 0.4·10, m_2 = 0.6·m_1, m_3 = 0.36·m_1; 1 − βᵗ = 0.4, 0.64, 0.784
    assert calm == pytest.approx([10.0, 2.4 / 0.64, 1.44 / 0.784])


def test_no_smoothing_leaves_what_was_measured() -> None:
    values = np.array([3.0, 1.0, np.nan])
    assert smoothed(values, 0.0) is values
    assert len(smoothed(np.zeros(0), 0.5)) == 0


def test_what_is_not_finite_has_no_weight() -> None:
    calm = smoothed(np.array([np.nan, 2.0, np.inf, 2.0]), 0.9)
    assert np.isnan(calm[0])
    assert calm[1:] == pytest.approx([2.0, 2.0, 2.0])


def test_seeds_that_share_their_steps_are_taken_as_they_are() -> None:
    steps = np.arange(1.0, 4.0)
    found = seed_band([(steps, np.array([1.0, 2.0, 3.0])), (steps, np.array([3.0, 2.0, 1.0]))])
    assert found.x is steps
    assert found.mean.tolist() == [2.0, 2.0, 2.0]
    assert (found.low.tolist(), found.high.tolist()) == ([1.0, 2.0, 1.0], [3.0, 2.0, 3.0])
    assert found.fewer_from is None


def test_where_a_seed_ended_early_the_others_go_on_and_it_is_said_how_many() -> None:
    found = seed_band(
        [(np.arange(1.0, 3.0), np.array([1.0, 1.0])), (np.arange(1.0, 5.0), np.array([3.0, 3.0, 5.0, 7.0]))]
    )
    assert found.mean.tolist() == [2.0, 2.0, 5.0, 7.0]
    assert found.seeds.tolist() == [2, 2, 1, 1]
    assert found.fewer_from == 3.0


def test_seeds_at_different_seconds_are_read_on_one_grid_and_not_beyond_their_ends() -> None:
    found = seed_band(
        [(np.array([0.0, 2.0, 4.0]), np.array([0.0, 2.0, 4.0])), (np.array([0.0, 1.0, 2.0]), np.array([2.0] * 3))]
    )
    assert found.x.tolist() == [0.0, 2.0, 4.0]
    assert found.mean.tolist() == [1.0, 2.0, 4.0]
    assert found.seeds.tolist() == [2, 2, 1]


def test_means_leave_out_what_is_not_finite_and_need_a_seed() -> None:
    steps = np.arange(3.0)
    found = seed_band([(steps, np.array([1.0, np.nan, 1.0])), (steps, np.array([3.0, 3.0, np.inf]))])
    assert found.mean.tolist() == [2.0, 3.0, 1.0]
    assert found.high.tolist() == [3.0, 3.0, 1.0]
    assert len(seed_band([]).x) == 0
    assert seed_band([(np.zeros(0), np.zeros(0))]).fewer_from is None


def test_a_runs_own_page_averages_over_a_fortieth_of_it() -> None:
    assert usual_factor(20) == 0.0
    assert usual_factor(4000) == pytest.approx(0.99)


def test_a_loss_that_falls_to_the_end_is_not_called_level() -> None:
    steps = np.arange(240)
    assert still_falling(1.5 - 0.004 * steps) is True
    assert still_falling(1.5 * np.exp(-steps / 20) + 0.1) is False
    assert still_falling(np.ones(10)) is None


def test_noise_is_no_trend() -> None:
    chance, steps = np.random.default_rng(1), np.arange(1, 247)
    law = 1.5 * np.exp(-steps / 60) + 0.12
    trends = [
        {still_falling(law + chance.gamma(2, 0.04, len(steps)) - 0.08) for _arm in range(3)} for _study in range(200)
    ]
    assert sum({True, False} <= of_study for of_study in trends) <= 2, "arms of one law seem to differ"
