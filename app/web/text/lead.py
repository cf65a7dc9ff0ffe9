"""The paragraph below the verdict: what follows from it, what the arm saves, and what would decide."""

from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.comparison.verdict import VerdictKind
from app.web.format import capitalized, count, decimal, join_names, percent
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.failures import failure_label, remedy
from app.web.text.metrics import title
from app.web.text.savings import needs
from app.web.text.verdict import arm_name, both_costs, difference_text, gap_text, margin_text, score_text


def lead(found: StudyComparison) -> str:
    """Two to four sentences; empty where there is nothing to say yet."""
    arm = found.focus
    if arm is None:
        return " ".join(_without_verdict(found))
    parts = [_meaning(found, arm), _saves(found, arm), _others(found, arm)]
    if _worth_using(found, arm):
        parts[:2] = _use(found, arm), parts[0]
    if not found.complete:
        parts.append(_("More runs are on their way; this can change."))
    return " ".join(part for part in parts if part)


def seeds_needed(arm: StudyArm) -> int:
    """Seeds that would decide about an arm; 0 where it is decided, or no number of them would."""
    return (arm.verdict.needs.seeds or 0) if arm.verdict and arm.verdict.needs else 0


def more_seeds_help(arm: StudyArm) -> bool:
    """A number of seeds would decide, or a second one would show what seeds change at all."""
    seen = arm.verdict.difference if arm.verdict and arm.verdict.needs else None
    return seeds_needed(arm) > 0 or (seen is not None and seen.one_seed)


def what_would_decide(arm: StudyArm) -> str:
    """The seeds, or the items, that would decide if the difference stayed as seen; empty where it is decided."""
    needs = arm.verdict.needs if arm.verdict else None
    seen = arm.verdict.difference if arm.verdict else None
    if needs is None or seen is None:
        return ""
    have = min(seen.seeds, seen.reference_seeds)
    if seen.one_seed and needs.seeds is None:
        return _("What another seed would change of %(arm)s is unknown: add seeds.", arm=arm_name(arm))
    ways = []
    if needs.seeds is not None:
        ways.append(_("%(need)s seeds for each arm instead of %(have)s", need=needs.seeds, have=have))
    if needs.items is not None:
        ways.append(_("%(need)s test items instead of %(have)s", need=count(needs.items), have=count(seen.items)))
    if needs.both is not None:
        return _(
            "Neither seeds nor test items alone would decide about %(arm)s: a new study with %(seeds)s seeds on about "
            "%(items)s items would in half of such cases.",
            arm=arm_name(arm),
            seeds=needs.both[0],
            items=count(needs.both[1]),
        )
    if not ways:
        return _("No seeds up to 100 with up to a million items would decide about %(arm)s.", arm=arm_name(arm))
    text = _(
        "About %(ways)s would decide about %(arm)s in half of such cases.", ways=_(" or ").join(ways), arm=arm_name(arm)
    )
    if needs.assumed:
        text += " " + _("What seeds change is assumed here, not seen yet.")
    return text


def rates_first(found: StudyComparison, arm: StudyArm) -> str:
    """That a better learning rate may decide before more seeds do; empty unless the best one of the arm or of the
    reference is at an end of those tried."""
    at_edge = [arm_name(a) for a in (arm, found.reference) if a.tuning and a.tuning.edge]
    if not at_edge:
        return ""
    return _(
        "First look further for learning rates: the best one of %(arms)s is at the end of those tried.",
        arms=join_names(at_edge),
    )


def ways_to_decide(found: StudyComparison, arm: StudyArm) -> str:
    """What to do about an arm that is not decided, in the order in which to do it; empty where it is decided."""
    more = what_would_decide(arm)
    return " ".join(part for part in (rates_first(found, arm), more) if part) if more else ""


