"""The freeze audit must catch what it is there for."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertModel

from app.domain.failures import FailureCode, RunFailed
from app.domain.methods import AdaLoraSpec, FullSpec, HeadOnlySpec, LeanFullSpec, LoraSpec, MethodSpec
from app.domain.runs.result import Audit
from app.domain.runs.training import TrainingArguments
from tests.support.tiny import texts as tiny
from worker.engine.evaluation import audit
from worker.engine.loop.attempt import Attempt
from worker.engine.methods import MECHANISMS, peft, selection

LORA = LoraSpec(r=4, target_modules=["query", "value"])
ONE_STEP = tiny.FAST.model_copy(update={"max_steps": 1})

Apply = Callable[[Any, Any, Any], nn.Module]


def audited(
    directory: Path, base: Path, method: MethodSpec, training: TrainingArguments = tiny.FAST, apply: Apply | None = None
) -> Audit:
    """The audit of a run; with `apply`, of one whose method is carried out by that instead."""
    attempt = Attempt(tiny.job(directory, base, method, training), tiny.Recorder())
    if apply is not None:
        real = MECHANISMS[method.mechanism]
        attempt.mechanism = SimpleNamespace(apply=apply, companion=real.companion, save=real.save)
    return attempt.run().audit


def test_a_base_parameter_left_trainable_is_caught_before_training(base: Path, tmp_path: Path) -> None:
    steps: list[int] = []

    def forgetful(model, spec, facts):  # type: ignore[no-untyped-def]
        adapted = peft.apply(model, spec, facts)
        adapted.get_parameter("base_model.model.bert.embeddings.LayerNorm.bias").requires_grad_(True)
        adapted.register_forward_hook(lambda module, *_: steps.append(1) if module.training else None)
        return adapted

    with pytest.raises(RunFailed, match=r"embeddings.LayerNorm.bias is trainable, but the method does not") as failed:
        audited(tmp_path, base, LORA, apply=forgetful)
    assert failed.value.code is FailureCode.AUDIT
    assert not steps


def test_an_adapter_that_does_not_train_is_caught_before_training(base: Path, tmp_path: Path) -> None:
    """The classic: the head trains, the loss falls, and the adapter is as it was."""

    def asleep(model, spec, facts):  # type: ignore[no-untyped-def]
        adapted = peft.apply(model, spec, facts)
        for name, parameter in adapted.named_parameters():
            parameter.requires_grad = parameter.requires_grad and ".lora_" not in name
        return adapted

    with pytest.raises(RunFailed, match=r"lora_A.default.weight is frozen.*The same holds for 5 more") as failed:
        audited(tmp_path, base, LORA, apply=asleep)
    assert failed.value.code is FailureCode.AUDIT


def test_a_head_left_frozen_is_caught_before_training(base: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"classifier.bias is frozen or absent"):
        audited(tmp_path, base, HeadOnlySpec(), apply=lambda model, spec, facts: model.requires_grad_(False))


def test_another_shape_than_the_method_says_is_caught_before_training(base: Path, tmp_path: Path) -> None:
    def narrower(model, spec, facts):  # type: ignore[no-untyped-def]
        return peft.apply(model, spec.model_copy(update={"r": 2}), facts)

    with pytest.raises(RunFailed, match=r"query.lora_A.default.weight does not have the shape that the method expects"):
        audited(tmp_path, base, LORA, apply=narrower)


def test_a_frozen_parameter_that_changes_is_caught_after_training(base: Path, tmp_path: Path) -> None:
    def leaking(model, spec, facts):  # type: ignore[no-untyped-def]
        adapted = selection.apply(model, spec, facts)
        weight = adapted.get_parameter("bert.encoder.layer.1.output.dense.weight")
        adapted.register_forward_hook(lambda module, *_: nudge(weight) if module.training else None)
        return adapted

    def nudge(weight: torch.Tensor) -> None:
        weight.data[0, 0] += 1e-3

    training = tiny.FAST.model_copy(update={"cache_frozen_prefix": False})
    with pytest.raises(RunFailed, match=r"layer.1.output.dense.weight is frozen, but it changed") as failed:
        audited(tmp_path, base, HeadOnlySpec(), training, leaking)
    assert failed.value.code is FailureCode.AUDIT


def test_a_trainable_parameter_that_stays_although_it_has_a_gradient_is_caught(base: Path, tmp_path: Path) -> None:
    def pinned(model, spec, facts):  # type: ignore[no-untyped-def]
        bias = model.get_parameter("classifier.bias")
        start = bias.detach().clone()

        def put_back(*_: object) -> None:
            bias.data.copy_(start)

        model.register_forward_pre_hook(put_back)
        return model.requires_grad_(True)

    with pytest.raises(RunFailed, match=r"classifier.bias had a gradient and did not change"):
        audited(tmp_path, base, FullSpec(), apply=pinned)


def test_groups_count_what_changed(base: Path, tmp_path: Path) -> None:
    groups = {g.name: (g.tensors, g.changed) for g in audited(tmp_path, base, LORA).groups}
    assert groups == {
        "lora_A, lora_B of query": (4, 4),
        "lora_A, lora_B of value": (4, 4),
        "classifier": (2, 2),
        "frozen": (41, 0),
    }


def test_matrices_without_a_gradient_are_noted_and_do_not_fail(base: Path, tmp_path: Path) -> None:
    """After one step LoRA's A is where it was: its gradient is a multiple of B, which began at zero."""
    found = audited(tmp_path, base, LORA, ONE_STEP)
    assert found.passed
    assert len(found.notes) == 4  # three sentences, and how many more
    assert "lora_A" in found.notes[0] and "never had a gradient" in found.notes[0]
    assert {g.name: g.changed for g in found.groups}["lora_A, lora_B of query"] == 2


