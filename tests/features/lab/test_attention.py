"""The Lab's attention weights: every head of a real model, before and after what a run trained."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertForSequenceClassification

from app.domain.failures import RunFailed
from app.features.lab.computations import MOST_TOKENS, Attention, AttentionRequest
from app.features.lab.rules.heads import Heads
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.features.lab.answer import answer

SENTENCE = "the red fox is one of five"


def computed(location: Path, files: dict[str, Path] | None = None, **fields: object) -> Attention:
    """The answer for a model's directory."""
    asked = AttentionRequest(location=str(location), **{"sentence": SENTENCE, **fields})  # type: ignore[arg-type]
    found = answer(asked, files or {})
    assert isinstance(found, Attention)
    return found


def test_every_head_of_an_encoder_is_what_transformers_computes(tmp_path: Path) -> None:
    found = computed(tiny.save_model(tmp_path))
    assert found.tokens == ["[CLS]", "the", "red", "fox", "is", "one", "of", "five", "[SEP]"]
    assert (len(found.before), len(found.before[0]), found.after, found.cut) == (2, 2, [], False)
    model = AutoModel.from_pretrained(tmp_path, attn_implementation="eager").eval()
    with torch.inference_mode():
        weights = model(**tiny.tokenizer()(SENTENCE, return_tensors="pt"), output_attentions=True).attentions
    for layer in range(2):
        for head in range(2):
            assert np.abs(found.weights(layer, head) - weights[layer][0, head].numpy()).max() < 1e-4
    assert not Heads(found).causal


@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5"])
def test_decoders_mask_what_follows_and_encoder_decoders_show_the_encoder(tmp_path: Path, kind: str) -> None:
    found = computed(tiny_lm.save_model(tmp_path, kind), sentence="count from one " * 12)
    heads = Heads(found)
    assert heads.causal is (kind != "t5") and heads.layers == 2
    assert found.cut and len(found.tokens) == MOST_TOKENS
    assert np.abs(found.weights(1, 1).sum(axis=1) - 1).max() < 1e-3


def test_the_weights_of_full_fine_tuning_replace_those_of_the_base_model(tmp_path: Path) -> None:
    base = tiny.save_model(tmp_path / "base")
    torch.manual_seed(7)
    trained = BertForSequenceClassification(tiny.config(num_labels=3)).eval()
    save_file(trained.state_dict(), tmp_path / "after.safetensors")
    found = computed(base, {"full_file": tmp_path / "after.safetensors"}, full_file="after")
    trained.set_attn_implementation("eager")
    with torch.inference_mode():
        weights = trained(**tiny.tokenizer()(SENTENCE, return_tensors="pt"), output_attentions=True).attentions
    assert np.abs(found.weights(1, 0, after=True) - weights[1][0, 0].numpy()).max() < 1e-4
    assert found.before == computed(base).before != found.after
    lacking = load_file(tmp_path / "after.safetensors")
    del lacking["bert.encoder.layer.1.attention.self.query.weight"]
    save_file(lacking, tmp_path / "lacking.safetensors")
    with pytest.raises(RunFailed, match=r"lack encoder\.layer\.1\.attention\.self\.query\.weight"):
        computed(base, {"full_file": tmp_path / "lacking.safetensors"}, full_file="lacking")


@pytest.mark.parametrize(
    ("kind", "layer", "out"),
    [("llama", "model.layers.0.self_attn.q_proj", 32), ("gpt2", "transformer.h.0.attn.c_attn", 96)],
)
def test_an_update_of_lora_is_added_to_its_layer(tmp_path: Path, kind: str, layer: str, out: int) -> None:
    base = tiny_lm.save_model(tmp_path / "base", kind)
    a, b = torch.randn(2, 32), torch.randn(out, 2)
    names = (f"base_model.model.{layer}.lora_{part}.weight" for part in "AB")
    save_file(dict(zip(names, (a, b), strict=True)), tmp_path / "adapter.safetensors")
    sentence = "one two three"
    files = {"lora_file": tmp_path / "adapter.safetensors"}
    found = computed(base, files, sentence=sentence, lora_file="adapter", lora_scale=0.5)
    weights = load_file(base / "model.safetensors")
    name, update = f"{layer}.weight", 0.5 * b @ a
    weights[name] = weights[name] + (update.T if kind == "gpt2" else update)
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    assert found.after == computed(base, sentence=sentence).before != found.before
