"""Parts of sentences about a study: names, differences with their doubt, shares, and which arm a sentence is about."""

from collections.abc import Iterable

from app.domain.comparison.costs import Costs
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.comparison.verdict import Difference, VerdictKind
from app.web.format import NBSP, decimal, plus_minus, points, share
from app.web.i18n import gettext as _
from app.web.i18n import marked, ngettext
from app.web.text.failures import failure_label

VERDICT_LABELS = {
    VerdictKind.WITHIN: marked("within margin"),
    VerdictKind.BETTER: marked("better"),
    VerdictKind.WORSE: marked("worse"),
    VerdictKind.UNDECIDED: marked("undecided"),
    VerdictKind.HINT: marked("a hint only"),
    VerdictKind.NONE: marked("no verdict"),
}


def arm_name(arm: StudyArm) -> str:
    """An arm's name within a sentence: a full arm that has no name of its own is called by its method."""
    return _("full fine-tuning") if arm.title == "full" else arm.title


def seed_range(counts: Iterable[int]) -> str:
    """Over how many seeds arms stand: `3 seeds`, `1 to 3 seeds`."""
    seen = sorted(counts)
    if seen[0] == seen[-1]:
        return ngettext("%(num)s seed", "%(num)s seeds", seen[0])
    return _("%(fewest)s to %(most)s seeds", fewest=seen[0], most=seen[-1])


def margin_text(found: StudyComparison) -> str:
    """`2 points`, `1 point`, `0.5 points`."""
    size = found.spec.margin_points
    digits = 0 if float(size).is_integer() else 1 if float(size * 10).is_integer() else 2
    number = decimal(size, digits)
    return _("%(number)s point", number=number) if size == 1 else _("%(number)s points", number=number)


def difference_text(arm: StudyArm) -> str:
    """`+0.3 ± 1.2`, in points; empty without an interval."""
    seen = arm.verdict.difference if arm.verdict else None
    return difference_interval(seen) if seen else ""


def difference_interval(seen: Difference) -> str:
    """`+0.3 ± 1.2`, in points."""
    return f"{points(seen.delta)}{NBSP}{plus_minus(seen.half_width)}"


def gap_text(arm: StudyArm) -> str:
    """The same without a sign, for a sentence that says which way: `8.6 ± 1.9 points`."""
    seen = arm.verdict.difference if arm.verdict else None
    if seen is None:
        return ""
    return _("%(number)s points", number=f"{decimal(abs(seen.delta) * 100)}{NBSP}{plus_minus(seen.half_width)}")


def score_text(arm: StudyArm) -> str:
    """`89.8 ± 2.1 %`."""
    if arm.score is None:
        return ""
    return f"{decimal(arm.score.mean * 100)}{NBSP}{plus_minus((arm.score.high - arm.score.low) / 2)}{NBSP}%"


def memory_share(found: StudyComparison, arm: StudyArm) -> str | None:
    """Peak memory as a share of the reference's; None where the two do not compare."""
    costs = both_costs(found, arm) if found.memory_comparable else None
    return share(costs[0].peak_bytes.mean, costs[1].peak_bytes.mean) if costs else None


def time_share(found: StudyComparison, arm: StudyArm) -> str | None:
    """Train time as a share of the reference's; None where the two do not compare."""
    costs = both_costs(found, arm) if found.times_comparable else None
    return share(costs[0].train_seconds.mean, costs[1].train_seconds.mean) if costs else None


def both_costs(found: StudyComparison, arm: StudyArm) -> tuple[Costs, Costs] | None:
    """An arm's costs and the reference's."""
    return (arm.costs, found.reference.costs) if arm.costs and found.reference.costs else None


def times_smaller(small: float, large: float) -> str | None:
    """`300` for 1/300 and less precise where it is large; None unless it is at least twice as small."""
    if small <= 0 or large / small < 2:
        return None
    ratio = large / small
    digits = max(0, len(str(int(ratio))) - 2)
    return decimal(round(ratio / 10**digits) * 10**digits, 0 if ratio >= 10 else 1)


def no_result_label(arm: StudyArm) -> str:
    """Why an arm has no result and will have none, in a few words."""
    return failure_label(arm.failure) if arm.failure else _("stopped") if arm.stopped else _("cancelled")
