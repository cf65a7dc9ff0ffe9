"""A verdict in words: its label, its sentence and its reason, and the intervals that it rests on.

Page, API and terminal take their wording from here.
"""

from collections.abc import Collection, Iterable
from math import inf

from app.domain.comparison.model import AnyComparison, ArmResult
from app.domain.comparison.statistics.intervals import CONFIDENCE, Difference, ScoreInterval
from app.domain.comparison.statistics.proportions import UnpairedDifference
from app.domain.comparison.statistics.verdict import ArmVerdict, Basis, McNemar, Reason, VerdictKind
from app.domain.comparison.study import StudyArm
from app.words.format import (
    NBSP,
    confidence,
    count,
    decimal,
    even,
    join_names,
    plus_minus,
    points,
    points_between,
    reach,
    significant,
)
from app.words.i18n import gettext as _
from app.words.i18n import marked, ngettext
from app.words.runs.failures import failure_label
from app.words.runs.metrics import title
from app.words.verdict.confounders import DIFFERS

VERDICT_LABELS = {
    VerdictKind.ENOUGH: marked("enough"),
    VerdictKind.WITHIN: marked("within margin"),
    VerdictKind.BETTER: marked("better"),
    VerdictKind.WORSE: marked("worse"),
    VerdictKind.UNDECIDED: marked("undecided"),
    VerdictKind.HINT: marked("hint only"),
    VerdictKind.NONE: marked("no verdict"),
}
CORRECTIONS = {Basis.ITEMS: "Holm", Basis.SHARES: "Bonferroni"}
"""Names of the corrections for several arms (1979, 1936): Holm's order is of arms judged by per-item scores."""


def arm_name(arm: ArmResult) -> str:
    """An arm's name within a sentence: the default name of a full arm is spelled out."""
    return _("full fine-tuning") if arm.title == "full" else arm.title


def seed_range(counts: Iterable[int]) -> str:
    """Seeds of several arms: `3 seeds`, `1 to 3 seeds`."""
    ordered = sorted(counts)
    if ordered[0] == ordered[-1]:
        return ngettext("%(num)s seed", "%(num)s seeds", ordered[0])
    return _("%(fewest)s to %(most)s seeds", fewest=ordered[0], most=ordered[-1])


def margin_text(comparison: AnyComparison) -> str:
    """`2 points`, `1 point`, `0.5 points`."""
    size = round(100 * comparison.margin, 6)
    digits = 0 if size.is_integer() else 1 if float(size * 10).is_integer() else 2
    number = decimal(size, digits)
    return _("%(number)s point", number=number) if size == 1 else _("%(number)s points", number=number)


def score_reach(score: ScoreInterval) -> str:
    """`± 1.2`; `(97.2 to 100.0)` where it ends at the range; `± ?` where the interval carries no information."""
    return reach(score.mean, score.low, score.high) if score.usable else plus_minus(inf)


def unusable_text(interval: ScoreInterval | Difference | UnpairedDifference | None) -> str:
    """Why an interval is unknown: `1 seed and 3 test items give no usable interval`; empty where it is not."""
    if interval is None or interval.usable:
        return ""
    if interval.items is None:
        return _("the number of test items is unknown, so there is no interval")
    number = interval.seeds if isinstance(interval, ScoreInterval) else min(interval.seeds, interval.reference_seeds)
    return _(
        "%(seeds)s and %(items)s give no usable interval",
        seeds=ngettext("%(num)s seed", "%(num)s seeds", number),
        items=ngettext("%(num)s test item", "%(num)s test items", interval.items),
    )


def score_text(arm: ArmResult) -> str:
    """`89.8 ± 2.1 %`, `98.8 % (97.2 to 100.0)`; empty without a score."""
    return score_with_interval(arm.score) if arm.score else ""


def score_with_interval(score: ScoreInterval) -> str:
    mean = decimal(score.mean * 100)
    if score.usable and not even(score.mean, score.low, score.high):
        return f"{mean}{NBSP}% {score_reach(score)}"
    return f"{mean}{NBSP}{score_reach(score)}{NBSP}%"


