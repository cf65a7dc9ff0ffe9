"""Step metrics: appending chunks and reading whole curves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.domain.runs.result import STEP_DTYPE, Steps
from app.store.database.session import IN_BINARY
from app.store.tables import StepChunkRow

COMPACT = 4096


def append(session: Session, run_id: int, steps: Steps) -> None:
    """Append consecutive steps, which must follow the stored ones."""
    if len(steps):
        first, last = int(steps["step"][0]), int(steps["step"][-1])
        session.add(StepChunkRow(run_id=run_id, first_step=first, last_step=last, data=steps.tobytes()))


def count(session: Session, run_id: int) -> int:
    query = select(func.sum(func.length(StepChunkRow.data))).where(StepChunkRow.run_id == run_id)
    return int(session.scalar(query) or 0) // STEP_DTYPE.itemsize


def chunks(session: Session, run_id: int, *, after_step: int = 0) -> list[Steps]:
    """Every step of a run after `after_step`, in order, in the chunks in which they are stored, without a copy."""
    query = (
        select(StepChunkRow.data)
        .where(StepChunkRow.run_id == run_id, StepChunkRow.last_step > after_step)
        .order_by(StepChunkRow.first_step)
        .execution_options(**IN_BINARY)
    )
    pieces = [np.frombuffer(data, dtype=STEP_DTYPE) for data in session.scalars(query)]
    return [chunk[chunk["step"] > after_step] for chunk in pieces] if after_step else pieces


def column(chunks: Sequence[Steps], name: str, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """One column of every step. For a long curve, copying single columns is several times as fast as copying all: the
    allocator has memory for a column at hand, but must request that for all columns from the system, page by page."""
    return np.concatenate([np.empty(0, STEP_DTYPE)[name], *(chunk[name] for chunk in chunks)], dtype=dtype)


def picked(chunks: Sequence[Steps], at: NDArray[np.intp]) -> Steps:
    """The steps at some ascending positions; only these are copied."""
    ends = np.cumsum([len(chunk) for chunk in chunks], dtype=np.intp)
    parts = np.split(at, np.searchsorted(at, ends))
    chosen = [chunk[part - (end - len(chunk))] for chunk, part, end in zip(chunks, parts, ends, strict=False)]
    return np.concatenate([np.empty(0, STEP_DTYPE), *chosen])


def read(session: Session, run_id: int) -> Steps:
    """Every step of a run, in order."""
    return read_many(session, [run_id])[run_id]


def read_many(session: Session, run_ids: list[int]) -> dict[int, Steps]:
    """The steps of several runs, by run."""
    query = (
        select(StepChunkRow.run_id, StepChunkRow.data)
        .where(StepChunkRow.run_id.in_(run_ids))
        .order_by(StepChunkRow.run_id, StepChunkRow.first_step)
        .execution_options(**IN_BINARY)
    )
    chunks: dict[int, list[bytes]] = {run_id: [] for run_id in run_ids}
    for run_id, data in session.execute(query):
        chunks[run_id].append(data)
    return {run_id: np.frombuffer(b"".join(parts), dtype=STEP_DTYPE) for run_id, parts in chunks.items()}


def compact(session: Session, run_id: int) -> None:
    """Rewrite a run's chunks into few large ones; done once, when the run has ended."""
    steps = read(session, run_id)
    clear(session, run_id)
    for start in range(0, len(steps), COMPACT):
        append(session, run_id, steps[start : start + COMPACT])


def clear(session: Session, run_id: int) -> None:
    session.execute(delete(StepChunkRow).where(StepChunkRow.run_id == run_id))
