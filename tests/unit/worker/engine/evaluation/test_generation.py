"""Rows that have ended leave a batch of generation: every row writes what it writes alone."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel

from tests.support.tiny import lm as tiny_lm
from worker.engine.data.batches.order import evaluation_order
from worker.engine.evaluation.evaluate import Evaluator
from worker.engine.evaluation.generation import write
from worker.engine.models.attention import use_cpu_kernels

NEW = 20
LENGTHS = [1, 2, 2, 3, 5, 7, 7, 11, 13, 17, 19, 23]
CPU = torch.device("cpu")


def evaluator(rows: int = 64, bf16: bool = False, **more: Any) -> Evaluator:
    nothing: Any = lambda *_: None  # noqa: E731
    return Evaluator(CPU, rows, 0, bf16, nothing, nothing, nothing, NEW, **more)


def prompts() -> list[NDArray[np.int32]]:
    draw = np.random.default_rng(0)
    return [draw.integers(6, 32, length).astype(np.int32) for length in LENGTHS]


def alone(model: Any, prompt: NDArray[np.int32], stops: list[int]) -> list[int]:
    """Greedy, token by token, each time from the whole text without any cache."""
    ids, new = torch.from_numpy(prompt).long()[None], []
    while len(new) < NEW:
        with torch.no_grad():
            token = int(model(input_ids=ids, use_cache=False).logits[0, -1].argmax())
        if token in stops:
            break
        new.append(token)
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    return new


class Rows:
    """The number of rows of each forward pass, by batch: a batch begins with a pass over its prompts."""

    def __init__(self, model: nn.Module) -> None:
        self.batches: list[list[int]] = []
        model.register_forward_pre_hook(lambda _, args, options: self._note(options["input_ids"]), with_kwargs=True)

    def _note(self, ids: torch.Tensor) -> None:
        if ids.shape[1] > 1:
            self.batches.append([])
        self.batches[-1].append(len(ids))


@pytest.mark.by_day
@pytest.mark.parametrize("keys", [4, 2, 1])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_every_row_writes_what_it_writes_alone(kind: str, keys: int) -> None:
    model: Any = tiny_lm.model(kind, **({} if kind == "gpt2" else {"num_key_value_heads": keys}))
    use_cpu_kernels(model)
    tokenizer, stops = tiny_lm.tokenizer(), [3, 9, 12, 20, 27]
    model.generation_config.eos_token_id = stops
    expected = [alone(model, prompt, stops) for prompt in prompts()]
    assert len({len(tokens) for tokens in expected}) > 3
    rows = Rows(model)
    texts = write(model, prompts(), tokenizer, evaluator())
    assert texts == [tokenizer.decode(tokens, skip_special_tokens=True) for tokens in expected]
    order = evaluation_order(LENGTHS, 64)
    assert [batch[0] for batch in rows.batches] == [len(batch) for batch in order]
    assert any(batch[-1] < batch[0] for batch in rows.batches)


@pytest.mark.parametrize("rows", [1, 5])
def test_the_size_of_a_batch_changes_nothing(rows: int) -> None:
    model: Any = tiny_lm.model("llama")
    model.generation_config.eos_token_id = [3, 9, 12, 20, 27]
    tokenizer = tiny_lm.tokenizer()
    assert write(model, prompts(), tokenizer, evaluator(rows)) == write(model, prompts(), tokenizer, evaluator())


def test_a_window_of_attention_keeps_its_rows_together() -> None:
    """Its cache drops what is out of sight, so transformers could not go on from it."""
    model: Any = tiny_lm.model("qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=0)
    tokenizer, stops = tiny_lm.tokenizer(), [3, 9, 12, 20, 27]
    model.generation_config.eos_token_id = stops
    expected = [alone(model, prompt, stops) for prompt in prompts()]
    rows = Rows(model)
    texts = write(model, prompts(), tokenizer, evaluator())
    assert texts == [tokenizer.decode(tokens, skip_special_tokens=True) for tokens in expected]
    assert [set(batch) for batch in rows.batches] == [{len(batch)} for batch in evaluation_order(LENGTHS, 64)]


def test_a_model_without_a_cache_keeps_its_rows_together() -> None:
    """openai-gpt takes no keys and values of earlier tokens, nor positions for padding: prompts are equally long."""
    torch.manual_seed(3)
    config = OpenAIGPTConfig(vocab_size=32, n_embd=32, n_layer=2, n_head=2, n_positions=64, initializer_range=0.5)
    model: Any = OpenAIGPTLMHeadModel(config).eval()
    tokenizer, stops = tiny_lm.tokenizer(), [3, 9, 12, 20, 27]
    model.generation_config.eos_token_id = stops
    same = [np.random.default_rng(seed).integers(6, 32, 7).astype(np.int32) for seed in range(12)]
    expected = [alone(model, prompt, stops) for prompt in same]
    assert len(same) / 4 <= sum(len(tokens) < NEW for tokens in expected) < len(same)
    rows = Rows(model)
    texts = write(model, same, tokenizer, evaluator())
    assert texts == [tokenizer.decode(tokens, skip_special_tokens=True) for tokens in expected]
    assert {count for batch in rows.batches for count in batch} == {len(same)}


def test_memory_is_measured_in_the_heaviest_batches_only() -> None:
    calls: list[bool] = []
    write(tiny_lm.model("llama"), prompts(), tiny_lm.tokenizer(), evaluator(2, exact=calls.append))
    assert calls[0]
    assert calls.count(True) <= 2 < len(calls)


class Casts(TorchDispatchMode):
    """Counts tensors of a shape that are rounded to bfloat16."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.shape, self.count = shape, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and made.dtype is torch.bfloat16 and made.shape == self.shape:
            self.count += 1
        return made


def test_float32_weights_are_rounded_once_not_for_every_token() -> None:
    model: Any = tiny_lm.model("llama", intermediate_size=48)
    weights = [p for p in model.parameters() if p.shape == (48, 32)]
    with Casts(weights[0].shape) as casts:
        write(model, prompts(), tiny_lm.tokenizer(), evaluator(bf16=True))
    # gate and up projection of both layers, once for each forward pass of transformers' generation at most
    assert casts.count == len(weights)
