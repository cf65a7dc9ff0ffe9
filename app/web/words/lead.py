"""The paragraph below the verdict: what follows from it, what the arm saves, and what would decide."""

from app.domain.comparison import Arm, Comparison
from app.domain.verdict import VerdictKind
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.numbers import count, decimal, percent
from app.web.words.parts import (
    both_costs,
    burden,
    difference,
    distance,
    failures,
    focus,
    kind,
    margin,
    memory_share,
    remedy,
    said,
    score,
    sentence,
    time_share,
)


def lead(found: Comparison) -> str:
    """Two to four sentences; empty where there is nothing to say yet."""
    arm = focus(found)
    if arm is None:
        return " ".join(_without_verdict(found))
    parts = [_meaning(found, arm), _saves(found, arm), _others(found, arm)]
    if not found.complete:
        parts.append(_("More runs are on their way; this can change."))
    return " ".join(part for part in parts if part)


def what_would_decide(arm: Arm) -> str:
    """The seeds, or the items, that would decide if the difference stayed as seen; empty where it is decided."""
    needs = arm.verdict.needs if arm.verdict else None
    seen = arm.verdict.difference if arm.verdict else None
    if needs is None or seen is None:
        return ""
    have = min(seen.seeds, seen.reference_seeds)
    ways = []
    if needs.seeds is not None:
        ways.append(_("%(need)s seeds for each arm instead of %(have)s", need=needs.seeds, have=have))
    if needs.items is not None:
        ways.append(_("%(need)s test items instead of %(have)s", need=count(needs.items), have=count(seen.items)))
    if not ways:
        return _("Neither 100 seeds nor a million items would decide at this difference: it is too near to the margin.")
    text = _("About %(ways)s would decide in half of such cases.", ways=_(" or ").join(ways))
    if needs.assumed:
        text += " " + _("What seeds change is assumed here, not seen yet.")
    return text


def _meaning(found: Comparison, arm: Arm) -> str:
    """What the verdict's word stands on."""
    values = {"difference": difference(arm), "margin": margin(found), "reference": said(found.reference)}
    match kind(arm):
        case VerdictKind.WITHIN:
            return _(
                "The difference in accuracy is %(difference)s points: the whole interval lies inside the margin that "
                "was set before the start.",
                **values,
            )
        case VerdictKind.BETTER:
            return _("The whole interval of the difference, %(difference)s points, lies above zero.", **values)
        case VerdictKind.WORSE:
            return _("The whole interval of the difference, %(difference)s points, lies below zero.", **values)
        case VerdictKind.UNDECIDED:
            text = _(
                "The difference in accuracy is %(difference)s points: it may be nothing, and it may be more than the "
                "margin of %(margin)s.",
                **values,
            )
            return f"{text} {what_would_decide(arm)}"
        case _:
            text = _(
                "The difference in accuracy is %(difference)s points, and that interval knows nothing of other seeds.",
                **values,
            )
            return f"{text} {what_would_decide(arm)}"


def _saves(found: Comparison, arm: Arm) -> str:
    """Shares of the reference's costs, as far as they compare."""
    memory, time = memory_share(found, arm), time_share(found, arm)
    costs = both_costs(found, arm)
    if costs is None:
        return ""
    cheap_memory = costs[0].peak_bytes.mean < costs[1].peak_bytes.mean
    cheap_time = costs[0].train_seconds.mean < costs[1].train_seconds.mean
    name = sentence(said(arm))
    if memory and time:
        text = _(
            "%(arm)s takes %(memory)s of the memory and %(time)s of the train time.", arm=name, memory=memory, time=time
        )
        good = kind(arm) in (VerdictKind.WITHIN, VerdictKind.BETTER) and cheap_memory and cheap_time
        return _("Use it here.") + " " + text if good and found.complete else text
    if memory:
        return _("%(arm)s takes %(memory)s of the memory; the times do not compare.", arm=name, memory=memory)
    if time:
        return _("%(arm)s takes %(time)s of the train time; the memory does not compare.", arm=name, time=time)
    return _("Neither memory nor time compare: the runs were measured under different conditions.")


def _others(found: Comparison, arm: Arm) -> str:
    """Of the other arms, the one that is cheaper still and worse: what going further costs."""
    if not found.memory_comparable or kind(arm) is VerdictKind.WORSE:
        return ""
    cheaper = [
        a
        for a in found.others
        if a is not arm and kind(a) is VerdictKind.WORSE and burden(found, a) < burden(found, arm)
    ]
    if not cheaper:
        return ""
    other = min(cheaper, key=lambda a: burden(found, a))
    return _("%(arm)s takes less memory still, and is %(by)s worse.", arm=sentence(said(other)), by=distance(other))


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
    reasons = failures(found)
    return [*parts, *([remedy(reasons[0][0])] if reasons else [])]


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
