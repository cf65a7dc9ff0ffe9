"""Runs that were trained again, in words."""

from app.domain.comparison.fairness.reproduction import Reproduction, ReproductionOutcome
from app.words.format import percent, points_between
from app.words.i18n import gettext as _
from app.words.i18n import marked, ngettext

OUTCOMES: dict[ReproductionOutcome, str] = {
    ReproductionOutcome.IDENTICAL: marked("identical: every test item has the same score"),
    ReproductionOutcome.WITHIN: marked("reproduced: within what another seed changes"),
    ReproductionOutcome.OUTSIDE: marked("not reproduced: the seed alone does not explain the difference"),
    ReproductionOutcome.UNKNOWN: marked("not known: a single seed does not say what another seed changes"),
}


def reproduction_outcome(result: Reproduction) -> str:
    return _(OUTCOMES[result.outcome])


def reproduction_difference(result: Reproduction) -> str:
    """`−0.2 ± 0.4`, in points."""
    low, high = max(result.delta - result.half_width, -1.0), min(result.delta + result.half_width, 1.0)
    return points_between(result.delta, low, high)


def reproduction_interval(result: Reproduction) -> str:
    """Where the score of another seed would lie; empty with one seed."""
    if result.low is None:
        return ""
    return ngettext(
        "%(num)s seed predicts %(low)s to %(high)s",
        "%(num)s seeds predict %(low)s to %(high)s",
        result.seeds,
        low=percent(result.low),
        high=percent(result.high),
    )


FILTERS = (reproduction_outcome, reproduction_difference, reproduction_interval)
