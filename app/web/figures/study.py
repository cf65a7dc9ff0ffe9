"""The figures of a study, from what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.domain.comparison.study import StudyComparison
from app.domain.runs.result import Steps
from app.web.figures.break_even import break_even
from app.web.figures.curves import curves
from app.web.figures.figure import Figure
from app.web.figures.memory import memory
from app.web.figures.owners import Foreseen
from app.web.figures.reports import Checkpoint
from app.web.figures.time import time
from app.web.figures.trade_off import trade_off
from app.web.figures.tuning import tuning
from app.web.figures.updates import Updates, matrix_map, study_energy
from app.web.figures.verdict import verdict
from app.web.figures.view import ViewParams

AS_USUAL = ViewParams()


@dataclass(frozen=True)
class StudyEvidence:
    """What the figures of a study are made of."""

    comparison: StudyComparison
    steps: Mapping[int, Steps]
    """By run."""
    checkpoints: Mapping[int, Sequence[Checkpoint]]
    """Evaluations on the validation split, by run."""
    foreseen: Mapping[str, Foreseen] = field(default_factory=dict)
    """What was predicted, by arm."""
    updates: Updates = field(default_factory=dict)


def study_figures(evidence: StudyEvidence, view: ViewParams = AS_USUAL) -> dict[str, Figure]:
    """Every figure by its name, as one looks at it."""
    found = evidence.comparison
    figures = (
        verdict(found),
        trade_off(found, view),
        curves(found, evidence.steps, evidence.checkpoints, view),
        memory(found, evidence.foreseen),
        time(found, evidence.foreseen),
        study_energy(found, evidence.updates),
        matrix_map(found, evidence.updates, view),
        break_even(found, view.prices),
        tuning(found),
    )
    return {figure.name: figure for figure in figures}
