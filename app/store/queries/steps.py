"""Step metrics: appending chunks, reading a whole curve, and a curve thinned to a number of points."""

import numpy as np
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.domain.metrics import STEP_DTYPE, Steps
from app.store.tables import StepChunkRow

COMPACT = 4096


def append(session: Session, run_id: int, steps: Steps) -> None:
    """Add consecutive steps, which must come after what is there."""
    if len(steps):
        first, last = int(steps["step"][0]), int(steps["step"][-1])
        session.add(StepChunkRow(run_id=run_id, first_step=first, last_step=last, data=steps.tobytes()))


def read(session: Session, run_id: int, *, after_step: int = 0) -> Steps:
    """Every step of a run after `after_step`, in order."""
    query = (
        select(StepChunkRow.data)
        .where(StepChunkRow.run_id == run_id, StepChunkRow.last_step > after_step)
        .order_by(StepChunkRow.first_step)
    )
    steps = np.frombuffer(b"".join(session.scalars(query)), dtype=STEP_DTYPE)
    return steps[steps["step"] > after_step] if after_step else steps


def read_many(session: Session, run_ids: list[int]) -> dict[int, Steps]:
    """The steps of several runs, by run."""
    query = (
        select(StepChunkRow.run_id, StepChunkRow.data)
        .where(StepChunkRow.run_id.in_(run_ids))
        .order_by(StepChunkRow.run_id, StepChunkRow.first_step)
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
    """Forget every step of a run."""
    session.execute(delete(StepChunkRow).where(StepChunkRow.run_id == run_id))
