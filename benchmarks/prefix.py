"""How much time it saves to store the frozen prefix: a BERT of 12 blocks of which the last 2 train.

    python -m benchmarks.prefix [rows, 256] [epochs, 8] [width, 384] [threads, as many as torch takes]

A width of 384 is MiniLM's, 768 BERT-base's.

Weights are random, for time does not depend on them. Two copies of a model train on the same batches, one that computes
its prefix and one that reads it, in turns, an epoch each, so that whatever else the machine does meets both. Seconds
are the processor's; the quotient is given by the clock as well.

What to expect, in forward passes F of one block, t of L blocks trained:

    backward pass through a block whose weights all train: 2·F, the gradient of its input and of its weights
    the same with LoRA, which needs no gradient of the frozen weights: 1·F
    all weights of the last t blocks:  (L + 2t) / 3t = 16/6 = 2.67
    LoRA on the last t blocks:         (L + t) / 2t  = 14/4 = 3.5

What both copies do keeps the quotient below that: the optimizer, LoRA's own small products, and above all dropout,
which the trained blocks have and the frozen ones have not (on a CPU it also takes attention off its fast kernel; both
copies drop as the engine does, by `worker.engine.models.dropout`). The wider the model, the less of it that is. The
head alone (t = 0) has no such limit. Filling costs (L − t)·F a row, once, for all epochs, arms and seeds.
"""

import random
import statistics
import sys
import tempfile
import time
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import torch
from peft import LoraConfig, TaskType, get_peft_model
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification

from worker.engine.loop.prefix.activations import Activations, PrefixCache
from worker.engine.loop.prefix.frozen_prefix import frozen_prefix
from worker.engine.models.attention import use_cpu_kernels

BLOCKS, TRAINED, BATCH, LABELS = 12, 2, 32, 4
VOCABULARY = 30_522
LIMITS = {
    "last layers": (BLOCKS + 2 * TRAINED) / (3 * TRAINED),
    "LoRA": (BLOCKS + TRAINED) / (2 * TRAINED),
    "head": float("inf"),
}
CASES = [("LoRA", 0.0), ("LoRA", 0.1), ("last layers", 0.0), ("last layers", 0.1), ("head", 0.1)]
"""What trains, with which dropout; BERT's own is 0.1."""

Rows = list[torch.Tensor]


class Times(NamedTuple):
    """Seconds by the clock, and of this process on its processors, which other processes hardly change."""

    clock: float
    processor: float

    @classmethod
    def now(cls) -> "Times":
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: "Times") -> "Times":
        return Times(self.clock - other.clock, self.processor - other.processor)


def texts(count: int) -> Rows:
    """Rows of 8 to 128 tokens; half of them are shorter than 33."""
    rng = random.Random(0)
    lengths = [min(128, max(8, round(rng.lognormvariate(3.5, 0.6)))) for _ in range(count)]
    return [torch.tensor([rng.randrange(1000, VOCABULARY) for _ in range(length)]) for length in lengths]


def model_of(kind: str, dropout: float, width: int) -> nn.Module:
    """A model in which what `kind` says trains, its dropout as the engine has it."""
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=width,
        num_hidden_layers=BLOCKS,
        num_attention_heads=12,
        intermediate_size=4 * width,
        num_labels=LABELS,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    model = BertForSequenceClassification(config)
    use_cpu_kernels(model)
    if kind == "LoRA":
        layers = [*range(BLOCKS - TRAINED, BLOCKS)]
        lora = LoraConfig(
            task_type=TaskType.SEQ_CLS, r=8, target_modules=["query", "value"], layers_to_transform=layers
        )
        return get_peft_model(model, lora)
    model.requires_grad_(False)
    model.classifier.requires_grad_(True)
    if kind == "last layers":
        model.bert.encoder.layer[-TRAINED:].requires_grad_(True)
    return model


def inputs_of(rows: Rows, indices: list[int]) -> dict[str, torch.Tensor]:
    """A batch, padded on the right."""
    ids = nn.utils.rnn.pad_sequence([rows[i] for i in indices], batch_first=True)
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(rows[i]) for i in indices], batch_first=True)
    return {"input_ids": ids, "attention_mask": mask}


