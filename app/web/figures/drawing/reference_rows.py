"""Baselines as reference lines: a dash each, the same in every figure and in the arms table."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.domain.comparison.baselines import has_zero_shot
from app.domain.comparison.model import AnyComparison
from app.domain.comparison.study import StudyComparison
from app.web.figures.drawing.references import DASHES, Reference, near
from app.words.i18n import gettext as _

LEAST_SPAN = 10.0
"""Points."""


def references(comparison: AnyComparison) -> tuple[Reference, ...]:
    """The baselines of a study that are computed, %."""
    if not isinstance(comparison, StudyComparison):
        return ()
    return tuple(
        Reference(_(baseline.title), 100 * baseline.score.mean, DASHES[place % len(DASHES)])
        for place, baseline in enumerate(comparison.baselines)
        if baseline.score
    )


def difference_references(study: StudyComparison) -> tuple[Reference, ...]:
    """The baselines of a study as differences from the reference arm, points."""
    return tuple(
        Reference(_(baseline.title), 100 * baseline.difference.mean, DASHES[place % len(DASHES)], signed=True)
        for place, baseline in enumerate(study.baselines)
        if baseline.difference
    )


def shows_base(comparison: AnyComparison) -> bool:
    """The base model before training is one of the lines."""
    return isinstance(comparison, StudyComparison) and has_zero_shot(comparison.baselines)


def references_near(study: StudyComparison, curves: Sequence[NDArray[np.float64]]) -> tuple[Reference, ...]:
    """Those near curves of fractions, for which the axis has to grow little; a flat curve counts as `LEAST_SPAN`."""
    drawn = [100 * curve[np.isfinite(curve)] for curve in curves]
    values = np.concatenate(drawn) if drawn else np.zeros(0)
    if not len(values):
        return ()
    middle, half = (values.max() + values.min()) / 2, max(values.max() - values.min(), LEAST_SPAN) / 2
    return tuple(near(references(study), float(middle - half), float(middle + half)))


def lines_note(lines: Sequence[Reference]) -> str:
    """What the lines are; empty without any."""
    return _("Dashed lines with a name: baselines, on the test items.") if lines else ""
