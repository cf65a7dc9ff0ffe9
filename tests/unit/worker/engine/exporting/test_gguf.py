"""GGUF exports: what transformers loads from the file is the trained model, with its tokenizer and chat template."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.domain.comparison.fairness.export_gate import GateOutcome, gate
from app.domain.failures import RunFailed
from app.domain.methods import LoraSpec
from app.domain.models.exports import ExportFormat, ExportJob, merged_bytes, refusal
from tests.support.rows import exported
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import tokenizers as tiny_tokenizers
from worker.engine.exporting import check, gguf_file, merge
from worker.engine.exporting.progress import quiet
from worker.engine.exporting.quantized import check_quantized
from worker.engine.models.architecture import describe

FORMATS = [form for form in ExportFormat if form.gguf]
FAMILIES = {
    "llama": tiny_tokenizers.byte_level("gpt2"),
    "qwen2": tiny_tokenizers.byte_level("qwen2"),
    "qwen3": tiny_tokenizers.byte_level("qwen2"),
    "gemma2": tiny_tokenizers.sentence_piece(prefix=False),
    "gemma3": tiny_tokenizers.sentence_piece(prefix=False),
}
TEXTS = ["count from one two", "stop:  and then 42 äöü", "<turn> user : six <end>"]


def run(folder: Path, name: str, form: ExportFormat, tokenizer: Any = None, **changes: Any) -> tuple[ExportJob, Any]:
    """A LoRA run on a tiny model of a family, with a tokenizer that GGUF describes."""
    base = folder / "base"
    tokenizer = tokenizer or FAMILIES[name]
    tiny_lm.save_model(base, name, vocab_size=len(tokenizer) + 2, **changes)
    tokenizer.save_pretrained(base)
    job = tiny_lm.job(folder / "job", base, "causal-lm", tiny_lm.pairs(), method=LoraSpec(r=4))
    return exported.trained(folder, job, form)


@pytest.mark.by_day
@pytest.mark.parametrize("name", list(FAMILIES))
def test_transformers_loads_the_trained_model_with_its_tokenizer(name: str, tmp_path: Path) -> None:
    job, model = run(tmp_path, name, ExportFormat.GGUF_F16)
    files = {file.name: file.bytes for file in merge.write(job)}
    size = merged_bytes(describe(merge.merged(job)[0], "causal-lm"), job.format)
    assert 0 < files["model-F16.gguf"] - size < 64 << 10, "header and tokenizer come in addition"
    loaded, tokenizer = gguf_file.load(Path(job.job.output), job.format)
    original = AutoTokenizer.from_pretrained(tmp_path / "base")
    for text in TEXTS:
        ids = original(text, return_tensors="pt")["input_ids"]
        assert tokenizer(text)["input_ids"] == ids[0].tolist()
        with torch.inference_mode():
            torch.testing.assert_close(loaded(ids).logits, model(ids).logits, rtol=2e-2, atol=2e-2)
    chat = [{"role": "user", "content": "count"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == original.apply_chat_template(chat, tokenize=False)


@pytest.mark.by_day
@pytest.mark.parametrize("form", FORMATS)
def test_every_type_is_within_its_step(form: ExportFormat, tmp_path: Path) -> None:
    job, _model = run(tmp_path, "llama", form)
    merge.write(job)
    found = check_quantized(job)
    assert (found.wrong, found.largest_error <= 1) == ([], True)
    assert found.tensors == len(list(merge.merged(job)[0].parameters()))


@pytest.mark.parametrize("prefix", [True, False])
def test_a_tokenizer_of_sentencepiece_splits_as_before(prefix: bool, tmp_path: Path) -> None:
    name = "llama" if prefix else "gemma2"
    words = tiny_tokenizers.sentence_piece(prefix=prefix)
    job, _model = run(tmp_path, name, ExportFormat.GGUF_Q8_0, words)
    merge.write(job)
    _loaded, tokenizer = gguf_file.load(Path(job.job.output), job.format)
    for text in TEXTS:
        assert tokenizer(text)["input_ids"] == words(text)["input_ids"]
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == words.decode(words(text)["input_ids"])


def without_scale(exact: Any, base: Any) -> Any:
    """Half of what training added."""
    return base + (exact - base) / 2


def untrained(exact: Any, base: Any) -> Any:
    """One matrix as it was before."""
    return base


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "change"),
    [(ExportFormat.GGUF_F16, untrained), (ExportFormat.GGUF_Q8_0, without_scale), (ExportFormat.GGUF_Q4_0, untrained)],
)
def test_a_corrupted_merge_is_caught(form: ExportFormat, change: Any, tmp_path: Path) -> None:
    job, _model = run(tmp_path, "llama", form)
    merge.write(job)
    right = check.check(job, quiet)
    assert right.weights is not None and right.weights.wrong == []
    matrix = "model.layers.1.self_attn.q_proj.weight"
    merged, tokenizer = merge.merged(job)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    with torch.no_grad():
        parameter = merged.get_parameter(matrix)
        parameter.copy_(change(parameter, base.get_parameter(matrix)))
    gguf_file.write(merged, tokenizer, Path(job.job.output), form, quiet)
    found = check.check(job, quiet)
    assert found.weights is not None and found.weights.wrong == [matrix]
    assert gate(right.scores, found, margin=1.0).outcome is GateOutcome.FAIL


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"attention_bias": True}, "reads attention_bias = False"),
        ({"hidden_act": "gelu"}, "reads hidden_act = silu"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}, "reads rope_parameters"),
    ],
    ids=["bias", "activation", "rope"],
)
def test_a_setting_that_is_not_read_is_named(changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    job, _model = run(tmp_path, "llama", ExportFormat.GGUF_F16, **changes)
    with pytest.raises(RunFailed, match=why):
        merge.write(job)


def test_a_gemma_whose_attention_llama_cpp_would_scale_otherwise_is_refused(tmp_path: Path) -> None:
    job, _model = run(tmp_path, "gemma2", ExportFormat.GGUF_F16, head_dim=8)
    with pytest.raises(RunFailed, match=r"head_dim \(8\).* query_pre_attn_scalar \(256\)"):
        merge.write(job)


@pytest.mark.parametrize("kind", ["", "linear"])
def test_scaled_rotary_embeddings_are_refused_from_the_models_facts(kind: str, tmp_path: Path) -> None:
    rope = {"rope_parameters": {"rope_type": kind, "rope_theta": 1e4, "factor": 2.0}} if kind else {}
    tiny_lm.save_model(tmp_path, "llama", **rope)
    facts = describe(AutoModelForCausalLM.from_pretrained(tmp_path), "causal-lm")
    assert facts.rope_scaling == kind
    refused = refusal(ExportFormat.GGUF_F16, LoraSpec(), facts, whole=False)
    assert (refused is not None and "(linear)" in refused.message) == bool(kind)


def test_a_tokenizer_that_gguf_cannot_describe_is_refused(tmp_path: Path) -> None:
    job, _model = run(tmp_path, "llama", ExportFormat.GGUF_F16, tiny_lm.tokenizer())
    with pytest.raises(RunFailed, match="it is WordLevel, and GGUF describes BPE"):
        merge.write(job)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, _model = run(tmp_path, "llama", ExportFormat.GGUF_F16)

    def missing(_name: str) -> None:
        raise ImportError(name="gguf")

    monkeypatch.setattr("worker.engine.exporting.formats.importlib.import_module", missing)
    with pytest.raises(RunFailed, match=r"needs the package gguf on the worker\. Install it with: pip install"):
        merge.write(job)
