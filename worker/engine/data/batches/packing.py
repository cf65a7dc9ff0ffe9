"""Packing: the rows of a batch concatenated into as few sequences as possible, with attention confined to each row.

    row 1    a b c          sequence  a b c d e       position  0 1 2 0 1
    row 2    d e            mask      a                         a query attends to its own row, up to itself
                                      a b
                                      a b c
                                            d
                                            d e

A batch has the same rows as without packing, and each row the same loss; packing only saves padding. Rows are assigned
to sequences by first-fit decreasing (Johnson 1973), which needs at most 11/9 · OPT + 1 sequences.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from app.domain.messages import _
from worker.engine.data.batches.batches import IGNORED, Batch, learnt
from worker.engine.data.probing import PROBE_LENGTHS, Probe
from worker.engine.models.precision import alike, compute_type, computing


def first_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Assign rows to sequences of at most `capacity` tokens by first-fit decreasing; returns row indices by sequence.
    Raises `ValueError` if a single row is too long."""
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
    """Pack rows into S sequences of T tokens: `input_ids` and `position_ids` [S, T], `attention_mask` bool [S, 1, T,
    T], true where a query (dim 2) attends to a key (dim 3). Padding attends to padding, since softmax over no key is
    undefined."""
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


def _alike_packed(model: nn.Module) -> bool:
    device = next(model.parameters()).device
    rows = [np.arange(length, dtype=np.int32) + 4 * i for i, length in enumerate(PROBE_LENGTHS)]
    together = packed(rows, [row.astype(np.int64) for row in rows], sum(map(len, rows)), 0).to(device)
    with torch.inference_mode(), computing(model):
        packed_logits = model(**together.inputs, use_cache=False).logits[0]
        alone = torch.cat([model(input_ids=torch.from_numpy(row)[None].long().to(device)).logits[0] for row in rows])
    return alike(packed_logits, alone, compute_type(model))


check_packing = Probe(
    "packing",
    _("rows cannot be packed"),
    _alike_packed,
    raised=_("it does not accept packed inputs"),
    differed=_("packed rows influence each other"),
).check
