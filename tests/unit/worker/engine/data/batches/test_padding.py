"""Causal models that compute the same without a mask of padding on the right get none."""

from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertGenerationConfig,
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    OPTConfig,
    PhiConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from app.domain.methods import FullSpec, LastLayersSpec, LoraSpec, MethodSpec, PrefixSpec, PromptSpec
from app.domain.resources.estimate import EstimateRequest
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.data.batches import padding
from worker.engine.data.batches.padding import needs_padding_mask
from worker.engine.estimation.estimate import estimate_run
from worker.engine.loop.attempt import Attempt
from worker.engine.tasks import causal_lm

WITHOUT = [
    LlamaConfig(num_key_value_heads=8, dtype=torch.bfloat16),
    Qwen3Config(),
    MistralConfig(sliding_window=4096),
    Gemma2Config(),
    GPT2Config(),
    GPTNeoXConfig(),
    OPTConfig(),
    PhiConfig(),
    BloomConfig(),
    FalconConfig(),
    MixtralConfig(),
]
"""In the sizes of real models."""


@pytest.mark.parametrize("config", WITHOUT, ids=lambda config: config.model_type)
def test_a_decoder_needs_no_mask_of_padding_on_the_right(config: PreTrainedConfig) -> None:
    before = config.to_json_string(use_diff=False)
    state = torch.get_rng_state()
    assert not needs_padding_mask(config)
    assert config.to_json_string(use_diff=False) == before
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "config",
    [BertGenerationConfig(), BertConfig(), MambaConfig(), LlamaConfig(hidden_act="nonesuch")],
    ids=["sees both ways", "no language model", "no attention heads", "cannot be built"],
)
def test_what_is_not_shown_to_be_the_same_keeps_its_mask(config: PreTrainedConfig) -> None:
    assert needs_padding_mask(config)


def test_an_architecture_that_reads_the_mask_elsewhere_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose positions are counted from the end of what is real."""
    monkeypatch.setattr(padding, "_ANSWERS", {})
    build = padding._small

    def counting(config: PreTrainedConfig) -> torch.nn.Module:
        model = build(config)
        inner = model.forward

        def forward(input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **options: object) -> object:
            real = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            places = real.flip(1).cumsum(1).flip(1)
            return inner(input_ids=input_ids, attention_mask=attention_mask, position_ids=places, **options)

        model.forward = forward
        return model  # type: ignore[no-any-return]

    monkeypatch.setattr(padding, "_small", counting)
    assert needs_padding_mask(tiny_lm.config("llama"))


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_losses_and_gradients_are_those_with_the_mask(kind: str, tmp_path: Path) -> None:
    model, rows = tiny_lm.model(kind), tiny_lm.pairs(8)
    job = tiny_lm.job(tmp_path, tmp_path, "causal-lm", rows, method=FullSpec())
    examples = causal_lm.encode(rows, "train", tiny_lm.tokenizer(), model, job, tiny.Recorder())
    batch = causal_lm.collate(examples, range(8), 0)
    assert "attention_mask" not in batch.inputs and int(batch.real.sum()) == batch.tokens < batch.real.numel()
    gradients, losses = [], []
    for inputs in (batch.inputs, batch.inputs | {"attention_mask": batch.real}):
        model.zero_grad()
        losses.append(causal_lm.loss(model, causal_lm.Batch(inputs, batch.labels, batch.tokens, batch.places)))
        losses[-1].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=0)
    assert float((gradients[0] - gradients[1]).norm() / gradients[1].norm()) < 1e-5


@pytest.mark.parametrize(
    ("method", "masked"),
    [(LoraSpec(r=4), False), (PromptSpec(num_virtual_tokens=4), True), (PrefixSpec(num_virtual_tokens=4), True)],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_run_records_whether_padding_was_masked(method: MethodSpec, masked: bool, tmp_path: Path) -> None:
    base = tiny_lm.save_model(tmp_path / "model", "llama")
    training = tiny_lm.FAST.model_copy(update={"max_steps": 2, "max_new_tokens": 2})
    job = tiny_lm.job(tmp_path, base, "causal-lm", tiny_lm.pairs(), method=method, training=training)
    assert Attempt(job, tiny.Recorder()).run().environment.padding_mask is masked


def test_cached_activations_are_fed_without_a_mask(tmp_path: Path) -> None:
    base = tiny_lm.save_model(tmp_path / "model", "llama")
    losses = []
    for cached in (True, False):
        training = tiny_lm.FAST.model_copy(update={"max_steps": 4, "max_new_tokens": 2, "cache_frozen_prefix": cached})
        folder = tmp_path / str(cached)
        job = tiny_lm.job(
            folder, base, "causal-lm", tiny_lm.pairs(), method=LastLayersSpec(layers=1), training=training
        )
        sink = tiny.Recorder()
        Attempt(job.model_copy(update={"cache": str(tmp_path / "cache"), "cache_bytes": 10**8}), sink).run()
        assert any("are read from the cache" in line for line in sink.logs) == cached
        losses.append([step.loss for step in sink.seen])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.slow
def test_an_estimate_without_a_mask_has_no_bias_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
              "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000}  # fmt: skip
    request = EstimateRequest(
        config=config,
        task="causal-lm",
        method=FullSpec(),
        training=tiny_lm.FAST.model_copy(update={"max_length": 256, "max_new_tokens": 2}),
        device="cuda",
        bf16=True,
    )
    without = estimate_run(request, None).ledger
    monkeypatch.setattr(causal_lm, "needs_padding_mask", lambda config: True)
    masked = estimate_run(request, None).ledger
    bias = 8 * 4 * 256 * 256 * 2  # rows, heads, queries, keys, bytes
    assert masked.owners["activations"] - without.owners["activations"] >= bias
