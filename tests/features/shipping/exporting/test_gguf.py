"""GGUF files of trained models, and the code that loads an export."""

import contextlib
import io
from itertools import permutations
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from app.domain.comparison.fairness.export_gate import GateOutcome, gate
from app.domain.data.dataset import PairRow
from app.domain.failures import RunFailed
from app.domain.methods import BottleneckAdapterSpec, FullSpec, LoraSpec, MethodSpec, PrefixSpec
from app.domain.models.exports import ExportFormat, ExportJob, merged_bytes, refusal
from app.domain.runs.job import TrainJob
from app.features.shipping.words import snippets
from tests.support.rows import exported
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import tokenizers as tiny_tokenizers
from tests.unit.worker.engine import adapted as tried
from worker.engine.data.lines import LineWriter
from worker.engine.models.architecture import describe
from worker.features.shipping.exporting import export, gguf_file, merge
from worker.features.shipping.exporting.progress import quiet
from worker.features.shipping.exporting.quantized import check_quantized

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
    right = export.check(job, quiet)
    assert right.weights is not None and right.weights.wrong == []
    matrix = "model.layers.1.self_attn.q_proj.weight"
    merged, tokenizer = merge.merged(job)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    with torch.no_grad():
        parameter = merged.get_parameter(matrix)
        parameter.copy_(change(parameter, base.get_parameter(matrix)))
    gguf_file.write(merged, tokenizer, Path(job.job.output), form, quiet)
    found = export.check(job, quiet)
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

    monkeypatch.setattr("worker.features.shipping.exporting.formats.importlib.import_module", missing)
    with pytest.raises(RunFailed, match=r"needs the package gguf on the worker\. Install it with: pip install"):
        merge.write(job)


ADAPTER, MERGED = ExportFormat.ADAPTER, ExportFormat.MERGED_FLOAT32
ONNX, GGUF = ExportFormat.ONNX_INT8, ExportFormat.GGUF_F16
INPUTS = [" ".join(words) for words in permutations(["count", "from", "one", "two", "good", "bad"], 3)]
"""Until a model answers one of them with words."""


def printed(code: str, names: dict[str, Any] | None = None) -> str:
    """What a program prints, without the final line break; `names` receives its variables."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "snippet", "exec"), {} if names is None else names)
    return out.getvalue().rstrip("\n")


ADAPTERS = [
    (spec, name)
    for spec, name in tried.TRIES
    if spec.kind not in ("full", "lean-full", "qlora") and not isinstance(spec, BottleneckAdapterSpec | PrefixSpec)
]


@pytest.mark.by_day
@tried.tries_on(ADAPTERS)
def test_an_adapter_answers_as_the_trained_model(
    spec: MethodSpec, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes_as_the_trained_model(*exported.run(tmp_path, spec, name, ADAPTER), monkeypatch)


@pytest.mark.by_day
@pytest.mark.parametrize("spec", [LoraSpec(r=4), FullSpec()], ids=["lora", "full"])
@pytest.mark.parametrize("name", list(tried.MODELS))
def test_a_merged_model_answers_as_the_trained_model(
    spec: MethodSpec, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes_as_the_trained_model(*exported.run(tmp_path, spec, name, MERGED), monkeypatch)


def test_a_gguf_export_answers_as_the_trained_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes_as_the_trained_model(*run(tmp_path, "qwen2", GGUF), monkeypatch)


@pytest.mark.parametrize(("name", "bits"), [("bert", 4), ("llama", 8)])
def test_a_merged_model_is_quantized_while_it_is_loaded(name: str, bits: Literal[4, 8], tmp_path: Path) -> None:
    job, _model = exported.run(tmp_path, LoraSpec(r=4), name, MERGED)
    merge.write(job)
    names: dict[str, Any] = {}
    answer = printed(snippets.quantized_code(described(job), bits), names)
    assert answer in job.job.labels or name == "llama"
    kinds = {type(module).__name__ for module in names["model"].modules()}
    assert f"Linear{'4bit' if bits == 4 else '8bitLt'}" in kinds


def writes_as_the_trained_model(job: ExportJob, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of an export prints what the trained model answers."""
    merge.write(job)
    answers = ((text, answered(model, text, job.job)) for text in INPUTS)
    text, expected = next(((text, answer) for text, answer in answers if answer), (INPUTS[0], ""))
    monkeypatch.setattr(snippets, "EXAMPLE", text)
    assert printed(snippets.loading_code(described(job))) == expected


