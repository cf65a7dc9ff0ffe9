"""What padding-free batches save on a CPU: an epoch in padded batches, sorted and not, and in padding-free ones, with
their tokens filled up to `CPU_MULTIPLE` and not.

    python -m benchmarks.padding_free texts.csv [rows, 320] [rounds, 2] [max_length, 256]

`texts.csv` has columns `text` and `label`. The packaged base model with a classifier on top, LoRA on query and value,
batches of 16, in the precision and with the dropout of a run, on one thread. The sides take turns, a batch each;
seconds are the processor's, which other processes change less than those of the clock. All sides train the same rows.
"""

import csv
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from app.domain.methods import LoraSpec
from app.samples import samples as sample
from benchmarks.speed.tables import spread
from worker.engine.data.batches import padding_free
from worker.engine.data.batches.batches import Batch, padded, training_order
from worker.engine.data.batches.padding_free import RowsApart, without_padding
from worker.engine.device.environment import computes_in_bf16, prepare
from worker.engine.loop.step import clip, forward_and_back, optimizer_of
from worker.engine.memory import allocator
from worker.engine.methods import MECHANISMS
from worker.engine.models.architecture import describe
from worker.engine.models.attention import use_cpu_kernels
from worker.engine.models.load import load
from worker.engine.models.precision import freeze_in_bf16, kept_in_float32, settle
from worker.engine.tasks import TASKS

CPU, TASK, BATCH = torch.device("cpu"), "sequence-classification", 16
FILLED = padding_free.CPU_MULTIPLE
METHOD = LoraSpec(r=8, lora_alpha=16, target_modules=["query", "value"])
SIDES = ("not sorted", "sorted within 4 batches", "padding-free, not filled up", "padding-free")


def main(file: str, count: int, rounds: int, max_length: int) -> None:
    """Print the table."""
    prepare(1)
    allocator.fast()
    bf16 = computes_in_bf16(CPU)
    with Path(file).open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))[:count]
    labels = sorted({row["label"] for row in rows})
    loaded = load(str(sample.model_directory()), None, TASK, labels, 0)
    base, facts = loaded.model, describe(loaded.model, TASK)
    settle(base, kept_in_float32(METHOD, facts), CPU, bf16=bf16)
    use_cpu_kernels(base)
    model = MECHANISMS[METHOD.mechanism].apply(base, METHOD, facts)
    if bf16:
        freeze_in_bf16(model)
    model.train()
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer, apart = optimizer_of(METHOD, named, 1e-4, 0.0), RowsApart(base)
    texts = [row["text"] for row in rows]
    tokens = [
        np.asarray(ids, np.int32)
        for ids in loaded.processor(texts, truncation=True, max_length=max_length)["input_ids"]
    ]
    lengths = [len(ids) for ids in tokens]

    def step(indices: list[int], free: bool) -> float:
        ids, mask = padded([tokens[i] for i in indices], 0)
        targets = torch.tensor([labels.index(rows[i]["label"]) for i in indices])
        batch = Batch({"input_ids": ids, "attention_mask": mask}, targets, int(mask.sum()))
        batch = without_padding(batch) if free else batch
        began = time.process_time()
        with apart.of(batch) if free else nullcontext():
            forward_and_back(TASKS[TASK], model, batch, len(indices), CPU, bf16, lambda _moment: None)
        clip(optimizer, named.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return time.process_time() - began

    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    computed = dict.fromkeys(SIDES, 0)
    for epoch in range(rounds):
        mixed = training_order([0] * len(rows), BATCH, 0, epoch)
        orders = [mixed, training_order(lengths, BATCH, 0, epoch), mixed, mixed]
        totals = dict.fromkeys(SIDES, 0.0)
        for batches in zip(*orders, strict=True):
            for side, indices in zip(SIDES, batches, strict=True):
                free = side.startswith("padding-free")
                padding_free.CPU_MULTIPLE = FILLED if side == "padding-free" else 1
                totals[side] += step(indices, free)
                read = [lengths[i] for i in indices]
                computed[side] += sum(read) if free else len(read) * max(read)
        for side in SIDES:
            seconds[side].append(totals[side])
    print(f"{len(rows)} rows, {sum(lengths)} tokens, bf16 {bf16}, {rounds} epochs\n")
    print("| batches | padding | processor seconds an epoch | times as fast as not sorted |\n|---|---|---|---|")
    for side in SIDES:
        padding = 1 - rounds * sum(lengths) / computed[side]
        ratios = [a / b for a, b in zip(seconds[SIDES[0]], seconds[side], strict=True)]
        print(f"| {side} | {padding:.0%} | {spread(seconds[side], '.1f')} | {spread(ratios, '.2f')} |")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    numbers = [320, 2, 256]
    for place, value in enumerate(sys.argv[2:]):
        numbers[place] = int(value)
    main(sys.argv[1], *numbers)
