"""What a training step spends on each operator, and what share of the matmul peak its products reach.

    python -m benchmarks.operators [rows, 16] [tokens, 256] [steps, 5]

The packaged base model with a classifier on top, LoRA and full, in the precision and with the dropout of a run, on one
thread, rows of one length. An upper limit follows: if everything but the products took no time, and the products ran
at the peak, a step would be so many times as fast.
"""

import statistics
import sys
import time

import torch
from torch.profiler import ProfilerActivity, profile

from app.domain.methods import FullSpec, LoraSpec
from app.samples import samples as sample
from worker.engine.data.batches.batches import Batch
from worker.engine.device.environment import computes_in_bf16, prepare
from worker.engine.device.rates import matmul_flops
from worker.engine.loop.step import clip, forward_and_back, optimizer_of
from worker.engine.memory import allocator
from worker.engine.methods import MECHANISMS
from worker.engine.models.architecture import describe
from worker.engine.models.attention import use_cpu_kernels
from worker.engine.models.load import load
from worker.engine.models.precision import freeze_in_bf16, kept_in_float32, settle
from worker.engine.tasks import TASKS

CPU = torch.device("cpu")
TASK, LABELS = "sequence-classification", [str(i) for i in range(8)]
METHODS = (LoraSpec(r=8, lora_alpha=16, target_modules=["query", "value"]), FullSpec())
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
LISTED = 14


def main(rows: int, tokens: int, steps: int) -> None:
    """Print a table for each method."""
    prepare(1)
    allocator.fast()
    bf16 = computes_in_bf16(CPU)
    for method in METHODS:
        base = load(str(sample.model_directory()), None, TASK, LABELS, 0).model
        facts = describe(base, TASK)
        settle(base, kept_in_float32(method, facts), CPU, bf16=bf16)
        use_cpu_kernels(base)
        model = MECHANISMS[method.mechanism].apply(base, method, facts)
        if bf16:
            freeze_in_bf16(model)
        model.train()
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        optimizer = optimizer_of(method, named, 1e-4, 0.0)
        ids = torch.randint(1000, 20000, (rows, tokens))
        batch = Batch({"input_ids": ids}, torch.arange(rows) % len(LABELS), ids.numel())

        def step(model=model, optimizer=optimizer, named=named, batch=batch) -> None:  # type: ignore[no-untyped-def]
            forward_and_back(TASKS[TASK], model, batch, rows, CPU, bf16, lambda _moment: None)
            clip(optimizer, named.values(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        step()
        rates, seconds = [], []
        with profile(activities=[ProfilerActivity.CPU], with_flops=True) as profiled:
            for _step in range(steps):
                rates.append(matmul_flops(CPU, bf16))  # what else the machine does meets the peak too
                began = time.thread_time()
                step()
                seconds.append(time.thread_time() - began)
        peak = statistics.median(rates)
        events = [e for e in profiled.key_averages() if e.key.startswith("aten::") or "Optimizer" not in e.key]
        # The products of `matmul_flops` itself, six in each step, are not the step's.
        measuring = steps * 6 * 2 * 1024**3
        flops = {e.key: e.flops - (measuring if e.key == "aten::mm" else 0) for e in events}
        own = {e.key: e.self_cpu_time_total / 1e6 for e in events}
        own["aten::mm"] -= measuring / peak
        total = sum(own.values())
        print(
            f"\n{method.label}: {rows} × {tokens} tokens, {statistics.median(seconds):.2f} s of one core a step; ",
            end="",
        )
        print(f"peak {peak / 1e9:.0f} GFLOP/s\n\n| operator | share of time | share of the peak |\n|---|---|---|")
        for key in sorted(own, key=lambda key: -own[key])[:LISTED]:
            share = f"{flops[key] / own[key] / peak:.0%}" if key in PRODUCTS and flops[key] > 0 else "–"
            print(f"| {key.removeprefix('aten::')} | {own[key] / total:.1%} | {share} |")
        products = sum(flops[key] for key in PRODUCTS if key in flops)
        print(f"\nProducts alone at the peak: {products / peak / total:.0%} of the time", flush=True)


if __name__ == "__main__":
    numbers = [16, 256, 5]
    for place, value in enumerate(sys.argv[1:]):
        numbers[place] = int(value)
    main(*numbers)
