"""What a worker would answer to the Lab."""

import base64

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.features.lab.computations import (
    SIDE,
    Attention,
    AttentionRequest,
    Equality,
    EqualityRequest,
    Freezing,
    FreezingSide,
    LabAnswer,
    LabRequest,
    Matrices,
    MatricesRequest,
    Spectral,
    packed,
    stops,
)
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
    assert row.result_json is None
    row.status, row.result_json = "ready", result.model_dump(mode="json")


def side(*, frozen: bool) -> FreezingSide:
    """A training with its base frozen, or with its base left trainable."""
    return FreezingSide(
        expected=300_000,
        trainable=300_000 if frozen else 23_000_000,
        caught="" if frozen else "The freeze audit failed. base.w is trainable, but the method does not train it.",
        weight_bytes=92 * 2**20,
        gradient_bytes=2**20 if frozen else 88 * 2**20,
        optimizer_bytes=2 * 2**20 if frozen else 176 * 2**20,
        changed=0 if frozen else 101,
        base_tensors=101,
        other_answers=0 if frozen else 64,
    )


FREEZING = Freezing(steps=40, rows=150, frozen=side(frozen=True), unfrozen=side(frozen=False))
EQUALITY = Equality(inputs=(16, 24, 384), steps=20, start=0, trained=0, merged=4.8e-6, learned=2.71, largest=8.9)


def computed(request: LabRequest) -> LabAnswer:
    """An answer in the shape that a worker gives to this request."""
    match request:
        case EqualityRequest():
            return EQUALITY
        case MatricesRequest():
            return _matrices(request)
        case AttentionRequest():
            return _attention(request)
        case _:
            return FREEZING


def _matrices(request: MatricesRequest) -> Matrices:
    """W keeps little at a low rank, and ΔW much."""
    ranks, dice = stops(384), np.random.default_rng(0)
    shares = {"weight": 0.5, "random": 0.6} | {name.removesuffix("_file"): 0.06 for name in request.files}
    pictures = [
        base64.b64encode(dice.integers(-99, 99, SIDE * SIDE, dtype=np.int8).tobytes()).decode() for _rank in ranks
    ]
    found = {
        name: Spectral(
            norm=9.1,
            effective_rank=300 * power,
            rank_90=int(384 * power) + 1,
            energy=[(rank / 384) ** power for rank in ranks],
            value_ranks=ranks,
            values=[rank**-0.5 for rank in ranks],
            pictures=pictures,
        )
        for name, power in shares.items()
    }
    return Matrices.model_validate({"rows": 384, "columns": 384, "ranks": ranks, "of": found})


def _attention(request: AttentionRequest) -> Attention:
    """Two layers of two heads; a run changes all of them."""
    words = request.sentence.replace(",", " ,").replace(".", " .").split()
    tokens, dice = ["[CLS]", *words, "[SEP]"], np.random.default_rng(0)

    def heads() -> list[list[str]]:
        weights = dice.dirichlet(np.full(len(tokens), 0.3), size=(2, 2, len(tokens))).astype(np.float32)
        return [[packed(head) for head in layer] for layer in weights]

    return Attention(tokens=tokens, cut=False, before=heads(), after=heads() if request.files else [])