def _meaning(found: StudyComparison, arm: StudyArm) -> str:
    """What the verdict's word stands on."""
    values = {
        "metric": title(found.metric),
        "difference": difference_text(arm),
        "margin": margin_text(found),
        "reference": arm_name(found.reference),
    }
    match arm.verdict_kind:
        case VerdictKind.WITHIN:
            return _(
                "The whole interval of the difference, %(difference)s points, lies inside the margin that was set "
                "before the start.",
                **values,
            )
        case VerdictKind.BETTER:
            return _("The whole interval of the difference, %(difference)s points, lies above zero.", **values)
        case VerdictKind.WORSE:
            return _("The whole interval of the difference, %(difference)s points, lies below zero.", **values)
        case VerdictKind.UNDECIDED:
            text = _(
                "The difference in %(metric)s is %(difference)s points: it may be nothing, and it may be more than the "
                "margin of %(margin)s.",
                **values,
            )
            return f"{text} {ways_to_decide(found, arm)}"
        case _:
            text = _(
                "The difference in %(metric)s is %(difference)s points, and that interval knows nothing of other "
                "seeds.",
                **values,
            )
            return f"{text} {ways_to_decide(found, arm)}"


def _saves(found: StudyComparison, arm: StudyArm) -> str:
    """Shares of the reference's costs, as far as they compare."""
    if both_costs(found, arm) is None:
        return ""
    if not (found.memory_comparable or found.times_comparable):
        return _("Neither memory nor time compare: the runs were measured under different conditions.")
    text = _("%(arm)s needs %(what)s", arm=capitalized(arm_name(arm)), what=needs(found, arm))
    if not found.times_comparable:
        return _("%(text)s; the times do not compare.", text=text)
    if not found.memory_comparable:
        return _("%(text)s; the memory does not compare.", text=text)
    return f"{text}."


def _worth_using(found: StudyComparison, arm: StudyArm) -> bool:
    """Good enough by the verdict, and cheaper in memory and in time, under conditions that compare."""
    costs = both_costs(found, arm)
    if costs is None or not (found.complete and found.memory_comparable and found.times_comparable):
        return False
    own, its = costs
    cheaper = own.peak_bytes.mean < its.peak_bytes.mean and own.train_seconds.mean < its.train_seconds.mean
    return arm.verdict_kind in (VerdictKind.WITHIN, VerdictKind.BETTER) and cheaper


def _use(found: StudyComparison, arm: StudyArm) -> str:
    return _("Use it here: it needs %(what)s.", what=needs(found, arm))


def _others(found: StudyComparison, arm: StudyArm) -> str:
    """Of the other arms the cheapest, if it is cheaper still: what going further costs."""
    if not found.memory_comparable or arm.verdict_kind is VerdictKind.WORSE:
        return ""
    cheaper = [a for a in found.others if a is not arm and found.cost(a) < found.cost(arm) and difference_text(a)]
    if not cheaper:
        return ""
    other = min(cheaper, key=found.cost)
    name = capitalized(arm_name(other))
    match other.verdict_kind:
        case VerdictKind.WORSE:
            return _("%(arm)s takes less memory still, and is %(by)s worse.", arm=name, by=gap_text(other))
        case VerdictKind.WITHIN:
            return _("%(arm)s takes less memory still, and is within the margin.", arm=name)
        case VerdictKind.UNDECIDED:
            return _("%(arm)s takes less memory still, and is undecided.", arm=name)
        case _:
            return ""


def _without_verdict(found: StudyComparison) -> list[str]:
    scored = [a for a in found.arms if a.score is not None]
    parts = [_("%(arm)s reaches %(score)s.", arm=capitalized(arm_name(a)), score=score_text(a)) for a in scored]
    if not found.complete:
        return [
            *parts,
            _("The first verdict comes when %(arm)s and one other arm have a run each.", arm=found.reference.title),
        ]
    if not scored:
        return [remedy(found.failures[0][0])] if found.failures else []
    if not found.others:
        untouched = (
            [_("The untouched model reaches %(score)s.", score=percent(found.base_score.mean))]
            if found.base_score is not None
            else []
        )
        return [*untouched, _("A study with one arm has nothing to hold it against.")]
    lost = found.reference.failure
    because = (
        _("%(arm)s failed: %(why)s.", arm=capitalized(arm_name(found.reference)), why=failure_label(lost))
        if lost
        else ""
    )
    return [because, *parts] if because else parts


def can_show(found: StudyComparison) -> str:
    """The smallest difference that this study can show; empty where that is not known."""
    if found.detectable_difference is None or not found.items:
        return ""
    seeds = ngettext("%(num)s seed", "%(num)s seeds", len(found.spec.seeds))
    return _(
        "%(items)s test items and %(seeds)s can show a difference of about %(smallest)s points",
        items=count(found.items),
        seeds=seeds,
        smallest=decimal(found.detectable_difference * 100),
    )