def difference_interval(difference: Difference | UnpairedDifference | ScoreInterval) -> str:
    """`+0.3 ± 1.2`, in points; `+0.7, −3.1 to +4.5` where the interval is uneven."""
    delta = difference.mean if isinstance(difference, ScoreInterval) else difference.delta
    if not difference.usable:
        return f"{points(delta)}{NBSP}{plus_minus(inf)}"
    return points_between(delta, difference.low, difference.high)


def difference_text(arm: ArmResult) -> str:
    """Difference of an arm to the reference; empty without an interval."""
    return difference_interval(arm.difference) if arm.difference else ""


def gap_text(arm: ArmResult) -> str:
    """The same without a sign, for a sentence that names the direction: `8.6 ± 1.9 points`."""
    if arm.difference is None:
        return ""
    found = arm.difference
    low, high = (found.low, found.high) if found.delta >= 0 else (-found.high, -found.low)
    width = reach(abs(found.delta), low, high) if found.usable else plus_minus(inf)
    number = f"{decimal(abs(found.delta) * 100)}{NBSP}{width}"
    return _("%(number)s points", number=number)


def verdict_label(verdict: ArmVerdict | None) -> str:
    """`enough and better`, `undecided`, `hint: worse`; empty for the reference."""
    if verdict is None:
        return ""
    if verdict.hint is not None:
        return _("hint: %(word)s", word=_(VERDICT_LABELS[verdict.hint]))
    if verdict.reason is Reason.NOT_TESTED:
        return _("not tested")
    if verdict.kind is VerdictKind.ENOUGH and verdict.reason is Reason.ABOVE_ZERO:
        return _("enough and better")
    if verdict.reason is Reason.SLIGHTLY_BELOW_ZERO:
        return _("enough, slightly worse")
    return _(VERDICT_LABELS[verdict.kind])


def verdict_sentence(comparison: AnyComparison, arm: ArmResult) -> str:
    """What the verdict says of an arm, as part of a sentence: `LoRA r=8 is enough: it loses less than 2 points
    against full fine-tuning`, and where searches chose the configurations of the two, that it is about these."""
    sentence = _verdict(comparison, arm)
    searched = [one for one in (arm, comparison.reference) if one.searched]
    if arm.verdict_kind is VerdictKind.NONE or not searched:
        return sentence
    if len(searched) == 2:
        return _("%(verdict)s at the configurations that their searches chose", verdict=sentence)
    name = arm_name(searched[0])
    return _("%(verdict)s, with %(arm)s at the configuration that its search chose", verdict=sentence, arm=name)


def _verdict(comparison: AnyComparison, arm: ArmResult) -> str:
    names = {"arm": arm_name(arm), "reference": arm_name(comparison.reference)}
    verdict = arm.verdict
    match arm.verdict_kind:
        case VerdictKind.ENOUGH if verdict and verdict.reason is Reason.ABOVE_ZERO:
            return _("%(arm)s is enough, and %(by)s better than %(reference)s", by=gap_text(arm), **names)
        case VerdictKind.ENOUGH if verdict and verdict.reason is Reason.SLIGHTLY_BELOW_ZERO:
            return _(
                "%(arm)s is enough: %(by)s worse than %(reference)s, within the margin of %(margin)s",
                by=gap_text(arm),
                margin=margin_text(comparison),
                **names,
            )
        case VerdictKind.ENOUGH:
            margin = margin_text(comparison)
            return _("%(arm)s is enough: it loses less than %(margin)s against %(reference)s", margin=margin, **names)
        case VerdictKind.BETTER:
            return _("%(arm)s is %(by)s better than %(reference)s", by=gap_text(arm), **names)
        case VerdictKind.WORSE:
            return _("%(arm)s is %(by)s worse than %(reference)s", by=gap_text(arm), **names)
        case VerdictKind.WITHIN:
            return _("%(arm)s is within %(margin)s of %(reference)s", margin=margin_text(comparison), **names)
        case VerdictKind.UNDECIDED if not comparison.alternative.two_sided:
            margin = margin_text(comparison)
            return _(
                "undecided whether %(arm)s loses less than %(margin)s against %(reference)s", margin=margin, **names
            )
        case VerdictKind.UNDECIDED:
            margin = margin_text(comparison)
            return _("undecided whether %(arm)s is within %(margin)s of %(reference)s", margin=margin, **names)
        case VerdictKind.HINT if verdict and verdict.basis is Basis.SHARES:
            return _("without per-item scores, a hint that %(claim)s", claim=_hint(comparison, verdict, names))
        case VerdictKind.HINT if verdict:
            return _("one seed hints that %(claim)s", claim=_hint(comparison, verdict, names))
        case _ if verdict and verdict.reason is Reason.NOT_TESTED:
            return _("whether %(arm)s is enough is not tested, since fine-tuning is not shown to help", **names)
        case _:
            reason = verdict_reason(comparison, arm)
            return _("no verdict between %(arm)s and %(reference)s: %(reason)s", reason=reason, **names)


