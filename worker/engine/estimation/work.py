"""The work of all batches of a run, from that of one batch at several lengths.

The work of a batch is a sum of what its padded lengths T allow for, each with a coefficient of its own:

    every text           1 (what does not depend on the rows, such as a gradient of all embeddings), and for each row
    one text             T                   T² (attention)
    query and passage    T₁ + T₂             T₁² + T₂²                one encoder reads both, apart
    encoder-decoder      T₁          T₂      T₁² + T₁·T₂ + T₂²        the decoder also attends to the prompt
"""

from collections.abc import Mapping, Sequence

import numpy as np

from app.domain.resources.work import Work
from app.domain.tasks import Task
from worker.engine.data.batches.batches import Batch
from worker.engine.estimation.shapes import rows_of

Sides = tuple[int, ...]
"""The padded length of each side of a batch, as `Examples.computed` has it."""


def sides_of(batch: Batch, task: Task) -> Sides:
    _rows, first = rows_of(batch)
    if "query_ids" in batch.inputs:
        return first, int(batch.inputs["query_ids"].shape[1])
    return (first, int(batch.labels.shape[1])) if task == "seq2seq-lm" else (first,)


def shorter(sides: Sides, task: Task) -> list[Sides]:
    """Lengths at which a batch is measured, beside its own, so that every coefficient follows."""
    half, quarter = (tuple(max(1, length // part) for length in sides) for part in (2, 4))
    return [half, quarter, (half[0], *sides[1:])] if task == "seq2seq-lm" else [half, quarter]


def work_of_batches(
    padded: Sequence[tuple[int, Sides]], passes: int, rows: int, measured: Mapping[Sides, Work], task: Task
) -> Work:
    """The work of batches, given by rows and lengths, in so many passes; `measured` has that of a batch of `rows`, by
    lengths."""
    known = np.array([[1, *(rows * extent for extent in _extents(sides, task))] for sides in measured], dtype=float)
    coefficients = np.linalg.lstsq(known, np.array(list(measured.values())), rcond=None)[0]
    extents = sum((count * np.array(_extents(sides, task), dtype=float) for count, sides in padded), np.zeros(1))
    return Work(*(float(value) for value in np.array([passes, *extents]) @ coefficients))


def _extents(sides: Sides, task: Task) -> list[int]:
    if task == "seq2seq-lm":
        prompt, completion = sides
        return [prompt, completion, prompt**2 + prompt * completion + completion**2]
    return [sum(sides), sum(length**2 for length in sides)]
