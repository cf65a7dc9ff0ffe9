"""Carry out an export job: write the files, load them as a user would, and score them on the test items."""

import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from peft import PeftModel
from torch import nn

from app.domain.comparison.fairness.export_gate import ExportScores, TextDifference, WeightCheck
from app.domain.data.dataset import items_hash
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.models.exports import ExportedFile, ExportFormat, ExportJob
from worker.engine.data.batches.batches import Examples, read
from worker.engine.device import environment
from worker.engine.device.environment import prepare
from worker.engine.evaluation.evaluate import Evaluator, Predictions
from worker.engine.loop.clocks import Stopwatch
from worker.engine.loop.progress import Instruments, Silence
from worker.engine.memory.measured import MemoryMeter
from worker.engine.models.hub.access import acting_for
from worker.engine.models.hub.hub import fetch_model
from worker.engine.models.load import load_processor, padding_of
from worker.engine.models.trained import attach, base_model
from worker.engine.tasks import TASKS
from worker.engine.tasks.preference import CHOSEN, REJECTED, Preferences
from worker.features.shipping.exporting.formats import library
from worker.features.shipping.exporting.merge import write
from worker.features.shipping.exporting.progress import Report, part
from worker.features.shipping.exporting.quantized import check_quantized
from worker.features.shipping.exporting.weights import check_weights

BATCH_SIZE = 4
"""Largest batch size: a batch on the CPU must end long before the worker considers the process stalled."""
COMPARED = 0.3
"""Share of the check that is done when the weights are compared."""
MOST_NAMED = 20
"""Wrong tensors that are named."""
HALF_WAY_CALLS = 100
"""Batches and generated tokens at which the bar is half-way: how many there will be depends on what is generated."""


class Scored(NamedTuple):
    examples: Examples
    predictions: Predictions


def check(job: ExportJob, report: Report) -> ExportScores:
    """Load the export in `job.job.output`, score it, and compare predictions and weights with the run's.

    Raises `RunFailed` if it cannot be loaded, and what the task's `encode` and `evaluate` raise.
    """
    began = time.perf_counter()
    compare = check_weights if job.format.dtype else check_quantized
    weights = compare(job, part(report, 0.0, COMPARED)) if job.format.merged else None
    model, processor, library, missing = _loaded(job)
    weights = _named_wrong(weights, missing) if weights else None
    examples, predictions = predict(job, model, processor, part(report, COMPARED, 1.0))
    same, first = _compared(job, examples, predictions, processor)
    metric = job.job.spec.verdict_metric
    return ExportScores(
        loaded_with=library,
        metric=metric,
        items_hash=items_hash([row.item for row in examples.items]),
        scores=predictions.per_item[metric].tolist(),
        same=same,
        first_difference=first,
        weights=weights,
        seconds=time.perf_counter() - began,
        versions=environment.versions(),
        code=environment.source_hash(),
    )


def predict(job: ExportJob, model: nn.Module, processor: Any, report: Report) -> Scored:
    """A model's predictions on the run's test items, in the dtype of its weights."""
    task, spec, sink = TASKS[job.job.spec.task], job.job.spec, Silence()
    rows = read(job.job.dataset_file, job.job.dataset_format, train_fraction=spec.training.train_fraction)["test"]
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    examples = _with_reference(task.encode(rows, "test", processor, inner, job.job, sink), job.predictions)
    calls = 0

    def between() -> None:
        nonlocal calls
        calls += 1
        report(calls / (calls + HALF_WAY_CALLS))

    evaluator = Evaluator(
        torch.device("cpu"),
        min(spec.training.per_device_eval_batch_size, BATCH_SIZE),
        padding_of(processor),
        False,
        between,
        sink.log,
        task.collate,
        spec.training.max_new_tokens,
    )
    return Scored(examples, task.evaluate(model, examples, evaluator, generate=True))


def _with_reference(examples: Examples, predictions: str) -> Examples:
    """Preference pairs of DPO with the log-probabilities that the run's base model gave their answers: rewards are
    relative to these. Raises `RunFailed` without the run's predictions file."""
    if not isinstance(examples, Preferences) or examples.loss != "dpo":
        return examples
    if not predictions:
        text = _(
            "The run has no predictions file, and the rewards of DPO cannot be checked without it. Repeat the run."
        )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
    columns = [f"base_{CHOSEN}", f"base_{REJECTED}"]
    table = pq.read_table(predictions, columns=["item", *columns]).to_pydict()
    known = dict(zip(table["item"], zip(*(table[name] for name in columns), strict=True), strict=True))
    return replace(examples, reference=np.array([known[row.item] for row in examples.rows]))


