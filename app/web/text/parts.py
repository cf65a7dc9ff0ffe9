"""Parts of sentences about a study: names, differences with their doubt, shares, and which arm a sentence is about."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from app.domain.comparison.costs import Costs
from app.domain.comparison.study import Arm, Comparison
from app.domain.comparison.verdict import Difference, VerdictKind
from app.domain.failures import FAILURES, Failure, FailureCode
from app.web.format import NBSP, decimal, plus_minus, points, share
from app.web.i18n import gettext as _
from app.web.i18n import marked, ngettext

WORDS = {
    VerdictKind.WITHIN: marked("within margin"),
    VerdictKind.BETTER: marked("better"),
    VerdictKind.WORSE: marked("worse"),
    VerdictKind.UNDECIDED: marked("undecided"),
    VerdictKind.HINT: marked("a hint only"),
    VerdictKind.NONE: marked("no verdict"),
}

FAILURE_WORDS = {
    FailureCode.OUT_OF_MEMORY: marked("out of memory"),
    FailureCode.HOST_OOM: marked("the machine was out of memory"),
    FailureCode.KILLED: marked("ended from outside"),
    FailureCode.DIVERGED: marked("diverged"),
    FailureCode.AUDIT: marked("failed its audit"),
    FailureCode.BAD_CONFIGURATION: marked("does not fit the model"),
    FailureCode.MODEL_UNAVAILABLE: marked("base model not readable"),
    FailureCode.DATASET_UNAVAILABLE: marked("data not readable"),
    FailureCode.DISK_FULL: marked("disk full"),
    FailureCode.STALLED: marked("stalled"),
    FailureCode.LOST: marked("worker lost"),
    FailureCode.INTERNAL: marked("a mistake in Vezna"),
}
"""A failure in a few words, after a colon."""


def focus(found: Comparison) -> Arm | None:
    """The arm that the headline is about.

    The first class that has an arm: better than the reference; within its margin; one of these as a hint of one seed;
    undecided; worse (also as a hint). Within a class the one with the lowest peak memory, since a study is done to find
    a cheaper way; among the worse ones the one that loses least. Where memory does not compare, the one with the fewest
    trainable parameters. None where no arm has been held against the reference.
    """
    good = (VerdictKind.BETTER, VerdictKind.WITHIN)
    classes: tuple[Callable[[Arm], bool], ...] = (
        lambda a: kind(a) is VerdictKind.BETTER,
        lambda a: kind(a) is VerdictKind.WITHIN,
        lambda a: kind(a) is VerdictKind.HINT and a.verdict is not None and a.verdict.hint in good,
        lambda a: kind(a) is VerdictKind.UNDECIDED,
        lambda a: kind(a) in (VerdictKind.WORSE, VerdictKind.HINT),
    )
    for belongs in classes:
        arms = [a for a in found.others if belongs(a)]
        if arms and belongs is classes[-1]:
            return max(arms, key=delta)
        if arms:
            return min(arms, key=lambda a: burden(found, a))
    return None


def kind(arm: Arm) -> VerdictKind:
    """The verdict's word; `none` where there is no verdict."""
    return arm.verdict.kind if arm.verdict else VerdictKind.NONE


def delta(arm: Arm) -> float:
    """Difference to the reference, a fraction."""
    return arm.verdict.difference.delta if arm.verdict and arm.verdict.difference else float("-inf")


def burden(found: Comparison, arm: Arm) -> float:
    """What makes an arm dear: peak memory, or trainable parameters where memory does not compare."""
    if arm.costs is None:
        return float("inf")
    return arm.costs.peak_bytes.mean if found.memory_comparable else float(arm.costs.trainable_parameters)


def said(arm: Arm) -> str:
    """An arm's name within a sentence: a full arm that has no name of its own is called by its method."""
    return _("full fine-tuning") if arm.title == "full" else arm.title


def sentence(text: str) -> str:
    """With a capital at its beginning."""
    return text[:1].upper() + text[1:]


def listed(names: Sequence[str]) -> str:
    """`full`, `full and LoRA r=8`, `full, LoRA r=8 and head only`."""
    if len(names) < 2:
        return "".join(names)
    return _("%(first)s and %(last)s", first=", ".join(names[:-1]), last=names[-1])


