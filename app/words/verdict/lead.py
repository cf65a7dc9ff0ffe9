"""The paragraph below a study's verdict: what follows from it, what the arm saves, and what would decide."""

from app.domain.comparison.costs.costs import Costs
from app.domain.comparison.statistics.verdict import VerdictKind
from app.domain.comparison.study import StudyArm, StudyComparison
from app.words.format import capitalized, decimal, join_names, percent, share
from app.words.i18n import gettext as _
from app.words.i18n import ngettext
from app.words.runs.failures import failure_label, remedy
from app.words.runs.metrics import items_in_groups
from app.words.studies.tuning import trial_of
from app.words.verdict.learning import learning_consequence, learning_lead
from app.words.verdict.needs import what_would_decide
from app.words.verdict.verdict import arm_name, gap_text, score_text, verdict_reason


def lead(study: StudyComparison) -> str:
    """Two to four sentences; empty where there is nothing to say yet."""
    if study.learning.closed:
        return learning_lead(study)
    arm = study.focus
    if arm is None:
        return " ".join(_without_verdict(study))
    reason = verdict_reason(study, arm)
    if arm.verdict_kind in (VerdictKind.UNDECIDED, VerdictKind.HINT):
        reason = f"{reason} {how_to_decide(study, arm)}"
    if _worth_using(study, arm):
        parts = [_use_it(study, arm), reason, _cheapest_other(study, arm)]
    else:
        parts = [reason, _savings_sentence(study, arm), _cheapest_other(study, arm)]
    if not study.complete:
        parts.append(_("More runs are queued; this can change."))
    return " ".join(part for part in parts if part)


def short_lead(study: StudyComparison) -> str:
    """One sentence below the verdict: how large the difference may be; empty where there is nothing to say yet.

    The page has what the arm saves and what would decide beside it.
    """
    if study.learning.closed:
        text = learning_consequence(study)
    elif (arm := study.focus) is None:
        return " ".join(_without_verdict(study))
    elif arm.difference is None or not arm.difference.usable:
        return lead(study)
    else:
        text = _range(arm)
        text = _("Use it here: %(range)s", range=text) if _worth_using(study, arm) else capitalized(text)
    return text if study.complete else f"{text} {_('More runs are queued; this can change.')}"


def _range(arm: StudyArm) -> str:
    """The interval of its difference as a sentence: `it is at most 1.6 points worse and may be up to 0.9 better.`"""
    assert arm.difference  # noqa: S101 the caller has checked it
    low, high = (decimal(abs(end) * 100) for end in (arm.difference.low, arm.difference.high))
    if arm.difference.low >= 0:
        return _("it is %(low)s to %(high)s points better.", low=low, high=high)
    if arm.difference.high <= 0:
        return _("it is %(low)s to %(high)s points worse.", low=high, high=low)
    return _("it is at most %(low)s points worse and may be up to %(high)s better.", low=low, high=high)


def _use_it(study: StudyComparison, arm: StudyArm) -> str:
    """With the configuration that its search chose, since the verdict is about no other."""
    needs = savings(study, arm)
    if arm.tuning is None or arm.tuning.chosen is None:
        return _("Use it here: it needs %(needs)s.", needs=needs)
    chosen = trial_of(arm.tuning.chosen)
    return _("Use it here with %(configuration)s: it needs %(needs)s.", configuration=chosen, needs=needs)


def how_to_decide(study: StudyComparison, arm: StudyArm) -> str:
    """What to do about an undecided arm, in the order in which to do it; empty where it is decided."""
    more = what_would_decide(arm)
    at_edge = [arm_name(a) for a in (arm, study.reference) if a.tuning and a.tuning.edge]
    if not more or not at_edge:
        return more
    wider = _(
        "First widen the search for learning rates: the best rate of %(arms)s is at the edge of the rates tried.",
        arms=join_names(at_edge),
    )
    return f"{wider} {more}"


def both_costs(study: StudyComparison, arm: StudyArm) -> tuple[Costs, Costs] | None:
    """An arm's costs and the reference's."""
    return (arm.costs, study.reference.costs) if arm.costs and study.reference.costs else None


def memory_share(study: StudyComparison, arm: StudyArm) -> str | None:
    """Peak memory as a share of the reference's; None where the two cannot be compared."""
    costs = both_costs(study, arm) if study.memory_comparable else None
    return share(costs[0].peak_bytes.mean, costs[1].peak_bytes.mean) if costs else None


def time_share(study: StudyComparison, arm: StudyArm) -> str | None:
    """Train time as a share of the reference's; None where the two cannot be compared."""
    costs = both_costs(study, arm) if study.times_comparable else None
    return share(costs[0].train_seconds.mean, costs[1].train_seconds.mean) if costs else None