def _loaded(job: ExportJob) -> tuple[nn.Module, Any, str, list[str]]:
    """Model, processor, the library that loaded them, and the tensors that the files lack."""
    folder = Path(job.job.output)
    if job.format.gguf:
        return *library("gguf_file").load(folder, job.format), _named("transformers"), []
    if job.format is ExportFormat.ONNX_INT8:
        return *library("onnx_file").load(folder), _named("onnxruntime"), []
    if job.format.merged:
        model, report = TASKS[job.job.spec.task].AUTO.from_pretrained(
            str(folder), dtype="auto", use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        processor = load_processor(folder, job.job.spec.task)
        return model.eval(), processor, _named("transformers"), sorted(report["missing_keys"])
    # with another head than the one that the run began with: one that is not loaded must not look right
    spec = job.job.spec
    training = spec.training.model_copy(update={"seed": spec.training.seed + 1})
    other = job.job.model_copy(update={"spec": spec.model_copy(update={"training": training})})
    base, processor = base_model(other, torch.float32)
    adapted = attach(base, other, str(folder))
    return adapted, processor, _named("peft" if isinstance(adapted, PeftModel) else "transformers"), []


def _named(package: str) -> str:
    return f"{'PEFT' if package == 'peft' else package} {version(package)}"


def _named_wrong(weights: WeightCheck, missing: Sequence[str]) -> WeightCheck:
    """Add the tensors that transformers reports as missing; only the first are named, but all are counted."""
    wrong = list(dict.fromkeys([*weights.wrong, *missing]))
    return weights.model_copy(update={"wrong": wrong[:MOST_NAMED], "wrong_count": len(wrong)})


def _compared(
    job: ExportJob, examples: Examples, predictions: Predictions, processor: Any
) -> tuple[int | None, TextDifference | None]:
    """The number of equal predictions, and the earliest difference of generated texts; None where the run has none."""
    if not job.predictions or "prediction" not in predictions.columns:
        return None, None
    table = pq.read_table(job.predictions, columns=["item", "prediction"]).to_pydict()
    theirs, ours = dict(zip(table["item"], table["prediction"], strict=True)), predictions.columns["prediction"]
    pairs = [(row.item, theirs[row.item], own) for row, own in zip(examples.items, ours, strict=True)]
    different = [pair for pair in pairs if pair[1] != pair[2]]
    found = [_first(item, run, own, processor) for item, run, own in different if isinstance(run, str)]
    return len(pairs) - len(different), min(found, key=lambda difference: difference.token, default=None)


def _first(item: str, run: str, export: str, tokenizer: Any) -> TextDifference:
    """The first token in which two texts differ. Databases cannot store NUL, so another character replaces it."""
    sides: list[list[str]] = []
    for text in (run, export):
        ids: Any = tokenizer(text, add_special_tokens=False)["input_ids"]
        sides.append([str(tokenizer.decode([token])).replace("\0", "\N{REPLACEMENT CHARACTER}") for token in ids])
    ours, theirs = sides
    place = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    return TextDifference(
        item=item, token=place, run="".join(ours[place : place + 1]), export="".join(theirs[place : place + 1])
    )


FETCHED = 0.2
"""Share of the work that the download of a base model is taken for."""
WRITTEN = 0.4


class _Download(Silence):
    """Reports the share of the base model's download that is done."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def download(self, done_bytes: int, total_bytes: int) -> None:
        self._report(done_bytes / max(total_bytes, 1))


def export(job: ExportJob, report: Report) -> tuple[list[ExportedFile], ExportScores]:
    """Fetch the base model if it is missing here, write the export, then load it from its files and score it. Raises as
    `fetch_model`, `merge.write` and `check`."""
    prepare(job.job.threads)
    report(0.0)
    if not job.whole:
        cpu = torch.device("cpu")
        sink = _Download(part(report, 0.0, FETCHED))
        instruments = Instruments(sink, Stopwatch(job.job.claimed_at, cpu), MemoryMeter(cpu))
        with acting_for(job.hub):
            job = job.model_copy(update={"job": fetch_model(job.job, instruments)})
    files = write(job, part(report, FETCHED, WRITTEN))
    return files, check(job, part(report, WRITTEN, 1.0))