def batches_of(rows: Rows, epoch: int) -> list[list[int]]:
    """Rows of like length together, the batches in an order of the epoch's own."""
    rng = random.Random(epoch)
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i]), rng.random()))
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    rng.shuffle(batches)
    return batches


class Copy:
    """A model that trains, with its optimizer; `stored` are the activations of its prefix, or None."""

    def __init__(self, model: nn.Module, stored: Activations | None) -> None:
        self.prefix, self.stored = frozen_prefix(model), stored
        self.optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)
        self.losses: list[float] = []

    def epoch(self, rows: Rows, number: int) -> Times:
        """Train on every row once."""
        torch.manual_seed(number)
        began = Times.now()
        self.prefix.train_mode()
        if self.stored is None:
            for indices in batches_of(rows, number):
                self._step(indices, inputs_of(rows, indices))
        else:
            with self.prefix.fed() as feed:
                for indices in batches_of(rows, number):
                    inputs = inputs_of(rows, indices)
                    feed(self.stored.read(indices, inputs["attention_mask"]))
                    self._step(indices, inputs)
        return Times.now() - began

    def _step(self, indices: list[int], inputs: dict[str, torch.Tensor]) -> None:
        logits = self.prefix.model(**inputs).logits
        loss = functional.cross_entropy(logits, torch.tensor([i % LABELS for i in indices]))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.losses.append(loss.item())


def fill(model: nn.Module, rows: Rows, directory: Path) -> tuple[Activations, Times]:
    """Store the activations of every row. Returns them, and the time."""
    began = Times.now()
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    groups = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    batches = ((indices, inputs_of(rows, indices)) for indices in groups)
    stored = frozen_prefix(model).fill(PrefixCache(directory, "rows", 2**34), batches, len(rows), sum(map(len, rows)))
    return stored, Times.now() - began


def compare(kind: str, dropout: float, width: int, rows: Rows, epochs: int, directory: Path) -> str:
    """A line of the table."""
    model = model_of(kind, dropout, width)
    stored, filling = fill(model, rows, directory)
    with stored:
        computing, reading = Copy(deepcopy(model), None), Copy(model, stored)
        for copy in (computing, reading):
            copy.epoch(rows[:BATCH], -1)  # the first steps pay for memory and kernels
        times = [(computing.epoch(rows, i), reading.epoch(rows, i)) for i in range(epochs)]
    slow, fast = zip(*times, strict=True)
    whole = sum(t.processor for t in slow) / (filling.processor + sum(t.processor for t in fast))
    apart = max(abs(a - b) for a, b in zip(computing.losses, reading.losses, strict=True))
    return (
        f"| {kind} | {dropout} | {statistics.median(t.processor for t in slow):.2f} "
        f"| {statistics.median(t.processor for t in fast):.2f} "
        f"| {quotients([(a.processor, b.processor) for a, b in times])} "
        f"| {quotients([(a.clock, b.clock) for a, b in times])} | {LIMITS[kind]:.2f} "
        f"| {filling.processor:.2f} | {whole:.2f} | {apart:.1e} |"
    )


def quotients(pairs: list[tuple[float, float]]) -> str:
    """Median, smallest and largest of an epoch computed to the same epoch read."""
    found = sorted(a / b for a, b in pairs)
    return f"{statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"


def main() -> None:
    """Print the table as Markdown."""
    defaults = ["256", "8", "384", str(torch.get_num_threads())]
    count, epochs, width, threads = (int(a) for a in [*sys.argv[1:], *defaults[len(sys.argv) - 1 :]])
    torch.set_num_threads(threads)
    rows = texts(count)
    print(
        f"{count} rows, {sum(map(len, rows))} tokens, {epochs} epochs, width {width}, {threads} threads, "
        f"torch {torch.__version__}\n"
    )
    print(
        "| trains | dropout | epoch, computed (s) | epoch, read (s) | quotient (smallest to largest) | by the clock "
        "| limit | filling (s) | whole run, filling included | largest difference of a loss |\n|" + "---|" * 10
    )
    for kind, dropout in CASES:
        with tempfile.TemporaryDirectory() as directory:
            print(compare(kind, dropout, width, rows, epochs, Path(directory)), flush=True)


if __name__ == "__main__":
    main()
