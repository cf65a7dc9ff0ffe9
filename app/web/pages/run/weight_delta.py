"""The section of a run's page about its weight updates: every matrix in numbers."""

from dataclasses import dataclass

from app.domain.models.weight_delta import MatrixDelta, WeightDeltas
from app.web.format import count, percent
from app.web.i18n import gettext as _
from app.web.text.weight_delta import (
    directions,
    explained,
    intruders,
    left_out,
    run_sentence,
    weight_sentence,
    why_none,
)


@dataclass(frozen=True)
class MatrixRow:
    """One matrix."""

    name: str
    cells: tuple[str, ...]
    """Shape, effective rank of ΔW and of W, rank for 90 %, energy at rank 8, norm ratio, intruders."""


@dataclass(frozen=True)
class RunWeightDeltas:
    """What a run did to each matrix."""

    reason: str
    """Why there is nothing to show; empty where there is."""
    sentences: str
    """The update, and what the matrices are without it."""
    left_out: str
    rows: tuple[MatrixRow, ...]
    explained: str

    @classmethod
    def of(cls, label: str, found: WeightDeltas | None) -> "RunWeightDeltas":
        """From the method's label and the analysis, if the run has one."""
        summary = found.summary if found else None
        if found is None or summary is None:
            return cls(why_none(found), "", "", (), "")
        rows = tuple(map(_row, found.matrices))
        said = f"{run_sentence(label, summary)} {weight_sentence(summary)}"
        return cls("", said, left_out(found), rows, explained())


def _row(m: MatrixDelta) -> MatrixRow:
    place = m.module if m.block is None else _("block %(block)s, %(module)s", block=m.block, module=m.module)
    return MatrixRow(
        place,
        (
            f"{count(m.rows)} × {count(m.columns)}",
            _("%(rank)s of %(most)s", rank=directions(m.delta.effective_rank), most=count(m.delta.count)),
            directions(m.weight.effective_rank),
            count(m.delta.rank_90),
            percent(m.delta.energy_at(8), 0),
            percent(m.norm_ratio),
            intruders(m.intruders, m.top),
        ),
    )
