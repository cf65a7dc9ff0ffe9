"""What is predicted of a run's memory, against what the run then holds, beside two rules of thumb.

    python -m benchmarks.ledger [--only bert,t5] [--steps 3] [--json FILE]

Models of random weights in the shapes of BERT, RoBERTa, T5, GPT-2 and Llama; each configuration is a run of the
trainer as a worker starts it, in a process of its own with rows of many lengths. Measured: the largest resident set of
that process above its value before the model was loaded (docs/measuring.md). Predicted before it, from the
configuration file and the lengths of the rows.

The device's constant is the median over the configurations marked `fit`, by precision and kind of task, and the errors
are those of the others. The rules: 16 bytes a parameter (accelerate's estimate-memory: four times the weights, for
Adam), and 18 (weights and gradients in 2 and 4 bytes, moments and a master copy in 4 each).
"""

import argparse
import json
import random
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from app.domain.data.dataset import ROWS, Row, Split
from app.domain.resources.estimate import EstimateRequest, ResourceEstimate
from app.domain.runs.result import RunResult
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import TASKS, Format
from benchmarks.memory.cases import CASES, EVALUATED, SHAPES, Case
from benchmarks.speed.trained import trained
from worker.engine.estimation.estimate import estimate_run

MIB = 2**20
WORDS = 2000


@dataclass(frozen=True)
class Found:
    """A configuration's numbers, in bytes."""

    case: Case
    predicted: ResourceEstimate
    measured: RunResult
    parameters: int

    @property
    def peak(self) -> int:
        """Measured."""
        return self.measured.memory.peak_bytes

    def error(self, constant: float) -> float:
        """(predicted − measured) / measured."""
        return (self.predicted.peak_bytes + constant - self.peak) / self.peak


def model_directory(shape: str, folder: Path) -> Path:
    """A model of random weights with a tokenizer of WORDS words, `w0` to `w1999`."""
    where = folder / shape
    if where.exists():
        return where
    task, sizes = SHAPES[shape]
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    start = {"decoder_start_token_id": 0} if task == "seq2seq-lm" else {}
    config = AutoConfig.for_model(shape, **sizes, **special, **start)
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(where)  # type: ignore[no-untyped-call]
    words = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{i}" for i in range(WORDS))]
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(where)
    return where


def rows_of(case: Case) -> tuple[list[Row], Format]:
    """Random words: in each split a batch of the longest, and batches of shorter ones."""
    task, draw = SHAPES[case.shape][0], random.Random(0)
    form: Format = "labelled" if TASKS[task].adds_head else "prompt-completion"
    together = case.rows * case.more.get("gradient_accumulation_steps", 1)

    def text(words: int) -> str:
        return " ".join(f"w{draw.randrange(WORDS)}" for _ in range(max(1, words)))

    rows: list[Row] = []
    tested = case.more.get("per_device_eval_batch_size", EVALUATED)
    splits: tuple[tuple[Split, int], ...] = (("train", 4 * together), ("validation", 8), ("test", tested))
    for split, count in splits:
        for number in range(count):
            words = 2 * case.length if number < count // 2 else draw.randrange(case.length // 4, case.length)
            content = (text(words), number % 2) if form == "labelled" else (text(words // 2), text(words // 2))
            rows.append(ROWS[form]._make((f"{split}{number}", split, *content)))
    return rows, form


def run(case: Case, models: Path, steps: int) -> Found:
    """Predict a configuration's run, make it, and take both."""
    task, model, (rows, form) = SHAPES[case.shape][0], model_directory(case.shape, models), rows_of(case)
    training = TrainingArguments(
        max_steps=steps,
        per_device_train_batch_size=case.rows,
        max_length=case.length,
        bf16=case.bf16,
        **{"per_device_eval_batch_size": EVALUATED, "max_new_tokens": 4} | case.more,
    )
    spec = RunSpec(base_model=case.shape, dataset="random", task=task, method=case.method, training=training)
    labels = ["no", "yes"] if TASKS[task].adds_head else []
    request = EstimateRequest(
        location=str(model),
        task=task,
        labels=max(1, len(labels)),
        method=case.method,
        training=training,
        dataset_format=form,
        device="cpu",
        bf16=case.bf16,
    )
    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        pq.write_table(pa.table({name: [getattr(r, name) for r in rows] for name in rows[0]._fields}), file.name)
        predicted = estimate_run(request, Path(file.name))
        result, _ = trained(spec, model, labels, rows, Path(folder), form)
    return Found(case, predicted, result, predicted.total)


def constants(found: Sequence[Found]) -> dict[tuple[bool, bool], float]:
    """By `kind`, from the configurations that are marked for it."""
    fitted: dict[tuple[bool, bool], list[int]] = {}
    for f in found:
        if f.case.fit:
            fitted.setdefault(f.case.kind, []).append(f.peak - f.predicted.peak_bytes)
    return {kind: statistics.median(values) for kind, values in fitted.items()}


def table(found: Sequence[Found]) -> Iterator[str]:
    """The report's lines, as Markdown."""
    constant = constants(found)
    yield "constant: " + ", ".join(
        f"{'classifiers' if head else 'language models'} in {'bf16' if bf16 else 'fp32'} {value / MIB:.1f} MiB"
        for (bf16, head), value in sorted(constant.items())
    )
    yield ""
    yield "| configuration | predicted (MiB) | measured (MiB) | error | phase | 16 B a parameter | 18 B |"
    yield "|" + "---|" * 7
    errors: dict[str, list[float]] = {"ledger": [], "16": [], "18": []}
    for f in found:
        own = f.error(constant[f.case.kind])
        rules = [(factor * f.parameters - f.peak) / f.peak for factor in (16, 18)]
        if not f.case.fit:
            for name, value in zip(errors, (own, *rules), strict=True):
                errors[name].append(value)
        predicted = (f.predicted.peak_bytes + constant[f.case.kind]) / MIB
        yield (
            f"| {f.case.words}{' (fit)' if f.case.fit else ''} | {predicted:.1f} | {f.peak / MIB:.1f} | {own:+.2%} "
            f"| {f.predicted.phase} | {rules[0]:+.0%} | {rules[1]:+.0%} |"
        )
    yield ""
    yield f"| over the {len(errors['ledger'])} that were not fitted | mean error | worst |"
    yield "|---|---|---|"
    for name, values in errors.items():
        what = "predicted" if name == "ledger" else f"{name} bytes a parameter"
        sizes = [abs(value) for value in values]
        yield f"| {what} | {statistics.fmean(sizes):.2%} | {max(sizes):.2%} |"


def main() -> None:
    """Run every configuration and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", help="architectures, by comma")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="two configurations: shows that it works")
    parser.add_argument("--json", type=Path, help="leave the predictions and results here")
    options = parser.parse_args()
    cases = [case for case in CASES if not options.only or case.shape in options.only.split(",")]
    if options.quick:
        cases = [cases[0], next(c for c in cases if not c.fit and not c.bf16)]
    found = []
    with tempfile.TemporaryDirectory() as models:
        for case in cases:
            found.append(run(case, Path(models), options.steps))
            last = found[-1]
            off = (last.peak - last.predicted.peak_bytes) / MIB
            print(f"{case.words}: measured {last.peak / MIB:.1f}, off by {off:.1f} MiB", flush=True)
    print()
    print("\n".join(table(found)))
    if options.json:
        content = [
            {"case": f.case.words, "predicted": f.predicted.model_dump(), "measured": f.measured.memory.model_dump()}
            for f in found
        ]
        options.json.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
