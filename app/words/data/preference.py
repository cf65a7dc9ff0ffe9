"""Preferences of blind comparisons in words."""

from app.domain.comparison.statistics.preference import Preference
from app.domain.comparison.statistics.verdict import VerdictKind
from app.words.format import points_between
from app.words.i18n import gettext as _


def preference_difference(result: Preference) -> str:
    """`12.0 ± 8.1`, in points; empty before two items count."""
    found = result.difference
    return points_between(found.delta, found.low, found.high) if found else ""


def preference_sentence(result: Preference, first: str, second: str) -> str:
    """What the ratings say. `first`, `second`: names of the runs."""
    match result.verdict:
        case VerdictKind.WITHIN:
            return _("Neither is preferred by more than the margin")
        case VerdictKind.BETTER:
            return _("%(name)s is preferred", name=first)
        case VerdictKind.WORSE:
            return _("%(name)s is preferred", name=second)
        case VerdictKind.UNDECIDED:
            return _("Undecided: more ratings would decide")
    return _("Too few ratings for an interval")


FILTERS = (preference_difference, preference_sentence)