def _hint(comparison: AnyComparison, verdict: ArmVerdict, names: dict[str, str]) -> str:
    match verdict.hint:
        case VerdictKind.ENOUGH if verdict.difference and verdict.difference.low > 0:
            return _("%(arm)s is better than %(reference)s", **names)
        case VerdictKind.ENOUGH:
            return _(
                "%(arm)s loses less than %(margin)s against %(reference)s", margin=margin_text(comparison), **names
            )
        case VerdictKind.WITHIN:
            return _("%(arm)s is within %(margin)s of %(reference)s", margin=margin_text(comparison), **names)
        case VerdictKind.BETTER:
            return _("%(arm)s is better than %(reference)s", **names)
        case _:
            return _("%(arm)s is worse than %(reference)s", **names)


def sentence_with_difference(comparison: AnyComparison, arm: ArmResult) -> str:
    """The verdict's sentence with the difference that it rests on."""
    text = verdict_sentence(comparison, arm)
    if arm.difference is None or (arm.verdict and _states_difference(arm.verdict)):
        return text
    return _("%(verdict)s: %(difference)s points", verdict=text, difference=difference_text(arm))


def _states_difference(verdict: ArmVerdict) -> bool:
    """The verdict's sentence has the difference in it."""
    return verdict.reason in (Reason.ABOVE_ZERO, Reason.BELOW_ZERO, Reason.SLIGHTLY_BELOW_ZERO)


