"""What compiled blocks save on a CPU: the same batches with plain and with compiled blocks, in turns.

    python -m benchmarks.compiled [rounds, 3] [batches, 8]

The packaged base model with a classifier on top, LoRA on query and value and full fine-tuning, in float32 and, where
the processor has it, in bfloat16, with dropout, on one thread. Batches have 16 rows of one length, which differs from
batch to batch: 24 to 256 tokens, as in a sorted epoch. Seconds are the processor's, which other processes change less
than those of the clock. A side's first pass compiles and is not counted; neither is the seconds' optimizer step, which
both share.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from app.domain.methods import FullSpec, LoraSpec, MethodSpec
from app.samples import samples as sample
from benchmarks.speed.tables import spread
from worker.engine.data.batches.batches import Batch
from worker.engine.device.environment import computes_in_bf16, prepare
from worker.engine.loop.clocks import Stopwatch
from worker.engine.loop.compiled import CompiledBlocks, keep_caches_in
from worker.engine.loop.progress import Instruments, Silence
from worker.engine.loop.step import forward_and_back
from worker.engine.memory import allocator
from worker.engine.memory.measured import MemoryMeter
from worker.engine.methods import MECHANISMS
from worker.engine.models.architecture import describe
from worker.engine.models.attention import use_cpu_kernels
from worker.engine.models.load import load
from worker.engine.models.precision import freeze_in_bf16, kept_in_float32, settle
from worker.engine.tasks import TASKS

CPU, TASK, ROWS = torch.device("cpu"), "sequence-classification", 16
Step = Callable[[int, bool], tuple[float, float]]
METHODS: dict[str, MethodSpec] = {
    "LoRA": LoraSpec(r=8, lora_alpha=16, target_modules=["query", "value"]),
    "full": FullSpec(),
}


def measure(name: str, method: MethodSpec, bf16: bool, rounds: int, count: int) -> None:
    """Print a row of the table."""
    loaded = load(str(sample.model_directory()), None, TASK, ["a", "b", "c"], 0)
    base, facts = loaded.model, describe(loaded.model, TASK)
    settle(base, kept_in_float32(method, facts), CPU, bf16=bf16)
    use_cpu_kernels(base)
    model = MECHANISMS[method.mechanism].apply(base, method, facts)
    if bf16:
        freeze_in_bf16(model)
    model.train()
    work = Instruments(Silence(), Stopwatch(time.time(), CPU), MemoryMeter(CPU))
    blocks = CompiledBlocks(base, work)

    def step(place: int, compiled: bool) -> tuple[float, float]:
        length = int(np.geomspace(24, 256, count)[place])
        draw = torch.Generator().manual_seed(place)
        ids = torch.randint(1000, 20000, (ROWS, length), generator=draw)
        mask = torch.ones_like(ids)
        mask[0, -1] = 0
        batch = Batch({"input_ids": ids, "attention_mask": mask}, torch.arange(ROWS) % 3, int(mask.sum()))
        torch.manual_seed(place)
        began = time.process_time()
        with blocks.computing() if compiled else nullcontext():
            loss = forward_and_back(TASKS[TASK], model, batch, ROWS, CPU, bf16, lambda _moment: None)
        seconds = time.process_time() - began
        model.zero_grad(set_to_none=True)
        return seconds, float(loss)

    losses = [step(count - 1, compiled)[1] for compiled in (False, True)]
    compiling = work.clocks.read().compile
    seconds = [[sum(times) for times in zip(*pairs, strict=True)] for pairs in _turns(step, rounds, count)]
    plain, fast = ([pair[side] for pair in seconds] for side in (0, 1))
    ratios = [a / b for a, b in zip(plain, fast, strict=True)]
    print(
        f"| {name} | {'bf16' if bf16 else 'fp32'} | {spread(plain, '.2f')} | {spread(fast, '.2f')} "
        f"| {spread(ratios, '.2f')} | {compiling:.0f} | {abs(losses[1] - losses[0]):.0e} |",
        flush=True,
    )


def _turns(step: Step, rounds: int, count: int) -> Iterator[list[tuple[float, float]]]:
    """For each round the seconds of both sides, batch by batch."""
    for _round in range(rounds):
        yield [(step(place, False)[0], step(place, True)[0]) for place in range(count)]


def main(rounds: int, count: int) -> None:
    """Print the table."""
    prepare(1)
    allocator.fast()
    columns = "method", "precision", "plain, s", "compiled, s", "times as fast", "compiling, s", "loss differs by"
    print("|", " | ".join(columns), "|")
    print("|", " | ".join(["---"] * len(columns)), "|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        keep_caches_in(Path(folder))
        for bf16 in [True, False] if computes_in_bf16(CPU) else [False]:
            for name, method in METHODS.items():
                torch._dynamo.reset()
                measure(name, method, bf16, rounds, count)


if __name__ == "__main__":
    main(*(int(value) for value in [*sys.argv[1:3], *["3", "8"][len(sys.argv) - 1 :]]))
