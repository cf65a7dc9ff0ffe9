"""What a worker would answer to the Lab."""

import base64

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.lab.computations import SIDE, Attention, LabAnswer, Matrices, Spectral, packed
from app.store.tables import EstimateRow


def spectral(energy: float) -> Spectral:
    """A matrix whose rank 8 keeps so much."""
    kept, picture = [energy / 2, energy, 1.0], base64.b64encode(bytes(SIDE * SIDE)).decode()
    return Spectral(
        norm=1,
        effective_rank=9,
        rank_90=8,
        energy=kept,
        value_ranks=[1, 8, 384],
        values=[1, 0.5, 0],
        pictures=[picture] * 3,
    )


MATRICES = Matrices(
    rows=384, columns=384, ranks=[1, 8, 384], of={"weight": spectral(0.14), "full": spectral(0.7), "lora": spectral(1)}
)

_EVEN, _SELF = (packed(weights.astype(np.float32)) for weights in (np.full((4, 4), 0.25), np.eye(4)))
ATTENTION = Attention(
    tokens=["[CLS]", "the", "bank", "[SEP]"], cut=False, before=[[_EVEN, _SELF]], after=[[_EVEN, _EVEN]]
)


def answered(session: Session, result: LabAnswer) -> None:
    """Store the answer to the one request of the Lab that waits."""
    waiting = select(EstimateRow).where(EstimateRow.kind == "lab", EstimateRow.status == "queued")
    row = session.scalars(waiting).one()
    assert row.lab is None
    row.status, row.result_json = "ready", result.model_dump(mode="json")
