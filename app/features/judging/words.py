"""Scores of a judge model, and preferences of blind comparisons, in words."""

from app.domain.comparison.statistics.judged import Judged, JudgedArm
from app.domain.comparison.statistics.preference import Preference
from app.domain.comparison.statistics.verdict import VerdictKind
from app.words.format import count, points, points_between
from app.words.i18n import gettext as _
from app.words.i18n import ngettext
from app.words.verdict.verdict import VERDICT_LABELS, difference_interval, score_with_interval


def judged_score(arm: JudgedArm) -> str:
    """`62.5 ± 4.1 %`, or `62.5 % (57.0 to 70.1)` where items without a score widen one side; empty without a score."""
    return score_with_interval(arm.score) if arm.score else ""


def judged_difference(arm: JudgedArm) -> str:
    """`−4.2 (−10.3 to 1.8)`, in points, with everything that widens the interval; empty for the reference."""
    if arm.corrected is None:
        return ""
    value, low, high = points(arm.corrected.delta), points(arm.low), points(arm.high)
    return _("%(value)s (%(low)s to %(high)s)", value=value, low=low, high=high)


def judged_alone(arm: JudgedArm) -> str:
    """`−3.0 ± 2.5`: as though the judge never erred."""
    return difference_interval(arm.alone) if arm.alone else ""


def judged_verdict(arm: JudgedArm) -> str:
    """`undecided`, `hint: worse`; empty for the reference."""
    return verdict_words(arm.verdict, arm.implied) if arm.corrected else ""


def verdict_words(verdict: VerdictKind, implied: VerdictKind) -> str:
    """The same, from the words."""
    if verdict is VerdictKind.HINT:
        return _("hint: %(word)s", word=_(VERDICT_LABELS[implied]))
    return _(VERDICT_LABELS[verdict])


def judged_error(arm: JudgedArm) -> str:
    """What is known of the judge's error; empty for the reference."""
    if arm.corrected is None:
        return ""
    error = arm.error
    return error_words(error.agreed, error.rated, error.mean) if error else error_words(0, 0, None)


def error_words(agreed: int, rated: int, mean: float | None) -> str:
    """The same, from the numbers. `mean`: None where the error is unknown."""
    if mean is None:
        return _("unknown: people have not rated these answers")
    return _(
        "agrees with people on %(agreed)s of %(items)s rated items; corrected by %(points)s points",
        agreed=count(agreed),
        items=count(rated),
        points=points(mean),
    )


def judged_left_out(judged: Judged) -> str:
    """Answers without a score; empty without any."""
    if not judged.unscored:
        return ""
    return ngettext(
        "%(num)s answer has no score from the judge; its item is left out, and the interval allows any score for it",
        "%(num)s answers have no score from the judge; their items are left out, and the interval allows any score for "
        "them",
        judged.unscored,
    )


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


FILTERS = (
    judged_score,
    judged_difference,
    judged_alone,
    judged_verdict,
    judged_error,
    judged_left_out,
    preference_difference,
    preference_sentence,
)
