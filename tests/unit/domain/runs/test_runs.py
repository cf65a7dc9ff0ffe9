"""Runs: devices, how attempts end, which train together, and confusion matrices."""

import pytest
from pydantic import ValidationError

from app.domain.failures import FAILURES, Failure, FailureCode
from app.domain.methods import FullSpec, LeanFullSpec, LoraSpec, MethodSpec
from app.domain.resources.estimate import Lengths, ResourceEstimate
from app.domain.resources.ledger import Ledger, owners
from app.domain.runs.confusion import Answers, Confusion
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


def test_padding_free_batches_are_for_one_device() -> None:
    with pytest.raises(ValidationError) as error:
        TrainingBudget(devices=2, gradient_accumulation_steps=2, padding_free=True)
    path, message = problem(error)
    assert path == "devices" and "padding_free" in message


def test_a_method_that_cannot_be_distributed_is_refused_by_name() -> None:
    clash = LeanFullSpec().clash(training(2, 2))
    assert clash is not None and clash.path == "training.devices" and "lean full" in str(clash.message)
    assert LeanFullSpec().clash(training(1, 2)) is None
    assert FullSpec().clash(training(2, 2)) is None


def test_an_arm_may_have_its_own_number_of_devices() -> None:
    full, lora = ArmSpec(method=FullSpec(), devices=2), ArmSpec(method=LoraSpec())
    runs = study(training(1, 2), full, lora).owed()
    assert {run.arm: run.spec.training.devices for run in runs} == {"full": 2, lora.label: 1}


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


def test_a_searched_batch_size_is_divided_among_the_devices() -> None:
    arm = ArmSpec(method=FullSpec())
    settled = arm.at(Configuration(batch_size=16), training(2, 2, size=16))
    assert (settled.per_device_train_batch_size, settled.gradient_accumulation_steps) == (8, 2)


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


def test_it_survives_json() -> None:
    confusion = Confusion.of([0, 1], [1, 1])
    assert Confusion.model_validate_json(confusion.model_dump_json()) == confusion
