"""What bfloat16 does to a LoRA: the same headlines, seeds and steps with `bf16` on and off.

    python -m benchmarks.precision [--rounds 5] [--rows 1300] [--epochs 3]

Both sides are trainers as a worker starts them, in turns. Of losses and accuracy the difference within a seed counts,
on − off, with its sd over the seeds: what bfloat16 costs in quality, if that is more than chance. Time and memory
depend on whether the device has bfloat16 arithmetic of its own; where it has, `bf16` is on unless a run says otherwise.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from app.domain.data.dataset import LabelledRow
from app.domain.methods import LoraSpec
from app.domain.runs.result import RunResult
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments
from app.samples import samples as sample
from benchmarks.speed.tables import over_seeds, spread
from benchmarks.speed.trained import trained
from worker.engine.device.environment import computes_in_bf16

LORA = LoraSpec(r=8, lora_alpha=16, target_modules=["query", "value"])
MIB = 2**20


class Side:
    """One run."""

    def __init__(self, result: RunResult, last_epoch: list[float]) -> None:
        tested = result.evaluation("adapted", "test")
        assert tested is not None
        self.loss = statistics.fmean(last_epoch)
        self.test_loss, self.accuracy = tested.loss, tested.metrics["accuracy"]
        self.seconds, self.peak = result.clocks.train, result.memory.peak_bytes / MIB
        self.train_peak = result.memory.train_peak_bytes / MIB


def run(bf16: bool, seed: int, epochs: int, labels: list[str], rows: list[LabelledRow]) -> Side:
    """Train once."""
    training = TrainingArguments(
        num_train_epochs=epochs, per_device_train_batch_size=16, max_length=64, bf16=bf16, seed=seed
    )
    spec = RunSpec(base_model="packaged", dataset="headlines", method=LORA, training=training)
    with tempfile.TemporaryDirectory() as directory:
        result, steps = trained(spec, sample.model_directory(), labels, rows, Path(directory))
    return Side(result, [step.loss for step in steps if step.epoch > epochs - 1])


COLUMNS: dict[str, tuple[Callable[[Side], float], str]] = {
    "loss, last epoch": (lambda side: side.loss, ".4f"),
    "test loss": (lambda side: side.test_loss, ".4f"),
    "test accuracy": (lambda side: side.accuracy, ".4f"),
}


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="seeds")
    parser.add_argument("--rows", type=int, default=1300, help="to train on")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    labels, every = sample.headlines()
    train = [row for row in every if row.split == "train"][: options.rows]
    rows = [*train, *(row for row in every if row.split == "test")]
    found: dict[bool, list[Side]] = {False: [], True: []}
    for seed in range(options.rounds):
        for bf16 in (False, True) if seed % 2 else (True, False):
            found[bf16].append(run(bf16, seed, options.epochs, labels, rows))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    own = "has" if computes_in_bf16(device) else "has not"
    print(
        f"{LORA.label}, {len(train)} headlines, {options.epochs} epochs, {options.rounds} seeds; this {device.type} "
        f"{own} bfloat16 arithmetic of its own\n"
    )
    print(f"| bf16 | {' | '.join(COLUMNS)} | train (s) | peak (MiB) | peak of training (MiB) |\n|" + "---|" * 7)
    for bf16, sides in found.items():
        quality = [over_seeds([get(side) for side in sides], form) for get, form in COLUMNS.values()]
        used = [spread([side.seconds for side in sides], ".1f"), spread([side.peak for side in sides], ".0f")]
        used.append(spread([side.train_peak for side in sides], ".0f"))
        print(f"| {'on' if bf16 else 'off'} | {' | '.join([*quality, *used])} |")
    pairs = list(zip(found[True], found[False], strict=True))
    apart = [over_seeds([get(on) - get(off) for on, off in pairs], form) for get, form in COLUMNS.values()]
    ratios = [spread([on.seconds / off.seconds for on, off in pairs], ".2f")]
    ratios += [spread([on.peak / off.peak for on, off in pairs], ".2f")]
    ratios += [spread([on.train_peak / off.train_peak for on, off in pairs], ".2f")]
    print(f"| on − off, on / off | {' | '.join([*apart, *ratios])} |", flush=True)


if __name__ == "__main__":
    main()
