"""A search over learning rates of LoRA: trials one after the other, and several at once on one frozen base model.

    python -m benchmarks.grouped_adapters [--rounds 5] [--batch-sizes 4,16] [--rows 160] [--quick]

8 learning rates × 3 seeds of LoRA r = 8 on the packaged MiniLM and headlines. Three sides, in turns: 24 trials one
after the other; three groups of the 8 rates of a seed, one group after the other; and one group of all 24. Each side
runs in a process of its own, whose start is not counted: a worker keeps a warm one, and a group needs one instead of 8
or 24. The makespan is the time from the first trial's beginning to the last one's end.

Processor seconds, which other work on the machine hardly changes, stand beside it. The validation losses of each trial
are compared with those of the same trial alone: by the median, since a trial that diverges differs at its end as much
from the same trial with a rate that is 10⁻⁶ larger.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from worker.children.environment import child_environment

RATES = [float(f"{1e-4 * 3**k:.3g}") for k in range(8)]
SEEDS = [1_000_000, 1_000_001, 1_000_002]
SIDES = {"one after the other": 1, "groups of 8 (one seed)": 8, "one group of 24": 24}
"""Trials that train together."""


def search(task: dict[str, Any]) -> dict[str, Any]:
    """Run a side in this process: makespan, device-seconds and validation losses by trial."""
    import torch  # noqa: PLC0415 the process that compares sides needs none of these

    from app.domain.methods import LoraSpec  # noqa: PLC0415
    from app.domain.runs.job import TrainJob  # noqa: PLC0415
    from app.domain.runs.result import RunResult  # noqa: PLC0415
    from app.domain.runs.spec import RunSpec  # noqa: PLC0415
    from app.domain.runs.training import TrainingArguments  # noqa: PLC0415
    from app.samples import samples as sample  # noqa: PLC0415
    from tests.support.tiny.texts import Recorder, save_rows  # noqa: PLC0415
    from worker.engine.group.attempt import run_group  # noqa: PLC0415
    from worker.engine.loop.attempt import Attempt  # noqa: PLC0415

    base = sample.model_directory()
    labels, rows = sample.headlines()
    train = [row for row in rows if row.split == "train"][: task["rows"]]
    others = [row for row in rows if row.split != "train"]
    kept = train + [row for row in others if row.split == "validation"][: task["rows"] // 4] + others[-1:]
    results: dict[tuple[float, int], RunResult] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = save_rows(Path(folder) / "rows.parquet", kept)

        def job(rate: float, seed: int) -> TrainJob:
            training = TrainingArguments(
                num_train_epochs=task["epochs"],
                per_device_train_batch_size=task["batch"],
                max_length=64,
                learning_rate=rate,
                seed=seed,
            )
            output = Path(folder) / f"{rate}-{seed}"
            output.mkdir()
            return TrainJob(
                run_id=1,
                epoch=1,
                spec=RunSpec(base_model="sample", dataset="headlines", method=LoraSpec(r=8), training=training),
                model_location=str(base),
                dataset_file=str(file),
                labels=labels,
                trial=True,
                output=str(output),
                device="cpu",
                claimed_at=time.time(),
            )

        trials = [(rate, seed) for seed in SEEDS for rate in RATES[: task["rates"]]]
        warm = job(1e-9, 0)
        Attempt(warm.model_copy(update={"spec": _short(warm.spec)}), Recorder()).run()
        began, began_cpu = time.perf_counter(), time.process_time()
        size = min(task["together"], len(trials))
        for start in range(0, len(trials), size):
            members = trials[start : start + size]
            if size == 1:
                results[members[0]] = Attempt(job(*members[0]), Recorder()).run()
                continue

            def ended(place: int, end: RunResult | BaseException, _attempt: object, members: Any = members) -> None:
                if isinstance(end, BaseException):
                    raise end
                results[members[place]] = end

            run_group([job(*trial) for trial in members], [Recorder() for _trial in members], ended)
        makespan, processor = time.perf_counter() - began, time.process_time() - began_cpu
    return {
        "makespan": makespan,
        "processor": processor,
        "device_seconds": sum(result.clocks.wall for result in results.values()),
        "peak": max(result.memory.peak_bytes for result in results.values()),
        "losses": [results[trial].evaluations[-1].loss for trial in trials],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _short(spec: Any) -> Any:
    """A single step, which compiles kernels and reads the model's file."""
    return spec.model_copy(update={"training": spec.training.model_copy(update={"max_steps": 1})})


def side(task: dict[str, Any]) -> dict[str, Any]:
    """Run a side in a process and an environment of its own, as a worker starts it."""
    command = [sys.executable, "-m", "benchmarks.grouped_adapters", "--task", json.dumps(task)]
    ended = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise RuntimeError(ended.stderr[-2000:])
    answer: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answer


def compare(batch: int, options: argparse.Namespace) -> None:
    """Print a row for each side at a batch size."""
    from benchmarks.speed.tables import spread  # noqa: PLC0415

    found: dict[str, list[dict[str, Any]]] = {name: [] for name in SIDES}
    for turn in range(options.rounds):
        for name in SIDES if turn % 2 == 0 else reversed(SIDES):
            task = {"batch": batch, "rows": options.rows, "epochs": options.epochs, "rates": options.rates}
            found[name].append(side(task | {"together": SIDES[name]}))
            print(f"  batch {batch}, {name}: {found[name][-1]['makespan']:.1f} s", file=sys.stderr, flush=True)
    alone = found["one after the other"]
    for name, turns in found.items():
        ratios = [a["makespan"] / b["makespan"] for a, b in zip(alone, turns, strict=True)]
        processor = [a["processor"] / b["processor"] for a, b in zip(alone, turns, strict=True)]
        pairs = [pair for a, b in zip(alone, turns, strict=True) for pair in zip(a["losses"], b["losses"], strict=True)]
        shares = [turn["device_seconds"] / turn["makespan"] for turn in turns]
        print(
            f"| {batch} | {name} | {spread([turn['makespan'] for turn in turns], '.1f')} | {spread(ratios, '.2f')} "
            f"| {spread([turn['processor'] for turn in turns], '.1f')} | {spread(processor, '.2f')} "
            f"| {spread([turn['peak'] / 2**20 for turn in turns], '.0f')} | {spread(shares, '.3f')} "
            f"| {statistics.median(abs(a - b) / a for a, b in pairs):.1e} |",
            flush=True,
        )


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-sizes", default="4,16", help="by comma")
    parser.add_argument("--rows", type=int, default=160, help="to train on")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rates", type=int, default=len(RATES), help="learning rates")
    parser.add_argument("--quick", action="store_true", help="two rates, one round: shows that it works")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(search(json.loads(options.task))))
        return
    if options.quick:
        options.rounds, options.batch_sizes, options.rows, options.rates = 1, "8", 16, 2
    print(
        f"{options.rates} rates × {len(SEEDS)} seeds, {options.rows} rows, {options.epochs} epochs, "
        f"{options.rounds} rounds, load {os.getloadavg()[0]:.1f}\n\n"
        "| batch | side | makespan (s) | times as fast | processor (s) | its ratio | peak (MiB) "
        "| device-seconds ÷ makespan | median relative difference of a validation loss |\n|" + "---|" * 9,
        flush=True,
    )
    for batch in map(int, options.batch_sizes.split(",")):
        compare(batch, options)


if __name__ == "__main__":
    main()
