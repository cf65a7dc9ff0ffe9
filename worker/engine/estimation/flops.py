"""FLOPs of all batches of a run, from those of one batch at several lengths.

A row's FLOPs are a sum of what its padded lengths T allow for, each with a coefficient of its own:

    one text             T                   T² (attention)
    query and passage    T₁ + T₂             T₁² + T₂²                one encoder reads both, apart
    encoder-decoder      T₁          T₂      T₁² + T₁·T₂ + T₂²        the decoder also attends to the prompt
"""

from collections.abc import Mapping, Sequence

import numpy as np

from app.domain.tasks import Task
from worker.engine.data.batches import Batch
from worker.engine.estimation.shapes import rows_of

Sides = tuple[int, ...]
"""The padded length of each side of a batch, as `Examples.computed` has it."""


def sides_of(batch: Batch, task: Task) -> Sides:
    """Those of a batch."""
    _rows, first = rows_of(batch)
    if "query_ids" in batch.inputs:
        return first, int(batch.inputs["query_ids"].shape[1])
    return (first, int(batch.labels.shape[1])) if task == "seq2seq-lm" else (first,)


def halves(sides: Sides) -> Sides:
    """Half of each length, at least 1."""
    return tuple(max(1, length // 2) for length in sides)


def flops_of_batches(padded: Sequence[tuple[int, Sides]], of_rows: Mapping[Sides, float], task: Task) -> float:
    """The FLOPs of batches, given by rows and lengths; `of_rows` has those of a row at as many lengths as there are
    coefficients."""
    known = np.array([_extents(sides, task) for sides in of_rows], dtype=float)
    coefficients = np.linalg.lstsq(known, np.array(list(of_rows.values())), rcond=None)[0]
    return float(sum(rows * (coefficients @ _extents(sides, task)) for rows, sides in padded))


def _extents(sides: Sides, task: Task) -> list[int]:
    if task == "seq2seq-lm":
        prompt, completion = sides
        return [prompt, completion, prompt**2 + prompt * completion + completion**2]
    return [sum(sides), sum(length**2 for length in sides)]