def times_smaller(small: float, large: float) -> str | None:
    """`300` for 1/300, with fewer digits where it is large; None unless it is at least twice as small."""
    if small <= 0 or large / small < 2:
        return None
    ratio = large / small
    digits = max(0, len(str(int(ratio))) - 2)
    return decimal(round(ratio / 10**digits) * 10**digits, 0 if ratio >= 10 else 1)


def savings(study: StudyComparison, arm: StudyArm) -> str:
    """`37 % of the memory, 52 % of the train time and a file 300 times smaller`: as far as the two compare, and the
    file only where it is at least twice as small."""
    memory, time, costs = memory_share(study, arm), time_share(study, arm), both_costs(study, arm)
    smaller = times_smaller(costs[0].artifact_bytes, costs[1].artifact_bytes) if costs else None
    parts = [
        _("%(share)s of the memory", share=memory) if memory else "",
        _("%(share)s of the train time", share=time) if time else "",
        _("a file %(times)s times smaller", times=smaller) if smaller else "",
    ]
    return join_names([part for part in parts if part])


def _savings_sentence(study: StudyComparison, arm: StudyArm) -> str:
    if both_costs(study, arm) is None:
        return ""
    if not (study.memory_comparable or study.times_comparable):
        return _("Neither memory nor times can be compared: the runs were measured under different conditions.")
    text = _("%(arm)s needs %(needs)s", arm=capitalized(arm_name(arm)), needs=savings(study, arm))
    if not study.times_comparable:
        return _("%(text)s; the times cannot be compared.", text=text)
    if not study.memory_comparable:
        return _("%(text)s; the memory cannot be compared.", text=text)
    return f"{text}."


def _worth_using(study: StudyComparison, arm: StudyArm) -> bool:
    """Good enough by the verdict, and cheaper in memory and in time, under conditions that compare."""
    costs = both_costs(study, arm)
    if costs is None or not (study.complete and study.memory_comparable and study.times_comparable):
        return False
    own, reference = costs
    cheaper = own.peak_bytes.mean < reference.peak_bytes.mean and own.train_seconds.mean < reference.train_seconds.mean
    return arm.verdict_kind.good_enough and cheaper


def _cheapest_other(study: StudyComparison, arm: StudyArm) -> str:
    """The cheapest of the other arms, if it is cheaper still: what saving more memory costs."""
    if not study.memory_comparable or arm.verdict_kind is VerdictKind.WORSE:
        return ""
    cheaper = [a for a in study.others if a is not arm and study.cost(a) < study.cost(arm) and a.difference]
    if not cheaper:
        return ""
    other = min(cheaper, key=study.cost)
    name = capitalized(arm_name(other))
    match other.verdict_kind:
        case VerdictKind.WORSE:
            return _("%(arm)s takes even less memory and is %(by)s worse.", arm=name, by=gap_text(other))
        case VerdictKind.ENOUGH:
            return _("%(arm)s takes even less memory and is enough.", arm=name)
        case VerdictKind.WITHIN:
            return _("%(arm)s takes even less memory and is within the margin.", arm=name)
        case VerdictKind.UNDECIDED:
            return _("%(arm)s takes even less memory and is undecided.", arm=name)
        case _:
            return ""


def _without_verdict(study: StudyComparison) -> list[str]:
    scored = [arm for arm in study.arms if arm.score is not None]
    parts = [_("%(arm)s reaches %(score)s.", arm=capitalized(arm_name(a)), score=score_text(a)) for a in scored]
    reference = study.reference
    if not study.complete:
        first = _("The first verdict comes when %(arm)s and one other arm have a run each.", arm=reference.title)
        return [*parts, first]
    if not scored:
        return [remedy(study.failures[0][0])] if study.failures else []
    if not study.others:
        base = study.base_score
        before = [_("Base model (before training): %(score)s.", score=percent(base.mean))] if base else []
        return [*before, _("A study with one arm has nothing to compare it with.")]
    if reference.failure:
        why = failure_label(reference.failure)
        return [_("%(arm)s failed: %(why)s.", arm=capitalized(arm_name(reference)), why=why), *parts]
    return parts


def detectable_text(study: StudyComparison) -> str:
    """The smallest difference that this study can detect; empty where that is not known."""
    if study.detectable_difference is None or not study.items:
        return ""
    return _(
        "%(items)s and %(seeds)s can detect a difference of about %(smallest)s points",
        items=items_in_groups(study.items, study.clusters, study.metric),
        seeds=ngettext("%(num)s seed", "%(num)s seeds", len(study.spec.seeds)),
        smallest=decimal(study.detectable_difference * 100),
    )


FILTERS = (short_lead,)
