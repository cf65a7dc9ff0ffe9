"""The Lab's equality check: LoRA written out gives what PEFT's LoRA gives."""

from pathlib import Path

import pytest

from app.domain.failures import RunFailed
from app.features.lab.computations import Equality, EqualityRequest
from tests.support.tiny import lm as tiny_lm
from worker.features.lab.answer import answer


@pytest.mark.parametrize(
    ("kind", "layer"), [("llama", "model.layers.1.self_attn.q_proj"), ("gpt2", "transformer.h.0.attn.c_attn")]
)
def test_the_two_are_equal_at_every_stage(tmp_path: Path, kind: str, layer: str) -> None:
    model = tiny_lm.save_model(tmp_path, kind)
    asked = EqualityRequest(location=str(model), layer=layer, r=4, lora_alpha=8)
    found = answer(asked, {})
    assert isinstance(found, Equality)
    assert found.start == 0  # B is zero
    assert found.trained < 1e-5 < found.learned
    assert found.merged < 1e-4
    assert answer(asked, {}) == found


def test_rounding_of_a_large_update_is_no_difference(tmp_path: Path) -> None:
    model = tiny_lm.save_model(tmp_path, "llama")
    asked = EqualityRequest(location=str(model), layer="model.layers.1.self_attn.q_proj", r=1, lora_alpha=1_000_000)
    found = answer(asked, {})
    assert isinstance(found, Equality)
    assert found.tolerance < found.largest / 10_000 < found.learned
    assert max(found.trained, found.merged) <= found.tolerance


def test_a_layer_that_the_model_lacks_is_named(tmp_path: Path) -> None:
    model = tiny_lm.save_model(tmp_path, "llama")
    with pytest.raises(RunFailed, match=r"no linear layer model\.layers\.9"):
        answer(EqualityRequest(location=str(model), layer="model.layers.9.q_proj", r=4, lora_alpha=8), {})
