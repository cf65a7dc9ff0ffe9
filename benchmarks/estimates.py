"""How near the estimated train time of runs unlike the past ones is to the measured one.

    python -m benchmarks.estimates [--json FILE]

Four runs calibrate the device: full fine-tuning and LoRA of MiniLM on short rows, `max_length` 64. Ten others follow,
with rows of other lengths, other methods, batch sizes and models. Each is estimated before it trains, from the
calibration runs alone, and trained as a worker trains it. Targets on an idle machine: median error ≤ 12 %, worst
≤ 30 %, and the range covers 80 % of the measurements. `waiting` is the share of the train time that other processes
took; the error is that of the time without it.
"""

import argparse
import json
import random
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from app import sample
from app.domain.data.dataset import ROWS, Row, Split
from app.domain.methods import FullSpec, HeadOnlySpec, LastLayersSpec, LoraSpec, Method
from app.domain.resources.estimate import EstimateRequest, ResourceEstimate
from app.domain.runs.result import RunResult
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import TASKS, Format, Task
from benchmarks.ledger import model_directory
from benchmarks.speed.trained import trained
from worker.engine.environment import computes_in_bf16, choose_device
from worker.engine.estimation.estimate import estimate_run

WORDS = "time year people way day man thing woman life child world school state family student group country".split()


@dataclass(frozen=True)
class Case:
    """A run: its rows have `words` on average, of which the longest has about three times as many."""

    name: str
    model: str
    """`minilm`, or a shape of `benchmarks.memory.cases`."""
    method: Method
    steps: int
    words: int
    max_length: int
    rows: int = 16
    """Of a batch."""
    more: dict[str, Any] = field(default_factory=dict)
    task: Task = "sequence-classification"


LORA = LoraSpec(r=8, lora_alpha=16)
CALIBRATION = (
    Case("full", "minilm", FullSpec(), 60, 10, 64),
    Case("lora", "minilm", LORA, 60, 10, 64),
    Case("full again", "minilm", FullSpec(), 60, 14, 64),
    Case("lora again", "minilm", LORA, 60, 14, 64),
)
UNLIKE = (
    Case("full, long rows", "minilm", FullSpec(), 40, 80, 128),
    Case("lora, long rows", "minilm", LORA, 40, 80, 128),
    Case("full, 256, batches of 8", "minilm", FullSpec(), 30, 200, 256, 8),
    Case("lora on all layers, 32, batches of 32", "minilm", LoraSpec(r=16, target_modules="all-linear"), 60, 8, 32, 32),
    Case("head only, long rows", "minilm", HeadOnlySpec(), 60, 80, 128, more={"cache_frozen_prefix": False}),
    Case("last two layers, batches of 4", "minilm", LastLayersSpec(layers=2), 100, 40, 128, 4, {"cache_frozen_prefix": False}),
    Case("full, recomputed, accumulated", "minilm", FullSpec(), 30, 80, 128, 8, {"gradient_checkpointing": True, "gradient_accumulation_steps": 2}),
    Case("small model, full", "bert", FullSpec(), 100, 30, 64, 32),
    Case("small model, lora", "bert", LORA, 100, 60, 128, 8),
    Case("small language model, lora", "llama", LORA, 60, 60, 128, 4, {}, "causal-lm"),
)  # fmt: skip


class Measured(NamedTuple):
    """A case's estimate and its run."""

    case: Case
    estimate: ResourceEstimate
    result: RunResult


def rows_of(case: Case) -> tuple[list[Row], Format]:
    """Random words; the length of a row is log-normal."""
    draw = random.Random(case.name)
    form: Format = "labelled" if TASKS[case.task].adds_head else "prompt-completion"

    def text() -> str:
        return " ".join(draw.choices(WORDS, k=max(2, round(draw.lognormvariate(0, 0.5) * case.words * 0.88))))

    rows: list[Row] = []
    splits: tuple[tuple[Split, int], ...] = (("train", 640), ("validation", 16), ("test", 16))
    for split, count in splits:
        for number in range(count):
            content = (text(), number % 2) if form == "labelled" else (text(), "yes it is")
            rows.append(ROWS[form]._make((f"{split}{number}", split, *content)))
    return rows, form


def measured(case: Case, folder: Path) -> Measured:
    """Estimate a case's run, and execute it."""
    model = sample.model_directory() if case.model == "minilm" else model_directory(case.model, folder / "models")
    rows, form = rows_of(case)
    training = TrainingArguments(
        max_steps=case.steps,
        per_device_train_batch_size=case.rows,
        max_length=case.max_length,
        **{"max_new_tokens": 4, "bf16": computes_in_bf16(choose_device("cpu"))} | case.more,
    )
    spec = RunSpec(base_model="x", dataset="x", task=case.task, method=case.method, training=training)
    labels = ["no", "yes"] if form == "labelled" else []
    request = EstimateRequest(
        location=str(model), task=case.task, labels=max(1, len(labels)), method=case.method, training=training,
        dataset_format=form, device="cpu", bf16=bool(training.bf16),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=folder) as run, tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        pq.write_table(pa.table({name: [getattr(r, name) for r in rows] for name in rows[0]._fields}), file.name)
        estimate = estimate_run(request, Path(file.name))
        result, _steps = trained(spec, model, labels, rows, Path(run), form)
    return Measured(case, estimate, result)


def main() -> None:
    p = argparse.ArgumentParser(); p.add_argument("--json", type=Path); p.add_argument("--only")
    a = p.parse_args()
    out = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder)/"models").mkdir()
        for case in (*CALIBRATION, *UNLIKE):
            if a.only and a.only not in case.name: continue
            m = measured(case, Path(folder))
            c = m.result.clocks
            w = m.estimate.train_work
            out.append({"name": case.name, "work": list(w), "steps": case.steps, "trainable": m.estimate.trainable, "clocks": c.model_dump(), "train": c.train, "env": m.result.environment.model_dump(mode="json")})
            print(f"{case.name:40s} train {c.train:6.2f} wait {c.waiting:6.2f} fwd {c.forward:.2f} bwd {c.backward:.2f} opt {c.optimizer:.2f} data {c.data:.2f} | calls/step {w.calls/case.steps:.0f} MB/step {w.bytes/case.steps/1e6:.1f} GF/step {w.flops/case.steps/1e9:.2f} threads {m.result.environment.threads} est {m.estimate.seconds:.1f}", flush=True)
            if a.json: a.json.write_text(json.dumps(out))

if __name__ == "__main__":
    main()
