"""The base model's evaluations, computed once per worker.

A base model before training is the same for every arm of a study, and a language model's answers can take longer than
training. Predictions depend only on the weights, the rows, the precision, the device and the libraries; those of a new
head also on the seed. A run that shares all of these with an earlier one reads the predictions from the worker's cache.
A model whose checkpoint lacks tensors is evaluated in every run.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.domain.runs.confusion import Confusion
from app.domain.runs.job import TrainJob
from app.domain.runs.result import METRICS_VERSION
from app.domain.tasks import Task
from worker.engine.data.batches.batches import Examples, Texts
from worker.engine.device.environment import device_name
from worker.engine.evaluation.evaluate import Evaluator, Predictions
from worker.engine.models.architecture import head_names
from worker.engine.models.load import Loaded
from worker.engine.tasks import TASKS
from worker.engine.tasks.completions import Completions
from worker.engine.tasks.preference import CHOSEN, REJECTED, Preferences, answer_log_probabilities, judged
from worker.engine.tasks.sentence_embeddings import Pairs
from worker.engine.tasks.token_classification import Tagged

PACKAGES = ("torch", "transformers", "tokenizers", "rapidfuzz", "scikit-learn")
"""Packages on which predictions and metrics depend; their versions are part of the cache key."""
KEPT = 64
"""Evaluations in the cache, of 1 KiB per text, 20 bytes per item and label or 40 bytes per preference pair; the least
recently used are removed."""
ABANDONED_SECONDS = 3600.0
"""An unfinished file that is older was left by a trainer that was killed."""


class BaseEvaluations:
    def __init__(self, job: TrainJob, loaded: Loaded, evaluator: Evaluator) -> None:
        self._job = job
        self._loaded = loaded
        self._evaluator = evaluator

    def evaluate(self, examples: Examples, *, generate: bool, task: Task | None = None) -> Predictions:
        """Predictions on a split, from the cache if an earlier run left them there. Raises as the task's `evaluate`.
        `task`: that of the examples; None: the run's."""
        if isinstance(examples, Preferences):
            return judged(examples, self.log_probabilities(examples), self._evaluator)
        file_of = TASKS[task or self._job.spec.task]
        evaluator = replace(self._evaluator, collate=file_of.collate)
        return self._stored(
            examples, generate, lambda: file_of.evaluate(self._loaded.model, examples, evaluator, generate=generate)
        )

    def log_probabilities(self, examples: Preferences) -> NDArray[np.float64]:
        """[2, N] log-probabilities of the chosen and of the rejected answers, which depend on no loss and no beta."""

        def computed() -> Predictions:
            sums = answer_log_probabilities(self._loaded.model, examples, self._evaluator)
            return Predictions(0.0, {}, {}, {CHOSEN: sums[0].tolist(), REJECTED: sums[1].tolist()})

        columns = self._stored(examples, False, computed).columns
        return np.array([columns[CHOSEN], columns[REJECTED]])

    def _stored(self, examples: Examples, generate: bool, compute: Callable[[], Predictions]) -> Predictions:
        cache = self._job.cache
        if not isinstance(examples, Texts) or not self._reproducible or not (cache and self._job.cache_bytes):
            return compute()
        file = Path(cache) / "base" / f"{self._key(examples, generate)}.json"
        passages = examples.corpus.passages if isinstance(examples, Pairs) else ()
        if predictions := _read(file, passages):
            self._evaluator.log("An earlier run evaluated the base model: its predictions are read from the cache.")
            return predictions
        predictions = compute()
        with suppress(OSError):  # without room on the disk, the next run evaluates it again
            _write(file, predictions, passages)
        return predictions

    @property
    def _reproducible(self) -> bool:
        """All its weights come from files whose hash is known."""
        return bool(self._job.model_fingerprint) and not self._loaded.missing

    def _key(self, examples: Texts, generate: bool) -> str:
        """A hash of everything that the predictions depend on."""
        model, evaluator, rows = self._loaded.model, self._evaluator, hashlib.sha256()
        completions = examples if isinstance(examples, Completions) else None
        pairs = examples if isinstance(examples, Pairs) else None
        answers = examples if isinstance(examples, Preferences) else None
        more = completions.prompts if completions else pairs.queries if pairs else answers.rejected if answers else ()
        for sequences in (examples.tokens, examples.targets, more):
            for sequence in sequences:
                rows.update(len(sequence).to_bytes(8, "little") + sequence.tobytes())
        rows.update(json.dumps([*(completions.references if completions else examples.rows if pairs else ())]).encode())
        if answers:
            rows.update(json.dumps([row.tolist() for row in answers.rejected_targets]).encode())
        if isinstance(examples, Tagged):  # words without a token are scored too
            rows.update(json.dumps([examples.labels, [row[3:] for row in examples.rows]]).encode())
        has_new_head = bool(head_names(model, self._job.spec.task))
        parts = {
            "model": [self._job.model_location, self._job.model_fingerprint, type(model).__name__, str(model.config)],
            "dtypes": sorted((name, str(parameter.dtype)) for name, parameter in model.named_parameters()),
            "attention": model.config._attn_implementation,
            "rows": rows.hexdigest(),
            "head": self._job.spec.training.seed if has_new_head else None,
            "masked": examples.masked,
            "packed": completions.capacity if completions else 0,
            "batch": evaluator.batch_size,
            "generation": [evaluator.max_new_tokens, str(model.generation_config)] if generate and completions else [],
            "device": device_name(evaluator.device),
            "bf16": evaluator.bf16,
            "versions": [METRICS_VERSION, *(version(package) for package in PACKAGES)],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _read(file: Path, passages: Sequence[str]) -> Predictions | None:
    """The stored predictions; None if there are none, or they are damaged. Of a search, the file has the places of the
    passages, of which the split has the texts."""
    try:
        stored = json.loads(file.read_text())
        per_item = {name: np.array(values) for name, values in stored.pop("per_item").items()}
        confusion = stored.pop("confusion")
        if passages:
            stored["columns"]["prediction"] = [passages[place] for place in stored["columns"]["prediction"]]
        predictions = Predictions(
            **stored, per_item=per_item, confusion=Confusion.model_validate(confusion) if confusion else None
        )
        os.utime(file)
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None
    return predictions


def _write(file: Path, predictions: Predictions, passages: Sequence[str]) -> None:
    """Store them whole or not at all, and remove what was not used for longest."""
    columns = dict(predictions.columns)
    if passages:
        places = {text: place for place, text in enumerate(passages)}
        columns["prediction"] = [places[text] for text in columns["prediction"]]
    values = vars(predictions) | {
        "columns": columns,
        "per_item": {name: array.tolist() for name, array in predictions.per_item.items()},
        "confusion": predictions.confusion and predictions.confusion.model_dump(),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in file.parent.glob("*.part"):
        if time.time() - abandoned.stat().st_mtime > ABANDONED_SECONDS:
            abandoned.unlink(missing_ok=True)
    part = file.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(values))
    part.replace(file)
    for old in sorted(file.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)
