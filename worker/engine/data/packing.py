"""Packing: the rows of a batch side by side in as few sequences as possible, each row blind to the others.

    row 1    a b c          sequence  a b c d e       position  0 1 2 0 1
    row 2    d e            mask      a                         a query sees the keys of its own row, up to itself
                                      a b
                                      a b c
                                            d
                                            d e

A batch has the same rows as without packing, and the loss of each is the same: only padding is saved. Which sequences
come about is the first-fit-decreasing rule of bin packing (Johnson 1973); it needs at most 11/9 of the best number of
sequences, and one more.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from app.domain.failures import FailureCode, RunFailed
from worker.engine.data.batches import IGNORED, Batch, learnt
from worker.engine.models.precision import alike, compute_type, computing

_TRIED = (5, 3)
"""Lengths of the rows that a model is tried with."""


def first_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Which rows share a sequence of at most `capacity` tokens, as indices: the longest row first, into the first
    sequence that has room. Raises `ValueError` if a row alone is too long."""
    bins: list[list[int]] = []
    free: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if lengths[row] > capacity:
            raise ValueError(f"Row {row} has {lengths[row]} tokens, and a sequence takes {capacity}.")
        place = next((i for i, left in enumerate(free) if left >= lengths[row]), len(bins))
        if place == len(bins):
            bins.append([])
            free.append(capacity)
        bins[place].append(row)
        free[place] -= lengths[row]
    return bins


def packed(
    tokens: Sequence[NDArray[np.int32]], targets: Sequence[NDArray[np.int64]], capacity: int, pad_token: int
) -> Batch:
    """Rows in S sequences of T tokens: `input_ids` and `position_ids` [S, T], `attention_mask` bool [S, 1, T, T], true
    where a query (third place) sees a key (fourth). Padding sees padding, since a query that sees nothing has no
    attention."""
    bins = first_fit([len(row) for row in tokens], capacity)
    longest = max(sum(len(tokens[i]) for i in members) for members in bins)
    shape = (len(bins), longest)
    ids, labels = np.full(shape, pad_token, dtype=np.int64), np.full(shape, IGNORED, dtype=np.int64)
    positions, owner = np.zeros(shape, dtype=np.int64), np.full(shape, -1, dtype=np.int64)
    for place, members in enumerate(bins):
        start = 0
        for row in members:
            span = slice(start, start := start + len(tokens[row]))
            ids[place, span], labels[place, span] = tokens[row], targets[row]
            positions[place, span], owner[place, span] = np.arange(len(tokens[row])), row
    rows = torch.from_numpy(owner)
    mask = (rows.unsqueeze(2) == rows.unsqueeze(1)).tril_().unsqueeze(1)
    inputs = {"input_ids": torch.from_numpy(ids), "position_ids": torch.from_numpy(positions), "attention_mask": mask}
    side_by_side = torch.from_numpy(labels)
    return Batch(inputs, side_by_side, sum(len(row) for row in tokens), learnt(side_by_side))


def check_packing(model: Any, max_length: int) -> None:
    """Raise `RunFailed(bad_configuration)` if the model does not give packed rows the logits that they have alone.

    It is tried: two rows side by side must come out as they do one below the other. What needs longer rows to show is
    asked of the configuration: a window of attention, for which the mask above stands too, must be no shorter than a
    row.
    """
    config = model.config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size", "window_size")]
    narrow = [window for window in windows if isinstance(window, int) and 0 < window < max_length]
    if narrow:
        raise _refused(
            config,
            f"it attends to a window of {narrow[0]} tokens",
            f"Lower max_length from {max_length} to that, or leave",
        )
    training = model.training
    model.eval()
    try:
        alike = _alike_packed(model)
    except Exception as error:  # whatever an architecture raises at a mask or a position that it does not know
        raise _refused(config, "it cannot read such a batch") from error
    finally:
        model.train(training)
    if not alike:
        raise _refused(config, "rows side by side would change each other")


def _alike_packed(model: nn.Module) -> bool:
    device = next(model.parameters()).device
    rows = [np.arange(length, dtype=np.int32) + 4 * i for i, length in enumerate(_TRIED)]
    together = packed(rows, [row.astype(np.int64) for row in rows], sum(map(len, rows)), 0).to(device)
    with torch.inference_mode(), computing(model):
        found = model(**together.inputs, use_cache=False).logits[0]
        alone = torch.cat([model(input_ids=torch.from_numpy(row)[None].long().to(device)).logits[0] for row in rows])
    return alike(found, alone, compute_type(model))


def _refused(config: Any, why: str, remedy: str = "Leave") -> RunFailed:
    return RunFailed(
        FailureCode.BAD_CONFIGURATION,
        f"packing: rows cannot be packed for a model of type {config.model_type!r}, because {why}. {remedy} "
        "packing out.",
    )