def described(job: ExportJob, **changed: Any) -> snippets.Export:
    """What a snippet for an export depends on."""
    whole = snippets.Export(
        form=job.format,
        spec=job.job.spec,
        folder=job.job.output,
        base=job.job.model_location,
        revision="",
        labels=job.job.labels,
        data=job.job.dataset_format,
        positions=None,
    )
    return whole._replace(**changed)


def test_a_head_of_the_base_model_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, model = exported.run(tmp_path, LoraSpec(r=4), "bert", ADAPTER)
    merge.write(job)
    monkeypatch.setattr(snippets, "EXAMPLE", INPUTS[0])
    location = job.job.model_location
    other = AutoModelForSequenceClassification.from_pretrained(location, num_labels=len(job.job.labels) + 2)
    tokenizer = AutoTokenizer.from_pretrained(location)
    for part in (other, tokenizer):
        part.save_pretrained(tmp_path / "headed")
    code = snippets.loading_code(described(job, base=str(tmp_path / "headed")))
    assert printed(code) == answered(model, INPUTS[0], job.job)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_long_prompt_is_truncated_as_in_the_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, model = exported.run(tmp_path, LoraSpec(r=4), name, MERGED)
    merge.write(job)
    long = " ".join(["count", "from", "one", "then", "stop", "two"] * 8)
    monkeypatch.setattr(snippets, "EXAMPLE", long)
    limit = described(job, positions=20).prompt_tokens
    assert limit == 20 - job.job.spec.training.max_new_tokens
    tokenizer = AutoTokenizer.from_pretrained(job.job.model_location)
    [line] = LineWriter(tokenizer, set(), True).lines([PairRow(item="1", split="test", prompt=long, completion="one")])
    ids = torch.tensor([line.tail(limit)])
    with torch.inference_mode():
        generate: Any = model.generate
        output = generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=job.job.spec.training.max_new_tokens,
            do_sample=False,
        )
    expected = tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
    assert printed(snippets.loading_code(described(job, positions=20))) == expected


@torch.inference_mode()
def answered(model: Any, text: str, job: TrainJob) -> str:
    """The label or the text that a model gives."""
    tokenizer = AutoTokenizer.from_pretrained(job.model_location)
    inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=job.spec.training.max_length)
    if job.spec.task == "sequence-classification":
        return job.labels[int(model(**inputs).logits.argmax())]
    output = model.generate(**inputs, max_new_tokens=job.spec.training.max_new_tokens, do_sample=False)
    start = 0 if job.spec.task == "seq2seq-lm" else inputs["input_ids"].shape[1]
    return str(tokenizer.decode(output[0, start:], skip_special_tokens=True))


def test_a_commit_of_the_hub_and_a_chat_template_are_in_it(tmp_path: Path) -> None:
    job, _model = exported.run(tmp_path, LoraSpec(r=4), "llama", ADAPTER)
    code = snippets.loading_code(described(job, base="owner/name", revision="abc123", labels=[], data="messages"))
    compile(code, "snippet", "exec")
    assert code.count('"owner/name", revision="abc123"') == 2
    assert "apply_chat_template" in code and "num_labels" not in code


def test_what_neither_library_runs_has_none(tmp_path: Path) -> None:
    job, _model = exported.run(tmp_path, BottleneckAdapterSpec(), "bert", ADAPTER)
    assert snippets.loading_code(described(job)) == ""
    assert snippets.loading_code(described(job, form=MERGED))
    spec = job.job.spec.model_copy(update={"method": PrefixSpec(), "task": "causal-lm"})
    assert snippets.loading_code(described(job, spec=spec, labels=[], data="messages")) == ""
