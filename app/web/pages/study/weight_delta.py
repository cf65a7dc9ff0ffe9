"""The section of a study's page about weight updates: what training did to each matrix, arm by arm."""

from dataclasses import dataclass

from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.methods import Family
from app.domain.models.weight_delta import WeightDeltaSummary
from app.web.figures.view import ViewParams
from app.web.figures.weight_delta import ArmDelta, Deltas, drawable
from app.web.format import NOTHING, count, percent
from app.web.i18n import gettext as _
from app.web.text.weight_delta import (
    MEASURES,
    MOST_SAID,
    arm_sentence,
    directions,
    explained,
    intruders,
    left_out,
    matrices,
    shares,
    weight_sentence,
    why_none,
)


@dataclass(frozen=True)
class DeltaRow:
    """An arm in the table, or the matrices themselves."""

    title: str
    family: Family | None
    """None: the matrices themselves."""
    hollow: int
    cells: tuple[str, ...]
    """Matrices, effective rank, rank for 90 %, energy at rank 8, norm ratio, intruders; none where nothing is known."""
    seeds: str
    """The range of the effective rank over seeds; empty with one."""
    reason: str
    """Why there is nothing, or what was left out."""


@dataclass(frozen=True)
class StudyWeightDeltas:
    """What the updates look like."""

    sentences: tuple[str, ...]
    rows: tuple[DeltaRow, ...]
    explained: str
    measures: tuple[tuple[str, str], ...]
    arms: tuple[tuple[str, str], ...]
    arm: str
    """Whose matrices are mapped."""

    @classmethod
    def of(cls, found: StudyComparison, deltas: Deltas, view: ViewParams) -> "StudyWeightDeltas | None":
        """None until an arm has a result."""
        done = [arm for arm in found.arms if arm.succeeded]
        if not done:
            return None
        shown = drawable(found, deltas)
        summaries = [(arm, summary) for arm, seen in shown if (summary := seen.summary)]
        most = max((s for _arm, s in summaries), key=lambda s: s.matrices, default=None)
        said = [arm_sentence(arm, summary) for arm, summary in summaries[:MOST_SAID]]
        rows = [_row(arm, deltas.get(arm.title)) for arm in done]
        return cls(
            sentences=(*said, *([weight_sentence(most)] if most else [])),
            rows=(*rows, *([_itself(most)] if most else [])),
            explained=explained(),
            measures=tuple((word, _(measure.title)) for word, measure in MEASURES.items()),
            arms=tuple((arm.title, arm.title) for arm, _seen in shown),
            arm=view.matrices_arm or (shown[0][0].title if shown else ""),
        )


def _row(arm: StudyArm, seen: ArmDelta | None) -> DeltaRow:
    summary = seen.summary if seen else None
    if seen is None or summary is None:
        return DeltaRow(arm.title, arm.family, arm.hollow, (), "", why_none(seen.updates if seen else None))
    energy, ratio = shares(summary)
    cells = (
        matrices(summary),
        _("%(rank)s of %(most)s", rank=directions(summary.effective_rank), most=count(summary.possible_rank)),
        count(summary.rank_90),
        energy,
        ratio,
        intruders(summary.intruders, summary.top),
    )
    return DeltaRow(arm.title, arm.family, arm.hollow, cells, _over_seeds(seen), left_out(seen.updates))


def _over_seeds(seen: ArmDelta) -> str:
    if len(seen.effective_ranks) < 2:
        return ""
    return _(
        "%(least)s to %(most)s over %(seeds)s seeds",
        least=directions(min(seen.effective_ranks)),
        most=directions(max(seen.effective_ranks)),
        seeds=len(seen.effective_ranks),
    )


def _itself(found: WeightDeltaSummary) -> DeltaRow:
    rank = _("%(rank)s of %(most)s", rank=directions(found.weight_effective_rank), most=count(found.side))
    energy = percent(found.weight_energy_8, 0)
    cells = (matrices(found), rank, count(found.weight_rank_90), energy, NOTHING, NOTHING)
    return DeltaRow(_("W itself, before training"), None, 0, cells, "", "")
