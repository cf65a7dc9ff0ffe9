"""Adapter layers: found in every architecture, exact in number, at the base model to begin with, and kept whole."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    BloomConfig,
    DebertaV2Config,
    DistilBertConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    RobertaConfig,
    T5Config,
    XLNetConfig,
)

from app.domain.methods import BottleneckAdapterSpec
from app.domain.tasks import Task
from tests.support.tiny import texts as tiny
from worker.engine.loop.attempt import Attempt
from worker.engine.methods import bottleneck
from worker.engine.models.architecture import describe
from worker.engine.models.inspect import on_task
from worker.engine.models.load import load
from worker.engine.models.precision import freeze_in_bf16

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 40,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SHORT = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 40, "bos_token_id": 1, "eos_token_id": 2}
ONE = 2 * 8 * 32 + 32 + 8
"""Numbers in one adapter of m = 8 in a model of width 32."""
AUTO = {
    "sequence-classification": AutoModelForSequenceClassification,
    "causal-lm": AutoModelForCausalLM,
    "seq2seq-lm": AutoModelForSeq2SeqLM,
}
T5 = T5Config(d_model=32, num_layers=2, num_heads=2, d_ff=64, d_kv=16, vocab_size=40, feed_forward_proj="gated-gelu")
BART = BartConfig(
    d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
    encoder_ffn_dim=64, decoder_ffn_dim=64, vocab_size=40, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    decoder_start_token_id=2, forced_eos_token_id=2,
)  # fmt: skip
ARCHITECTURES: list[tuple[Task, PreTrainedConfig, int]] = [
    ("sequence-classification", BertConfig(**SIZES), 4),
    ("sequence-classification", RobertaConfig(**SIZES), 4),
    ("sequence-classification", DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, vocab_size=40), 4),
    ("sequence-classification", DebertaV2Config(**SIZES), 4),
    ("causal-lm", GPT2Config(**SHORT), 4),
    ("causal-lm", GPTNeoXConfig(**SIZES), 4),
    ("causal-lm", BloomConfig(hidden_size=32, n_layer=2, n_head=2, vocab_size=40), 4),
    ("causal-lm", LlamaConfig(**SIZES), 4),
    ("causal-lm", MistralConfig(**SIZES, num_key_value_heads=1), 4),
    ("causal-lm", Qwen2Config(**SIZES, num_key_value_heads=1), 4),
    ("causal-lm", OPTConfig(**SIZES, ffn_dim=64, word_embed_proj_dim=32), 4),
    ("seq2seq-lm", T5, 10),  # a decoder's block has two attentions
    ("seq2seq-lm", BART, 10),
]


@pytest.mark.by_day
@pytest.mark.parametrize(("task", "config", "places"), ARCHITECTURES, ids=lambda v: getattr(v, "model_type", ""))
def test_every_block_has_adapters_that_start_as_nothing(task: Task, config: PreTrainedConfig, places: int) -> None:
    torch.manual_seed(0)
    model: PreTrainedModel = AUTO[task].from_config(config).eval()
    facts, spec = describe(model, task), BottleneckAdapterSpec(bottleneck_size=8)
    ids = torch.tensor([[5, 6, 7, 8, 2]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if task == "seq2seq-lm":
        inputs["decoder_input_ids"] = ids[:, :3]
    assert spec.incompatibility(facts) is None
    with torch.no_grad():  # attention takes another kernel where it needs a gradient
        plain = model(**inputs).logits
        adapted = bottleneck.apply(model, spec, facts)
        assert torch.equal(adapted(**inputs).logits, plain)
    trained = {name: tuple(p.shape) for name, p in adapted.named_parameters() if p.requires_grad}
    assert trained == {t.name: t.shape for t in spec.trains(facts)}
    assert spec.trainable(facts) == places * ONE + sum(p.size for p in facts.head_parameters)
    adapted(**inputs).logits.square().mean().backward()
    reached = [name for name, p in adapted.named_parameters() if name.endswith("adapter.up.weight") and p.grad.any()]
    assert len(reached) == places, "every adapter is in the path of the gradient"


def test_bert_base_has_the_papers_count_and_other_architectures_are_refused() -> None:
    facts = on_task(BertConfig(), "sequence-classification").with_labels(2)
    assert BottleneckAdapterSpec().trainable(facts) == 24 * (2 * 64 * 768 + 768 + 64) + 2 * 769
    assert BottleneckAdapterSpec(placement="pfeiffer").trainable(facts) == 1_189_632 + 1_538
    facts = on_task(XLNetConfig(d_model=32, n_layer=2, n_head=2, d_inner=64, vocab_size=40), "sequence-classification")
    incompatibility = BottleneckAdapterSpec().incompatibility(facts)
    assert incompatibility is not None
    assert "The output projection of the feed-forward in transformer.layer.0 of XLNet" in incompatibility.message
    assert "layer_1, layer_2" in incompatibility.message


def test_an_adapter_is_the_formula() -> None:
    torch.manual_seed(0)
    spec = BottleneckAdapterSpec(bottleneck_size=3, non_linearity="relu")
    adapter = bottleneck.Adapter(5, spec, torch.device("cpu"))
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 4, 5)
    inner = (x @ adapter.down.weight.T + adapter.down.bias).clamp(min=0)
    torch.testing.assert_close(adapter(x), x + inner @ adapter.up.weight.T + adapter.up.bias)


def test_beside_a_bfloat16_base_the_adapters_stay_float32_and_their_output_does_not(base: Path) -> None:
    model = load(str(base), "", "sequence-classification", tiny.LABELS, 0).model
    adapted = bottleneck.apply(
        model, BottleneckAdapterSpec(bottleneck_size=8), describe(model, "sequence-classification")
    )
    assert freeze_in_bf16(adapted) == "bfloat16"
    projection = adapted.get_submodule("bert.encoder.layer.0.output.dense")
    assert projection.weight.dtype is torch.bfloat16
    assert projection.get_submodule("adapter").up.weight.dtype is torch.float32
    x = torch.randn(2, 3, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert projection(x).dtype is torch.bfloat16


SPECS = [
    BottleneckAdapterSpec(bottleneck_size=8),
    BottleneckAdapterSpec(bottleneck_size=4, placement="pfeiffer", non_linearity="silu", adapter_dropout=0.1),
]


@pytest.mark.by_day
@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("changes", [{}, {"bf16": True}, {"gradient_checkpointing": True}], ids=str)
def test_a_run_passes_the_audit_and_what_it_keeps_gives_the_same_answers(
    base: Path, tmp_path: Path, spec: BottleneckAdapterSpec, changes: dict[str, bool]
) -> None:
    job = tiny.job(tmp_path, base, spec, tiny.FAST.model_copy(update=changes))
    result = Attempt(job, tiny.Recorder()).run()
    assert result.audit.passed
    assert result.audit.notes == []
    facts = on_task(tiny.config(), "sequence-classification").with_labels(len(tiny.LABELS))
    assert result.parameters.trainable == spec.trainable(facts)
    assert result.environment.frozen_dtype == ("bfloat16" if changes.get("bf16") else "float32")

    fresh = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(tiny.LABELS))
    model = bottleneck.load(fresh, Path(job.output) / "adapter").eval()
    predictions, words = pq.read_table(Path(job.output) / "predictions.parquet"), tiny.tokenizer()
    close = 0.02 if changes.get("bf16") else 1e-5  # it was judged in bfloat16, and is loaded in float32
    for text, scores in zip(predictions["text"].to_pylist(), predictions["scores"].to_pylist(), strict=True):
        with torch.inference_mode():
            logits = model(**words(text, return_tensors="pt", return_token_type_ids=False)).logits
        np.testing.assert_allclose(logits.softmax(1)[0].numpy(), scores, atol=close)


def test_adapters_of_another_model_are_refused(base: Path, tmp_path: Path) -> None:
    job = tiny.job(tmp_path, base, SPECS[0], tiny.FAST.model_copy(update={"max_steps": 1}))
    Attempt(job, tiny.Recorder()).run()
    deeper = AutoModelForSequenceClassification.from_config(tiny.config(num_hidden_layers=3, num_labels=3))
    with pytest.raises(ValueError, match=r"differ in bert\.encoder\.layer\.2\."):
        bottleneck.load(deeper, Path(job.output) / "adapter")