def test_a_model_most_of_which_gets_no_gradient_is_caught(base: Path, tmp_path: Path) -> None:
    def detached(model, spec, facts):  # type: ignore[no-untyped-def]
        def cut(module, inputs, output):  # type: ignore[no-untyped-def]
            output.pooler_output = output.pooler_output.detach()

        model.bert.register_forward_hook(cut)
        return model.requires_grad_(True)

    with pytest.raises(RunFailed, match="Less than half of the trainable parameters changed"):
        audited(tmp_path, base, FullSpec(), apply=detached)


def test_what_a_method_sets_back_is_noted_and_anything_else_that_comes_back_fails() -> None:
    model = nn.Linear(3, 2)
    before, groups = audit.hashes(model), {"weight": "layer", "bias": "layer"}
    model.weight.data += 1
    found = audit.compare(before, model, groups, (), may_return=["bias"])
    assert found.notes == ["bias trained, and the method reset it to its initial value."]
    with pytest.raises(RunFailed, match="bias had a gradient and did not change"):
        audit.compare(before, model, groups, ())


def test_a_change_that_only_kahan_summation_remembers_is_noted(tmp_path: Path) -> None:
    """Weights of 1, such as those of a normalization, keep their bfloat16 value in a short run at a low rate."""
    base = tiny.save_model(tmp_path / "base")
    BertModel.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(base)
    slow = ONE_STEP.model_copy(update={"learning_rate": 1e-5, "bf16": True})
    found = audited(tmp_path, base, LeanFullSpec(optim="adamw_torch", weight_storage="bf16-kahan"), slow)
    assert found.passed
    assert any("LayerNorm.weight changed by less than bfloat16 holds" in note for note in found.notes), found.notes


def test_a_remembered_change_excuses_no_other_parameter() -> None:
    model = nn.Linear(3, 2)
    before, groups = audit.hashes(model), {"weight": "layer", "bias": "layer"}
    assert audit.compare(before, model, groups, (), below_rounding=["weight", "bias"]).passed
    with pytest.raises(RunFailed, match="bias had a gradient and did not change"):
        audit.compare(before, model, groups, (), below_rounding=["weight"])


@pytest.mark.slow
def test_adalora_may_drop_every_direction_of_a_layer(base: Path, tmp_path: Path) -> None:
    spec = AdaLoraSpec(init_r=2, target_r=1, tinit=0, target_modules="all-linear")
    found = audited(tmp_path, base, spec)
    assert found.passed
    assert any(".lora_E.default trained, and the method reset it" in note for note in found.notes)


def test_hashes_see_one_bit_of_any_type() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model = nn.Linear(3, 3).to(dtype)
        before = audit.hashes(model)
        assert audit.hashes(model) == before
        model.bias.data[1] += 1
        after = audit.hashes(model)
        assert (after["weight"] == before["weight"]) and after["bias"] != before["bias"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_a_fingerprint_changes_with_every_value_and_every_exchange(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    tensor = torch.randint(1, 100, (7, 2**18 + 1)).to(dtype)  # several chunks in float32, and an odd number of bytes
    before = audit.fingerprint(tensor)
    assert audit.fingerprint(tensor.clone()) == before
    seen = {before}
    for row, column in ((0, 0), (3, 2**17), (6, 2**18)):
        changed = tensor.clone()
        changed[row, column] += 1
        seen.add(audit.fingerprint(changed))
    exchanged = tensor.clone()
    exchanged[[0, 1]] = exchanged[[1, 0]]
    seen.add(audit.fingerprint(exchanged))
    assert len(seen) == 5
    assert all(len({fingerprint[part : part + 8] for fingerprint in seen}) == 5 for part in (0, 8))
