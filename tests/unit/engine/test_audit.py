"""The freeze audit must catch what it is there for."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from app.domain.errors import RunFailed
from app.domain.methods import FullSpec, HeadOnlySpec, LoraSpec
from app.domain.runs import FailureCode
from tests import tiny
from worker.engine import attempt as attempt_module
from worker.engine.attempt import Attempt
from worker.engine.methods import METHODS, head, lora

LORA = LoraSpec(r=4, target_modules=["query", "value"])
ONE_STEP = tiny.FAST.model_copy(update={"max_steps": 1})


def _broken(kind: str, apply) -> dict[str, object]:  # type: ignore[no-untyped-def]
    real = METHODS[kind]
    rest = {name: getattr(real, name) for name in ("expected_trainable", "group", "save")}
    return {**METHODS, kind: SimpleNamespace(apply=apply, **rest)}


def _audited(directory: Path, base: Path, method, training=tiny.FAST):  # type: ignore[no-untyped-def]
    return Attempt(tiny.job(directory, base, method, training), tiny.Recorder()).run().audit


def test_a_base_parameter_left_trainable_is_caught_before_training(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(model, spec):  # type: ignore[no-untyped-def]
        adapted = lora.apply(model, spec)
        adapted.get_parameter("base_model.model.bert.embeddings.LayerNorm.bias").requires_grad_(True)
        return adapted

    monkeypatch.setattr(attempt_module, "METHODS", _broken("lora", forgetful))
    with pytest.raises(RunFailed, match=r"embeddings.LayerNorm.bias is trainable, but the method does not") as failed:
        _audited(tmp_path, base, LORA)
    assert failed.value.code is FailureCode.AUDIT


def test_a_head_left_frozen_is_caught_before_training(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def frozen(model, spec):  # type: ignore[no-untyped-def]
        return model.requires_grad_(False)

    monkeypatch.setattr(attempt_module, "METHODS", _broken("head-only", frozen))
    with pytest.raises(RunFailed, match=r"classifier.bias is frozen or absent"):
        _audited(tmp_path, base, HeadOnlySpec())


def test_a_frozen_parameter_that_changes_is_caught_after_training(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaking(model, spec):  # type: ignore[no-untyped-def]
        adapted = head.apply(model, spec)
        weight = adapted.get_parameter("bert.encoder.layer.1.output.dense.weight")

        def nudge(*_: object) -> None:
            if adapted.training:
                weight.data[0, 0] += 1e-3

        adapted.register_forward_hook(nudge)
        return adapted

    monkeypatch.setattr(attempt_module, "METHODS", _broken("head-only", leaking))
    with pytest.raises(RunFailed, match=r"layer.1.output.dense.weight is frozen, but it changed") as failed:
        _audited(tmp_path, base, HeadOnlySpec())
    assert failed.value.code is FailureCode.AUDIT


def test_a_trainable_parameter_that_stays_although_it_has_a_gradient_is_caught(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pinned(model, spec):  # type: ignore[no-untyped-def]
        bias = model.get_parameter("classifier.bias")
        start = bias.detach().clone()

        def put_back(*_: object) -> None:
            bias.data.copy_(start)

        model.register_forward_pre_hook(put_back)
        return model.requires_grad_(True)

    monkeypatch.setattr(attempt_module, "METHODS", _broken("full", pinned))
    with pytest.raises(RunFailed, match=r"classifier.bias had a gradient and did not change"):
        _audited(tmp_path, base, FullSpec())


def test_groups_count_what_changed(base: Path, tmp_path: Path) -> None:
    groups = {g.name: (g.tensors, g.changed) for g in _audited(tmp_path, base, LORA).groups}
    assert groups == {
        "lora_A, lora_B of query": (4, 4),
        "lora_A, lora_B of value": (4, 4),
        "classifier": (2, 2),
        "frozen": (41, 0),
    }


def test_matrices_without_a_gradient_are_noted_and_do_not_fail(base: Path, tmp_path: Path) -> None:
    """After one step LoRA's A is where it was: its gradient is a multiple of B, which began at zero."""
    audited = _audited(tmp_path, base, LORA, ONE_STEP)
    assert audited.passed
    assert len(audited.notes) == 4  # three sentences, and how many more
    assert "lora_A" in audited.notes[0] and "never had a gradient" in audited.notes[0]
    assert {g.name: g.changed for g in audited.groups}["lora_A, lora_B of query"] == 2


def test_a_model_most_of_which_gets_no_gradient_is_caught(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def detached(model, spec):  # type: ignore[no-untyped-def]
        def cut(module, inputs, output):  # type: ignore[no-untyped-def]
            output.pooler_output = output.pooler_output.detach()

        model.bert.register_forward_hook(cut)
        return model.requires_grad_(True)

    monkeypatch.setattr(attempt_module, "METHODS", _broken("full", detached))
    with pytest.raises(RunFailed, match="Less than half of the trainable parameters changed"):
        _audited(tmp_path, base, FullSpec())


def test_hashes_see_one_bit_of_any_type() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model = torch.nn.Linear(3, 3).to(dtype)
        before = attempt_module.audit.hashes(model)
        assert attempt_module.audit.hashes(model) == before
        model.bias.data[1] += 1
        after = attempt_module.audit.hashes(model)
        assert (after["weight"] == before["weight"]) and after["bias"] != before["bias"]
