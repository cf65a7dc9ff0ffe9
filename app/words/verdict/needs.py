"""What would decide about an arm that is undecided: more seeds, or more test items, if the difference stays."""

from app.domain.comparison.model import ArmResult
from app.domain.comparison.statistics.intervals import Difference
from app.domain.comparison.study import StudyArm
from app.words.format import count
from app.words.i18n import gettext as _
from app.words.i18n import ngettext
from app.words.verdict.verdict import arm_name


def seeds_needed(arm: StudyArm) -> int:
    """Seeds that would decide about an arm; 0 where it is decided, or no number of them would."""
    return (arm.verdict.needs.seeds or 0) if arm.verdict and arm.verdict.needs else 0


def more_seeds_help(arm: StudyArm) -> bool:
    """A number of seeds would decide, or a second one would show the variance over seeds at all."""
    undecided = arm.verdict is not None and arm.verdict.needs is not None
    return seeds_needed(arm) > 0 or (undecided and arm.difference is not None and arm.difference.one_seed)


def what_would_decide(arm: StudyArm) -> str:
    """The seeds or test items that would decide if the difference stayed as it is; empty where it is decided."""
    needs = arm.verdict.needs if arm.verdict else None
    difference = arm.difference
    if needs is None or difference is None:
        return ""
    name = arm_name(arm)
    if difference.one_seed and needs.seeds is None:
        return _("The variance of %(arm)s over seeds is unknown: add seeds.", arm=name)
    if needs.both is not None:
        return _(
            "Neither seeds nor test items alone would decide about %(arm)s. ~50 %% power: a new study with %(seeds)s "
            "seeds and about %(items)s test items.",
            arm=name,
            seeds=needs.both[0],
            items=count(needs.both[1]),
        )
    ways = []
    if needs.seeds is not None:
        have = min(difference.seeds, difference.reference_seeds)
        ways.append(_("%(need)s seeds per arm instead of %(have)s", need=needs.seeds, have=have))
    if needs.items is not None:
        have_items = count(difference.items)
        ways.append(_("%(need)s test items instead of %(have)s", need=count(needs.items), have=have_items))
    if not ways:
        return _("Even 100 seeds with a million test items would not decide about %(arm)s.", arm=name)
    text = _("~50 %% power: %(ways)s would decide about %(arm)s.", ways=_(" or ").join(ways), arm=name)
    return f"{text} {_('The variance over seeds is assumed.')}" if needs.assumed else text


def needs_label(arm: ArmResult) -> str:
    """The same in a few words, below a verdict: `3 more seeds would decide, if the difference stays`."""
    needs, difference = arm.verdict.needs if arm.verdict else None, arm.difference
    if needs is None or not isinstance(difference, Difference):
        return ""
    if difference.one_seed and needs.seeds is None:
        return _("more seeds would show the variance over seeds")
    if needs.both is not None:
        seeds, items = needs.both
        ways = [_("%(seeds)s seeds and about %(items)s test items", seeds=seeds, items=count(items))]
    else:
        ways = []
        if needs.seeds is not None:
            more = needs.seeds - min(difference.seeds, difference.reference_seeds)
            ways.append(ngettext("%(num)s more seed", "%(num)s more seeds", more))
        if needs.items is not None:
            ways.append(_("%(items)s test items", items=count(needs.items)))
    if not ways:
        return _("no feasible number of seeds and test items would decide")
    return _("%(ways)s would decide, if the difference stays", ways=_(" or ").join(ways))


FILTERS = (what_would_decide,)
