"""The few-shot baseline: the base model continues a prompt that begins with four training examples (Brown et al. 2020).

    example 1 ⏎⏎ example 2 ⏎⏎ … ⏎⏎ prompt of the item

An example is a training row's prompt followed by its completion; which rows, and their order, is drawn with a fixed
seed. An item gets as many of them as fit with its prompt within `max_length` tokens. The answer is greedy and ends at
the first blank line, unless an example's completion has one.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from app.domain.data.baselines import FEW_SHOT_EXAMPLES, FEW_SHOT_SEED, BaselineRequest
from app.domain.data.dataset import PairRow
from app.domain.messages import _
from worker.engine.baselines.small_model import impossible, load_small
from worker.engine.data.batches.batches import most_tokens
from worker.engine.data.rows import special_tokens
from worker.engine.evaluation.evaluate import Evaluator
from worker.engine.evaluation.generation import write
from worker.engine.tasks import causal_lm

BETWEEN = "\n\n"
BATCH = 16


def few_shot_answers(request: BaselineRequest, train: Sequence[PairRow], test: Sequence[PairRow]) -> list[str]:
    """One answer per test row. Raises `RunFailed` if the model cannot be used, or no example fits any prompt."""
    tokenizer, model = load_small(request, AutoModelForCausalLM)
    examples = chosen(train)
    limit = request.max_length
    if (positions := most_tokens(model.config, tokenizer)) is not None:
        limit = min(limit, positions - request.max_new_tokens)
    made = [prompt(row.prompt, examples, limit, encoder(tokenizer)) for row in test]
    if not any(used for _ids, used in made):
        problem = _(
            "No training example fits into a prompt of %(tokens)s tokens. Raise max_length.",
            tokens=limit,
        )
        raise impossible(problem)
    evaluator = Evaluator(
        torch.device("cpu"),
        BATCH,
        tokenizer.pad_token_id or 0,
        False,
        lambda: None,
        lambda _line: None,
        causal_lm.collate,
        request.max_new_tokens,
    )
    written = write(model, [ids for ids, _used in made], tokenizer, evaluator)
    if any(BETWEEN in row.completion.strip() for row in examples):
        return written
    return [text.lstrip("\n").split(BETWEEN, 1)[0] for text in written]


def chosen(train: Sequence[PairRow]) -> list[PairRow]:
    """The examples, in the order in which they stand in a prompt."""
    return random.Random(FEW_SHOT_SEED).sample(list(train), min(FEW_SHOT_EXAMPLES, len(train)))


def encoder(tokenizer: Any) -> Callable[[str], list[int]]:
    """Return a function from a text to its token ids, with the tokens that start a text (BOS) but not those that end
    it."""
    lead, _ending = special_tokens(tokenizer("a", add_special_tokens=False)["input_ids"], tokenizer("a")["input_ids"])
    return lambda text: [*lead, *tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]]


def prompt(
    text: str, examples: Sequence[PairRow], limit: int, encode: Callable[[str], list[int]]
) -> tuple[NDArray[np.int32], int]:
    """Ids of a prompt of at most `limit` tokens, and how many of the examples are in it: the first ones. Without room
    for an example, the end of the prompt alone."""
    ids: list[int] = []
    for used in range(len(examples), -1, -1):
        shown = [f"{row.prompt}{row.completion}" for row in examples[:used]]
        ids = encode(BETWEEN.join([*shown, text]))
        if len(ids) <= limit:
            return np.asarray(ids, dtype=np.int32), used
    return np.asarray(ids[-limit:], dtype=np.int32), 0