def verdict_reason(comparison: AnyComparison, arm: ArmResult) -> str:
    """Why the verdict is what it is: a sentence where there is an interval, else a part of one."""
    verdict = arm.verdict
    if verdict is None:
        return _("only the reference %(arm)s has a result", arm=comparison.reference.title)
    if verdict.confounder is not None:
        return _(DIFFERS[verdict.confounder])
    if unusable := unusable_text(verdict.difference):
        return _("The difference is unknown: %(why)s.", why=unusable)
    values = {
        "metric": title(comparison.metric),
        "difference": difference_text(arm),
        "margin": margin_text(comparison),
    }
    match verdict.reason:
        case Reason.ABOVE_MARGIN:
            text = _(
                "The difference in %(metric)s is %(difference)s points: a loss of %(margin)s is excluded.", **values
            )
        case Reason.SLIGHTLY_BELOW_ZERO:
            text = _(
                "The whole interval of the difference, %(difference)s points, lies below zero, but above a loss of "
                "%(margin)s.",
                **values,
            )
        case Reason.INSIDE_MARGIN:
            text = _("The whole interval of the difference, %(difference)s points, lies inside the margin.", **values)
        case Reason.ABOVE_ZERO:
            text = _("The whole interval of the difference, %(difference)s points, lies above zero.", **values)
        case Reason.BELOW_ZERO:
            text = _("The whole interval of the difference, %(difference)s points, lies below zero.", **values)
        case Reason.CROSSES_MARGIN if not verdict.alternative.two_sided:
            text = _(
                "The difference in %(metric)s is %(difference)s points: it may be zero, and it may be a loss of more "
                "than %(margin)s.",
                **values,
            )
        case Reason.CROSSES_MARGIN:
            text = _(
                "The difference in %(metric)s is %(difference)s points: it may be zero, and it may exceed the margin "
                "of %(margin)s.",
                **values,
            )
        case Reason.ONE_SEED:
            text = _(
                "The difference in %(metric)s is %(difference)s points, and that interval does not cover other seeds.",
                **values,
            )
        case Reason.NO_ITEM_SCORES:
            text = _(
                "The difference in %(metric)s is %(difference)s points; the interval treats the test items of the two "
                "as independent (Newcombe 1998) and does not cover other seeds.",
                **values,
            )
        case Reason.NOT_TESTED:
            text = _(
                "The difference in %(metric)s is %(difference)s points. It is not tested, since fine-tuning is not "
                "shown to help.",
                **values,
            )
        case Reason.ONE_ITEM:
            text = _("a single test item gives no interval")
        case Reason.ONE_GROUP:
            text = _("all test items are of one group, which gives no interval")
        case Reason.NO_REFERENCE_RESULT:
            text = _("the reference %(arm)s has no result", arm=comparison.reference.title)
        case _:
            text = _("%(arm)s has no result", arm=arm.title)
    return text


def no_result_label(arm: ArmResult) -> str:
    """Why an arm has no result and will have none, in a few words."""
    if arm.failure:
        return failure_label(arm.failure)
    if isinstance(arm, StudyArm) and arm.stopped:
        return _("stopped")
    return _("cancelled") if arm.failed else _("no result")


def interval_level(comparison: AnyComparison) -> str:
    """`95 % interval`; of several comparisons `Holm-corrected 95 % intervals (2 comparisons, 97.5 % each)`."""
    bases = {verdict.basis for verdict in comparison.judged}
    names = [name for basis, name in CORRECTIONS.items() if basis in bases]
    return _level(comparison.confidence, [d.confidence for d in comparison.differences], names)


def _level(together: float, each: Collection[float], corrections: Collection[str]) -> str:
    if len(each) < 2:
        return _("%(level)s interval", level=confidence(together))
    low, high = confidence(min(each)), confidence(max(each))
    return _(
        "%(correction)s-corrected %(level)s intervals (%(n)s comparisons, %(each)s each)",
        correction=join_names([*corrections]),
        level=confidence(together),
        n=len(each),
        each=high if low == high else _("%(low)s to %(high)s", low=low, high=high),
    )


def plus_minus_text(comparison: AnyComparison) -> str:
    """What ± stands for in a table of arms: a score's interval is its own, those of differences are corrected."""
    level, single = interval_level(comparison), _level(CONFIDENCE, (), ())
    if level == single:
        return _("±: %(single)s.", single=single)
    return _("± of a score: %(single)s; of a difference: %(level)s.", single=single, level=level)


def mcnemar_text(test: McNemar, arm: str, reference: str) -> str:
    """The test beside the interval, in a sentence."""
    p = significant(test.p_value, 2) if test.p_value >= 0.001 else _("below %(least)s", least=significant(0.001, 1))
    sentence = (
        marked(
            "Exact sign test over groups of items: %(arm)s gets more right of %(first)s groups, %(reference)s of "
            "%(second)s; p = %(p)s. It does not cover other seeds."
        )
        if test.clustered
        else marked(
            "McNemar's exact test: %(first)s items only %(arm)s gets right, %(second)s only %(reference)s; p = %(p)s. "
            "It does not cover other seeds."
        )
    )
    first, second = count(test.only_arm), count(test.only_reference)
    return _(sentence, first=first, arm=arm, second=second, reference=reference, p=p)


FILTERS = (arm_name, margin_text, mcnemar_text, verdict_sentence)