def seeds(counts: Iterable[int]) -> str:
    """Over how many seeds arms stand: `3 seeds`, `1 to 3 seeds`."""
    seen = sorted(counts)
    if seen[0] == seen[-1]:
        return ngettext("%(num)s seed", "%(num)s seeds", seen[0])
    return _("%(fewest)s to %(most)s seeds", fewest=seen[0], most=seen[-1])


def margin(found: Comparison) -> str:
    """`2 points`, `1 point`, `0.5 points`."""
    size = found.spec.margin_points
    digits = 0 if float(size).is_integer() else 1 if float(size * 10).is_integer() else 2
    number = decimal(size, digits)
    return _("%(number)s point", number=number) if size == 1 else _("%(number)s points", number=number)


def difference(arm: Arm) -> str:
    """`+0.3 ± 1.2`, in points; empty without an interval."""
    seen = arm.verdict.difference if arm.verdict else None
    return with_doubt(seen) if seen else ""


def with_doubt(seen: Difference) -> str:
    """`+0.3 ± 1.2`, in points."""
    return f"{points(seen.delta)}{NBSP}{plus_minus(seen.half_width)}"


def distance(arm: Arm) -> str:
    """The same without a sign, for a sentence that says which way: `8.6 ± 1.9 points`."""
    seen = arm.verdict.difference if arm.verdict else None
    if seen is None:
        return ""
    return _("%(number)s points", number=f"{decimal(abs(seen.delta) * 100)}{NBSP}{plus_minus(seen.half_width)}")


def score(arm: Arm) -> str:
    """`89.8 ± 2.1 %`."""
    if arm.score is None:
        return ""
    return f"{decimal(arm.score.mean * 100)}{NBSP}{plus_minus((arm.score.high - arm.score.low) / 2)}{NBSP}%"


def memory_share(found: Comparison, arm: Arm) -> str | None:
    """Peak memory as a share of the reference's; None where the two do not compare."""
    costs = both_costs(found, arm) if found.memory_comparable else None
    return share(costs[0].peak_bytes.mean, costs[1].peak_bytes.mean) if costs else None


def time_share(found: Comparison, arm: Arm) -> str | None:
    """Train time as a share of the reference's; None where the two do not compare."""
    costs = both_costs(found, arm) if found.times_comparable else None
    return share(costs[0].train_seconds.mean, costs[1].train_seconds.mean) if costs else None


def both_costs(found: Comparison, arm: Arm) -> tuple[Costs, Costs] | None:
    """An arm's costs and the reference's."""
    return (arm.costs, found.reference.costs) if arm.costs and found.reference.costs else None


def times_smaller(small: float, large: float) -> str | None:
    """`300` for 1/300 and less precise where it is large; None unless it is at least twice as small."""
    if small <= 0 or large / small < 2:
        return None
    ratio = large / small
    digits = max(0, len(str(int(ratio))) - 2)
    return decimal(round(ratio / 10**digits) * 10**digits, 0 if ratio >= 10 else 1)


def failures(found: Comparison) -> list[tuple[Failure, int]]:
    """Why runs failed, the most common reason first, with how often; a trial counts where its arm has no run for it."""
    reasons = [run.failure for run in found.runs if run.failure]
    lost = [arm for arm in found.arms if arm.tuning and arm.tuning.hopeless]
    reasons += [trial.failure for arm in lost for trial in arm.trials if trial.failure]
    codes = Counter(f.code for f in reasons)
    return [(next(f for f in reasons if f.code is code), n) for code, n in codes.most_common()]


def why(failure: Failure) -> str:
    """A failure in a few words."""
    return _(FAILURE_WORDS[failure.code])


def ended(arm: Arm) -> str:
    """Why an arm has no result and will have none, in a few words."""
    return why(arm.failure) if arm.failure else _("stopped") if arm.stopped else _("cancelled")


def remedy(failure: Failure) -> str:
    """The sentence of a failure's code, with the next step."""
    return _(FAILURES[failure.code])
