"""Whether a study can decide, said before it starts: why not, and what would."""

from app.web.format import count, decimal
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.plan import Plan


def doubt(plan: Plan) -> str:
    """In one or two sentences; empty where it can, as far as one can tell."""
    if len(plan.arms) < 2:
        return _("One arm is compared with nothing: add a second one.")
    if plan.seeds == 1:
        return _("One seed can give a hint at best: what another would change stays unknown. Use three or more.")
    if not plan.undecided:
        return ""
    seeds = ngettext("%(num)s seed", "%(num)s seeds", plan.seeds)
    can = _(
        "%(items)s test items and %(seeds)s can show a difference of about %(smallest)s points, and the margin is "
        "%(margin)s.",
        items=count(plan.items),
        seeds=seeds,
        smallest=decimal(100 * plan.shows),
        margin=f"{100 * plan.margin:g}",
    )
    ways = [_("a margin of %(margin)s points", margin=decimal(plan.wider_margin))]
    if plan.enough_items:
        items = count(plan.enough_items)
        ways.insert(0, _("about %(items)s test items and %(num)s seeds", items=items, num=plan.items_seeds))
    if plan.enough_seeds:
        ways.insert(0, _("%(num)s seeds", num=plan.enough_seeds))
    return f"{can} {_('It could decide with %(ways)s.', ways=_(' or ').join(ways))}"
