"""Which trials can train together, and in how much memory."""

import pytest

from app.domain.methods import FullSpec, LoraSpec, MethodSpec
from app.domain.resources.estimate import Lengths, ResourceEstimate
from app.domain.resources.ledger import Ledger, owners
from app.domain.runs.spec import RunSpec
from app.domain.runs.together import can_train_together, group_peak_bytes, most_members, same_shapes
from app.domain.runs.training import TrainingArguments

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
