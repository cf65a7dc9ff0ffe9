"""What the ledger takes: the same training step followed and not followed, in turns.

    python -m benchmarks.following [pairs, 15] [threads, as many as torch takes]

The base model of the sample, full and LoRA, on rows of headlines and of whole articles. A followed step has the
ledger's dispatch mode around it and the allocator that gives memory back at once (`allocator.exact`); the others have
neither, as in a run. A run follows its first step and one or two of its heaviest, so `share` is of a run of the sample
study's length: two followed steps over the seconds of that many steps and nothing else, which is more than its share of
a whole run. Seconds are the processor's, of which other work takes little.
"""

import statistics
import sys
import time
from contextlib import nullcontext

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from app.domain.methods import FullSpec, LoraSpec
from app.samples import samples as sample
from benchmarks.speed.tables import spread
from worker.engine.data.batches.batches import Batch
from worker.engine.device.environment import computes_in_bf16
from worker.engine.loop.step import clip, forward_and_back, optimizer_of
from worker.engine.memory import allocator
from worker.engine.memory.ledger import Ledgers
from worker.engine.methods import MECHANISMS
from worker.engine.models.architecture import describe
from worker.engine.models.attention import use_cpu_kernels
from worker.engine.tasks import TASKS

ROWS = 16
LABELS = 5
TOKENS = {"headlines": 12, "articles": 256}
STEPS = 243
"""Of a run of the sample study: 1,296 rows, 3 epochs."""
METHODS: dict[str, FullSpec | LoraSpec] = {"full": FullSpec(), "LoRA r = 8": LoraSpec(r=8, lora_alpha=16)}


class Stepping:
    """A model that trains on one batch."""

    def __init__(self, method: FullSpec | LoraSpec, tokens: int) -> None:
        torch.manual_seed(0)
        base = AutoModelForSequenceClassification.from_pretrained(sample.model_directory(), num_labels=LABELS)
        use_cpu_kernels(base)
        self.model: nn.Module = MECHANISMS[method.mechanism].apply(
            base, method, describe(base, "sequence-classification")
        )
        self.model.train()
        named = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.optimizer = optimizer_of(method, named, 1e-4, 0.0)
        ids = torch.randint(1000, 20_000, (ROWS, tokens))
        mask = torch.ones_like(ids)
        self.batch = Batch({"input_ids": ids, "attention_mask": mask}, torch.arange(ROWS) % LABELS, ids.numel())
        self.bf16 = computes_in_bf16(torch.device("cpu"))
        self.moment = "data"

    def step(self, *, followed: bool) -> float:
        """One step; its seconds."""
        began = time.process_time()
        if followed:
            allocator.exact()
        else:
            allocator.fast()
        size = (ROWS, self.batch.tokens // ROWS)
        following = Ledgers().following(self.model, self.optimizer, lambda: self.moment, 1, size)
        with following if followed else nullcontext():
            task = TASKS["sequence-classification"]
            forward_and_back(task, self.model, self.batch, ROWS, torch.device("cpu"), self.bf16, self._enter)
            self._enter("optimizer")
            clip(self.optimizer, self.model.parameters(), 1.0)
            self.optimizer.step()
            self._enter("data")
        self.optimizer.zero_grad(set_to_none=True)
        return time.process_time() - began

    def _enter(self, moment: str) -> None:
        self.moment = moment


def main() -> None:
    """Print the table as Markdown."""
    defaults = ["15", str(torch.get_num_threads())]
    pairs, threads = (int(a) for a in [*sys.argv[1:], *defaults[len(sys.argv) - 1 :]])
    torch.set_num_threads(threads)
    print(f"{ROWS} rows a step, {pairs} pairs, {threads} threads, torch {torch.__version__}\n")
    print("| trains | rows | step (ms) | followed (ms) | more (ms) | share of a run |\n|" + "---|" * 6)
    for rows, tokens in TOKENS.items():
        for name, method in METHODS.items():
            stepping = Stepping(method, tokens)
            for followed in (False, True, False):
                stepping.step(followed=followed)  # the first steps pay for memory and kernels
            plain, followed_ = zip(
                *((1e3 * stepping.step(followed=False), 1e3 * stepping.step(followed=True)) for _ in range(pairs)),
                strict=True,
            )
            more = [b - a for a, b in zip(plain, followed_, strict=True)]
            share = 2 * statistics.median(more) / (STEPS * statistics.median(plain))
            print(
                f"| {name} | {rows} | {spread(plain, '.0f')} | {spread(followed_, '.0f')} | {spread(more, '.0f')} "
                f"| {share:.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
