"""The paragraph below the verdict: what follows from it, what the arm saves, and what would decide."""

from app.domain.comparison.study import Arm, Comparison
from app.domain.comparison.verdict import VerdictKind
from app.web.format import count, decimal, percent
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.metrics import title
from app.web.text.parts import (
    both_costs,
    burden,
    difference,
    distance,
    failures,
    focus,
    kind,
    listed,
    margin,
    remedy,
    said,
    score,
    sentence,
    why,
)
from app.web.text.savings import needs


def lead(found: Comparison) -> str:
    """Two to four sentences; empty where there is nothing to say yet."""
    arm = focus(found)
    if arm is None:
        return " ".join(_without_verdict(found))
    parts = [_meaning(found, arm), _saves(found, arm), _others(found, arm)]
    if _worth_using(found, arm):
        parts[:2] = _use(found, arm), parts[0]
    if not found.complete:
        parts.append(_("More runs are on their way; this can change."))
    return " ".join(part for part in parts if part)


def seeds_needed(arm: Arm) -> int:
    """Seeds that would decide about an arm; 0 where it is decided, or no number of them would."""
    return (arm.verdict.needs.seeds or 0) if arm.verdict and arm.verdict.needs else 0


def more_seeds_help(arm: Arm) -> bool:
    """A number of seeds would decide, or a second one would show what seeds change at all."""
    seen = arm.verdict.difference if arm.verdict and arm.verdict.needs else None
    return seeds_needed(arm) > 0 or (seen is not None and seen.one_seed)


def what_would_decide(arm: Arm) -> str:
    """The seeds, or the items, that would decide if the difference stayed as seen; empty where it is decided."""
    needs = arm.verdict.needs if arm.verdict else None
    seen = arm.verdict.difference if arm.verdict else None
    if needs is None or seen is None:
        return ""
    have = min(seen.seeds, seen.reference_seeds)
    if seen.one_seed and needs.seeds is None:
        return _("What another seed would change of %(arm)s is unknown: add seeds.", arm=said(arm))
    ways = []
    if needs.seeds is not None:
        ways.append(_("%(need)s seeds for each arm instead of %(have)s", need=needs.seeds, have=have))
    if needs.items is not None:
        ways.append(_("%(need)s test items instead of %(have)s", need=count(needs.items), have=count(seen.items)))
    if needs.both is not None:
        return _(
            "Neither seeds nor test items alone would decide about %(arm)s: a new study with %(seeds)s seeds on about "
            "%(items)s items would in half of such cases.",
            arm=said(arm),
            seeds=needs.both[0],
            items=count(needs.both[1]),
        )
    if not ways:
        return _("No seeds up to 100 with up to a million items would decide about %(arm)s.", arm=said(arm))
    text = _(
        "About %(ways)s would decide about %(arm)s in half of such cases.", ways=_(" or ").join(ways), arm=said(arm)
    )
    if needs.assumed:
        text += " " + _("What seeds change is assumed here, not seen yet.")
    return text


def rates_first(found: Comparison, arm: Arm) -> str:
    """That a better learning rate may decide before more seeds do; empty unless the best one of the arm or of the
    reference is at an end of those tried."""
    at_edge = [said(a) for a in (arm, found.reference) if a.tuning and a.tuning.edge]
    if not at_edge:
        return ""
    return _(
        "First look further for learning rates: the best one of %(arms)s is at the end of those tried.",
        arms=listed(at_edge),
    )


def ways_to_decide(found: Comparison, arm: Arm) -> str:
    """What to do about an arm that is not decided, in the order in which to do it; empty where it is decided."""
    more = what_would_decide(arm)
    return " ".join(part for part in (rates_first(found, arm), more) if part) if more else ""


def _meaning(found: Comparison, arm: Arm) -> str:
    """What the verdict's word stands on."""
    values = {
        "metric": title(found.metric),
        "difference": difference(arm),
        "margin": margin(found),
        "reference": said(found.reference),
    }
    match kind(arm):
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


def _saves(found: Comparison, arm: Arm) -> str:
    """Shares of the reference's costs, as far as they compare."""
    if both_costs(found, arm) is None:
        return ""
    if not (found.memory_comparable or found.times_comparable):
        return _("Neither memory nor time compare: the runs were measured under different conditions.")
    text = _("%(arm)s needs %(what)s", arm=sentence(said(arm)), what=needs(found, arm))
    if not found.times_comparable:
        return _("%(text)s; the times do not compare.", text=text)
    if not found.memory_comparable:
        return _("%(text)s; the memory does not compare.", text=text)
    return f"{text}."


def _worth_using(found: Comparison, arm: Arm) -> bool:
    """Good enough by the verdict, and cheaper in memory and in time, under conditions that compare."""
    costs = both_costs(found, arm)
    if costs is None or not (found.complete and found.memory_comparable and found.times_comparable):
        return False
    own, its = costs
    cheaper = own.peak_bytes.mean < its.peak_bytes.mean and own.train_seconds.mean < its.train_seconds.mean
    return kind(arm) in (VerdictKind.WITHIN, VerdictKind.BETTER) and cheaper


def _use(found: Comparison, arm: Arm) -> str:
    return _("Use it here: it needs %(what)s.", what=needs(found, arm))


def _others(found: Comparison, arm: Arm) -> str:
    """Of the other arms the cheapest, if it is cheaper still: what going further costs."""
    if not found.memory_comparable or kind(arm) is VerdictKind.WORSE:
        return ""
    cheaper = [a for a in found.others if a is not arm and burden(found, a) < burden(found, arm) and difference(a)]
    if not cheaper:
        return ""
    other = min(cheaper, key=lambda a: burden(found, a))
    name = sentence(said(other))
    match kind(other):
        case VerdictKind.WORSE:
            return _("%(arm)s takes less memory still, and is %(by)s worse.", arm=name, by=distance(other))
        case VerdictKind.WITHIN:
            return _("%(arm)s takes less memory still, and is within the margin.", arm=name)
        case VerdictKind.UNDECIDED:
            return _("%(arm)s takes less memory still, and is undecided.", arm=name)
        case _:
            return ""


def _without_verdict(found: Comparison) -> list[str]:
    scored = [a for a in found.arms if a.score is not None]
    parts = [_("%(arm)s reaches %(score)s.", arm=sentence(said(a)), score=score(a)) for a in scored]
    if not found.complete:
        return [
            *parts,
            _("The first verdict comes when %(arm)s and one other arm have a run each.", arm=found.reference.title),
        ]
    if not scored:
        return [remedy(failures(found)[0][0])] if failures(found) else []
    if not found.others:
        untouched = (
            [_("The untouched model reaches %(score)s.", score=percent(found.base.mean))]
            if found.base is not None
            else []
        )
        return [*untouched, _("A study with one arm has nothing to hold it against.")]
    lost = found.reference.failure
    because = _("%(arm)s failed: %(why)s.", arm=sentence(said(found.reference)), why=why(lost)) if lost else ""
    return [because, *parts] if because else parts


def can_show(found: Comparison) -> str:
    """The smallest difference that this study can show; empty where that is not known."""
    if found.smallest_difference is None or not found.items:
        return ""
    seeds = ngettext("%(num)s seed", "%(num)s seeds", len(found.spec.seeds))
    return _(
        "%(items)s test items and %(seeds)s can show a difference of about %(smallest)s points",
        items=count(found.items),
        seeds=seeds,
        smallest=decimal(found.smallest_difference * 100),
    )
