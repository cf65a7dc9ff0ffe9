"""The Python that a page offers for an export: it runs as it is, and its model is the one that trained."""

import contextlib
import io
from itertools import permutations
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from app.domain.data.dataset import PairRow
from app.domain.methods import BottleneckAdapterSpec, FullSpec, LoraSpec, MethodSpec, PrefixSpec
from app.domain.models.exports import ExportFormat, ExportJob
from app.domain.runs.job import TrainJob
from app.words.runs import snippets
from tests.support.rows import exported
from tests.unit.worker.engine import adapted as tried
from tests.unit.worker.engine.exporting import test_gguf as gguf
from worker.engine.data.lines import LineWriter
from worker.engine.exporting import merge

ADAPTER, MERGED = ExportFormat.ADAPTER, ExportFormat.MERGED_FLOAT32
ONNX, GGUF = ExportFormat.ONNX_INT8, ExportFormat.GGUF_F16
TEXTS = [" ".join(words) for words in permutations(["count", "from", "one", "two", "good", "bad"], 3)]
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
    answers_as_the_trained_model(ADAPTER, spec, name, tmp_path, monkeypatch)


@pytest.mark.by_day
@pytest.mark.parametrize("spec", [LoraSpec(r=4), FullSpec()], ids=["lora", "full"])
@pytest.mark.parametrize("name", list(tried.MODELS))
def test_a_merged_model_answers_as_the_trained_model(
    spec: MethodSpec, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers_as_the_trained_model(MERGED, spec, name, tmp_path, monkeypatch)


def test_a_gguf_export_answers_as_the_trained_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, model = gguf.run(tmp_path, "qwen2", GGUF)
    writes_as_the_trained_model(job, model, monkeypatch)


@pytest.mark.parametrize(("name", "bits"), [("bert", 4), ("llama", 8)])
def test_a_merged_model_is_quantized_while_it_is_loaded(name: str, bits: Literal[4, 8], tmp_path: Path) -> None:
    job, _model = exported.run(tmp_path, LoraSpec(r=4), name, MERGED)
    merge.write(job)
    names: dict[str, Any] = {}
    answer = printed(snippets.quantized_code(described(job), bits), names)
    assert answer in job.job.labels or name == "llama"
    kinds = {type(module).__name__ for module in names["model"].modules()}
    assert f"Linear{'4bit' if bits == 4 else '8bitLt'}" in kinds


def answers_as_the_trained_model(
    form: ExportFormat, spec: MethodSpec, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, model = exported.run(folder, spec, name, form)
    writes_as_the_trained_model(job, model, monkeypatch)


def writes_as_the_trained_model(job: ExportJob, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of an export prints what the trained model answers."""
    merge.write(job)
    answers = ((text, answered(model, text, job.job)) for text in TEXTS)
    text, expected = next(((text, answer) for text, answer in answers if answer), (TEXTS[0], ""))
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
    monkeypatch.setattr(snippets, "EXAMPLE", TEXTS[0])
    location = job.job.model_location
    other = AutoModelForSequenceClassification.from_pretrained(location, num_labels=len(job.job.labels) + 2)
    tokenizer = AutoTokenizer.from_pretrained(location)
    for part in (other, tokenizer):
        part.save_pretrained(tmp_path / "headed")
    code = snippets.loading_code(described(job, base=str(tmp_path / "headed")))
    assert printed(code) == answered(model, TEXTS[0], job.job)


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
