"""How near the estimated train time of runs unlike the past ones is to the measured one.

    python -m benchmarks.estimates [--json FILE]

Four runs calibrate the device: full fine-tuning and LoRA of MiniLM on short rows, `max_length` 64. Ten others follow,
with rows of other lengths, other methods, batch sizes and models. Each is estimated from the calibration runs alone,
and trained as a worker trains it. Targets on an idle machine: median error ≤ 12 %, worst ≤ 30 %, and the range covers
80 % of the measurements.

`idle` is the time that the app learns from: the seconds in which all threads had a processor. On an idle machine it is
the measured time. On a busy one, one thread gives the most exact times: OMP_NUM_THREADS=1. `by operations` is the rule
before: the operations of a run, at the operations a second that runs of its method, or else all runs, reached.
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
from transformers import BertConfig, BertModel

from app.domain.data.dataset import ROWS, Row, Split
from app.domain.methods import FullSpec, HeadOnlySpec, LastLayersSpec, LoraSpec, Method
from app.domain.resources.estimate import EstimateRequest
from app.domain.resources.speed import DeviceRates, Speed, Trained
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import TASKS, Format, Task
from app.samples import samples as sample
from benchmarks.ledger import model_directory
from benchmarks.speed.trained import trained
from worker.engine.device.environment import choose_device, computes_in_bf16
from worker.engine.estimation.estimate import estimate_run
from worker.engine.models.load import load_tokenizer

WORDS = ("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school", "state")


@dataclass(frozen=True)
class Case:
    """A run: its rows have `words` on average, of which the longest has about three times as many."""

    name: str
    model: str
    """`minilm`, `tiny`, or a shape of `benchmarks.memory.cases`."""
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
TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256}
PLAIN = {"cache_frozen_prefix": False}
TWICE = {"gradient_checkpointing": True, "gradient_accumulation_steps": 2}
UNLIKE = (
    Case("full, long rows", "minilm", FullSpec(), 30, 80, 128),
    Case("LoRA, long rows", "minilm", LORA, 30, 80, 128),
    Case("full, 256, batches of 8", "minilm", FullSpec(), 20, 200, 256, 8),
    Case("LoRA on all layers, 32, batches of 32", "minilm", LoraSpec(r=16, target_modules="all-linear"), 40, 8, 32, 32),
    Case("head only, long rows", "minilm", HeadOnlySpec(), 60, 80, 128, more=PLAIN),
    Case("last two blocks, batches of 4", "minilm", LastLayersSpec(layers=2), 150, 40, 128, 4, PLAIN),
    Case("full, recomputed, accumulated", "minilm", FullSpec(), 20, 80, 128, 8, TWICE),
    Case("tiny, full", "tiny", FullSpec(), 600, 30, 64, 32),
    Case("tiny, LoRA", "tiny", LORA, 600, 60, 128, 8),
    Case("Llama of 30 M, LoRA", "llama", LORA, 20, 60, 128, 4, {}, "causal-lm"),
)


class Measured(NamedTuple):
    """A case's run."""

    name: str
    method: str
    """Kind."""
    trained: Trained
    rates: DeviceRates


class Line(NamedTuple):
    """A run beside its estimates."""

    name: str
    estimate: float
    low: float
    high: float
    idle: float
    measured: float
    by_operations: float

    @property
    def error(self) -> float:
        """Of the estimate, as a share of the time."""
        return self.estimate / self.idle - 1

    @property
    def error_by_operations(self) -> float:
        """The same of the rule before."""
        return self.by_operations / self.idle - 1


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


def model_of(name: str, folder: Path) -> Path:
    """The directory of a model, of random weights unless it is MiniLM."""
    where = folder / name
    if name == "minilm":
        return sample.model_directory()
    if where.exists():
        return where
    if name != "tiny":
        return model_directory(name, folder)
    model = BertModel(BertConfig(**TINY))
    model.save_pretrained(where)
    load_tokenizer(sample.model_directory()).save_pretrained(where)
    return where


def measured(case: Case, folder: Path) -> Measured:
    """Estimate a case's run, and execute it."""
    model = model_of(case.model, folder)
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
    environment = result.environment
    assert estimate.train_work is not None
    rates = DeviceRates(
        environment.matmul_flops, environment.matmul_rates, environment.call_rate, environment.byte_rate
    )
    own = Trained(estimate.train_work, estimate.width, result.clocks.train, result.clocks.waiting, environment.threads)
    return Measured(case.name, case.method.kind, own, rates)


def compared(past: Sequence[Measured], others: Sequence[Measured]) -> list[Line]:
    """Other runs beside their estimates from the past ones."""
    speed = Speed(DeviceRates.best([run.rates for run in past]), [run.trained for run in past])
    lines = []
    for run in others:
        work, width = run.trained.work, run.trained.width
        value, factor, _runs = speed.of(work, width)
        like = [known.trained for known in past if known.method == run.method] or [known.trained for known in past]
        rate = statistics.median(known.work.flops / known.own_seconds for known in like)
        own = run.trained.own_seconds
        lines.append(Line(run.name, value, value / factor, value * factor, own, run.trained.seconds, work.flops / rate))
    return lines


def summary(title: str, errors: Sequence[float], inside: str = "") -> str:
    """Median and worst of errors, without their signs."""
    sizes = [abs(error) for error in errors]
    return f"{title}: median {statistics.median(sizes):.0%}, worst {max(sizes):.0%}{inside}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare estimated train times with measured ones.")
    parser.add_argument("--json", type=Path, help="write the runs and the lines to this file")
    arguments = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for case in (*CALIBRATION, *UNLIKE):
            runs.append(measured(case, Path(folder)))
            print(f"{case.name}: {runs[-1].trained.seconds:.1f} s", flush=True)
    past, others = runs[: len(CALIBRATION)], runs[len(CALIBRATION) :]
    lines = compared(past, others)
    print("| configuration | estimate (s) | range | idle (s) | measured (s) | error | by operations |")
    print("|---|---|---|---|---|---|---|")
    for line in lines:
        print(
            f"| {line.name} | {line.estimate:.1f} | {line.low:.1f} to {line.high:.1f} | {line.idle:.1f} "
            f"| {line.measured:.1f} | {line.error:+.0%} | {line.error_by_operations:+.0%} |"
        )
    inside = sum(line.low <= line.idle <= line.high for line in lines)
    print(summary("estimate", [line.error for line in lines], f", {inside} of {len(lines)} within the range"))
    print(summary("by operations", [line.error_by_operations for line in lines]))
    if arguments.json:
        arguments.json.write_text(json.dumps({"runs": runs, "lines": lines}, indent=1))


if __name__ == "__main__":
    main()
