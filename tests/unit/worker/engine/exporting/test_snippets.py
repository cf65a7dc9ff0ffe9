"""The Python that a page offers for an export: it runs as it is, and its model is the one that trained."""

import contextlib
import io
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from app.domain.methods import (
    BottleneckAdapterSpec,
    FullSpec,
    LoraFromScratchSpec,
    LoraSpec,
    MethodSpec,
    PrefixSpec,
    PromptSpec,
    PTuningSpec,
)
from app.domain.models.exports import ExportFormat
from app.domain.runs.job import TrainJob
from app.web.text import snippets
from tests import exported
from tests.unit.worker.engine import adapted as tried
from worker.engine.exporting import merge

ADAPTER, MERGED = ExportFormat.ADAPTER, ExportFormat.MERGED_FLOAT32
TEXTS = [" ".join(words) for words in permutations(["count", "from", "one", "two", "good", "bad"], 3)]
"""Until a model answers one of them with words."""


def printed(code: str) -> str:
    """What a program prints, without the final line break."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "snippet", "exec"), {})
    return out.getvalue().rstrip("\n")


@pytest.mark.parametrize("name", list(tried.MODELS))
@pytest.mark.parametrize(
    ("form", "spec"),
    [
        (ADAPTER, LoraSpec(r=4)),
        (ADAPTER, LoraFromScratchSpec(r=4)),
        (MERGED, LoraSpec(r=4)),
        (MERGED, FullSpec()),
        (ADAPTER, PromptSpec(num_virtual_tokens=3)),
        (ADAPTER, PTuningSpec(num_virtual_tokens=3)),
    ],
    ids=["adapter", "from-scratch", "merged", "full", "prompt", "p-tuning"],
)
def test_it_runs_and_answers_as_the_trained_model(
    form: ExportFormat, spec: MethodSpec, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, model = exported.run(tmp_path, spec, name, form)
    merge.write(job)
    text, expected = next(
        (text, answer) for text in TEXTS if (answer := answered(model, text, job.job)) not in ("", text)
    )
    monkeypatch.setattr(snippets, "EXAMPLE", text)
    whole = snippets.Export(
        form, job.job.spec, job.job.output, job.job.model_location, "", job.job.labels, job.job.dataset_format
    )
    assert printed(snippets.loading_code(whole)) == expected


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
    code = snippets.loading_code(
        snippets.Export(ADAPTER, job.job.spec, "run-1-adapter", "owner/name", "abc123", [], "messages")
    )
    compile(code, "snippet", "exec")
    assert code.count('"owner/name", revision="abc123"') == 2
    assert "apply_chat_template" in code and "num_labels" not in code


def test_what_neither_library_runs_has_none(tmp_path: Path) -> None:
    job, _model = exported.run(tmp_path, BottleneckAdapterSpec(), "bert", ADAPTER)
    assert snippets.loading_code(snippets.Export(ADAPTER, job.job.spec, "f", "b", "", ["x"], "labelled")) == ""
    assert snippets.loading_code(snippets.Export(MERGED, job.job.spec, "f", "b", "", ["x"], "labelled"))
    spec = job.job.spec.model_copy(update={"method": PrefixSpec(), "task": "causal-lm"})
    assert snippets.loading_code(snippets.Export(ADAPTER, spec, "f", "b", "", [], "messages")) == ""
