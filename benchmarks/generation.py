"""How long an evaluation's generation takes: the engine beside transformers' `generate` in batches of the same size.

    python -m benchmarks.generation MODEL ROWS.parquet [rows, 616] [rounds, 3] [new tokens, 24] [batch, 64]

MODEL is the directory of a decoder, ROWS.parquet a registered dataset of prompts and completions, whose test prompts
are continued. Weights are as in an evaluation: bfloat16, as of a frozen base model, or float32, as of full fine-tuning.
The sides take turns in one process, a whole pass each:

    plain     transformers' `generate`, sorted by length, in inference mode, with the allocator that measures memory
    fast      the same with the fast allocator
    engine    `worker.engine.evaluation.generation.write`, as an attempt calls it

Seconds are by the clock and of the processors, which other processes hardly change. Texts are compared one by one: in
bfloat16 the order of a sum may decide between two tokens of nearly the same probability.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from benchmarks.speed.tables import spread
from worker.engine.data.batches.batches import padded
from worker.engine.device.environment import computes_in_bf16, prepare
from worker.engine.device.rates import matmul_flops
from worker.engine.evaluation.evaluate import Evaluator
from worker.engine.evaluation.generation import _last_together, decoding, stop_tokens, write
from worker.engine.memory import allocator
from worker.engine.models.attention import use_cpu_kernels
from worker.engine.models.load import load
from worker.engine.models.precision import settle
from worker.engine.tasks import causal_lm

CPU = torch.device("cpu")
Prompts = list[np.ndarray[Any, np.dtype[np.int32]]]


def plain(model: Any, prompts: Prompts, tokenizer: Any, limit: int, batch: int, bf16: bool) -> list[str]:
    """transformers' `generate` and nothing else."""
    ALL_ATTENTION_FUNCTIONS.register("sdpa", sdpa_attention_forward)
    stops, texts = stop_tokens(model.generation_config, tokenizer), [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    model.eval()
    with (
        torch.inference_mode(),
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
        _last_together(model),
        decoding(model, tokenizer, stops, limit) as config,
    ):
        for start in range(0, len(order), batch):
            indices = order[start : start + batch]
            ids, mask = padded([prompts[i] for i in indices], tokenizer.pad_token_id, left=True)
            made = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
            for i, tokens in zip(indices, made[:, ids.shape[1] :].tolist(), strict=True):
                end = next((place for place, token in enumerate(tokens) if token in stops), len(tokens))
                texts[i] = tokenizer.decode(tokens[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return texts


def engine(model: Any, prompts: Prompts, tokenizer: Any, limit: int, batch: int, bf16: bool) -> list[str]:
    """As an attempt does."""
    use_cpu_kernels(model)

    def exact(enabled: bool) -> None:
        (allocator.exact if enabled else allocator.fast)()

    evaluator = Evaluator(
        CPU, batch, tokenizer.pad_token_id, bf16, lambda: None, lambda _line: None, causal_lm.collate, limit, exact
    )
    return write(model, prompts, tokenizer, evaluator)


SIDES: dict[str, tuple[Callable[..., list[str]], Callable[[], None]]] = {
    "plain": (plain, allocator.exact),
    "fast": (plain, allocator.fast),
    "engine": (engine, allocator.exact),
}


def main(model_directory: str, dataset: str, count: int, rounds: int, limit: int, batch: int) -> None:
    """Print a table for each dtype of the weights."""
    prepare(None)
    bf16 = computes_in_bf16(CPU)
    rows = [row for row in pq.read_table(Path(dataset)).to_pylist() if row["split"] == "test"]
    rate = matmul_flops(CPU, bf16)
    for trained in (False, True):
        loaded = load(model_directory, None, "causal-lm", [], 0)
        names = {name for name, _parameter in loaded.model.named_parameters()}
        settle(loaded.model, names if trained else set(), CPU, bf16=bf16)
        tokenizer = loaded.processor
        prompts = [np.asarray(tokenizer(row["prompt"])["input_ids"], dtype=np.int32) for row in rows][:count]
        clock: dict[str, list[float]] = {side: [] for side in SIDES}
        processor: dict[str, list[float]] = {side: [] for side in SIDES}
        texts: dict[str, list[str]] = {}
        for _round in range(rounds):
            for side, (work, allocate) in SIDES.items():
                allocate()
                began, busy = time.perf_counter(), time.process_time()
                texts[side] = work(loaded.model, prompts, tokenizer, limit, batch, bf16)
                clock[side].append(time.perf_counter() - began)
                processor[side].append(time.process_time() - busy)
                print(f"{side}: {clock[side][-1]:.1f} s, processors {processor[side][-1]:.1f} s", file=sys.stderr)
        new = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts["engine"])
        weights = sum(p.numel() for p in loaded.model.parameters())
        least = 2 * weights * (new + sum(map(len, prompts))) / rate
        print(f"\n{'float32' if trained else 'bfloat16'} weights, {len(prompts)} prompts, {new} new tokens; ", end="")
        print(f"the products alone take {least:.1f} s at {rate / 1e9:.0f} GFLOP/s\n")
        print("| side | seconds | processor seconds | times as fast | texts as plain |\n|---|---|---|---|---|")
        for side in SIDES:
            ratios = [a / b for a, b in zip(clock["plain"], clock[side], strict=True)]
            same = sum(a == b for a, b in zip(texts["plain"], texts[side], strict=True))
            print(
                f"| {side} | {spread(clock[side], '.1f')} | {spread(processor[side], '.1f')} "
                f"| {spread(ratios, '.1f')} | {same} |"
            )


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    numbers = [616, 3, 24, 64]
    for place, value in enumerate(sys.argv[3:]):
        numbers[place] = int(value)
    main(sys.argv[1], sys.argv[2], *numbers)
