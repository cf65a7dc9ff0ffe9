"""Whether a study can decide, before it starts: why not, what would let it, and what that rests on."""

from app.domain.studies.alternative import Alternative
from app.domain.studies.plan import Power, StudyPlan
from app.domain.studies.power import GROUPED, MetricPrior
from app.words.format import decimal, general, percent
from app.words.i18n import gettext as _
from app.words.i18n import marked, ngettext
from app.words.runs.metrics import counted_items, items_in_groups, title

ALTERNATIVES = {
    Alternative.NON_INFERIORITY: marked("does an arm lose less than the margin?"),
    Alternative.EQUIVALENCE: marked("does an arm differ by less than the margin, up or down?"),
}


def alternative_options() -> list[tuple[str, str]]:
    """The questions that a study can ask, with titles."""
    return [(alternative.value, _(title)) for alternative, title in ALTERNATIVES.items()]


def margin_default(plan: StudyPlan | None) -> str:
    """What an empty margin stands for."""
    if plan is None:
        return _("Left empty: the smallest margin at which equal arms are found good enough in 80 %% of studies.")
    return _(
        "Left empty: the smallest margin at which equal arms are found good enough in 80 %% of studies, now "
        "%(margin)s.",
        margin=general(100 * plan.power.margin),
    )


def if_equal_text(plan: StudyPlan) -> str:
    """The power at the margin, in a line."""
    values = {"margin": general(100 * plan.power.margin), "share": percent(plan.power.if_equal, 0)}
    if plan.spec.alternative.two_sided:
        return _("Margin %(margin)s: an arm that does not differ is found within it in %(share)s of studies.", **values)
    return _("Margin %(margin)s: an arm that loses nothing is found enough in %(share)s of studies.", **values)


def power_warning(plan: StudyPlan) -> str:
    """In one or two sentences; empty where it can, as far as is known."""
    power = plan.power
    if len(plan.arms) < 2:
        return _("A single arm has no comparison: add a second arm.")
    if power.seeds == 1:
        return _("One seed gives a hint at best, because the variation between seeds stays unknown. Use three or more.")
    if not plan.underpowered:
        return ""
    detects = _(
        "%(items)s and %(seeds)s detect a difference of about %(smallest)s points, and the margin is %(margin)s.",
        items=planned_items(plan),
        seeds=ngettext("%(num)s seed", "%(num)s seeds", power.seeds),
        smallest=decimal(100 * power.detectable_difference),
        margin=general(100 * power.margin),
    )
    return f"{detects} {_('~50 %% power: %(options)s would decide.', options=_(' or ').join(_options(plan)))}"


def planned_items(plan: StudyPlan) -> str:
    """`646 test items in 412 groups`."""
    return items_in_groups(plan.power.items, plan.power.clusters, plan.spec.verdict_metric)


def _options(plan: StudyPlan) -> list[str]:
    options, power = [], plan.power
    if power.enough_seeds:
        options.append(_("%(num)s seeds", num=power.enough_seeds))
    if power.enough_items:
        items = counted_items(power.enough_items, plan.spec.verdict_metric)
        options.append(_("%(items)s with %(num)s seeds", items=items, num=power.items_seeds))
    return [*options, _("a margin of %(margin)s points", margin=decimal(power.wider_margin))]


def prior_basis(prior: MetricPrior) -> str:
    """What a detectable difference rests on, as a sentence."""
    if prior.disagreement is not None:
        return ngettext(
            "The difference rests on the item variance of %(num)s past run and a typical seed variance.",
            "The difference rests on the item variance of %(num)s past runs and a typical seed variance.",
            prior.runs,
        )
    values = {"metric": title(prior.metric), "score": percent(prior.score, 0)}
    if prior.graded:
        return _(
            "The difference assumes %(metric)s %(score)s, a third of the item variance of a right-or-wrong metric, and "
            "a typical seed variance.",
            **values,
        )
    return _("The difference assumes %(metric)s %(score)s and typical item and seed variances.", **values)


def groups_basis(power: Power) -> str:
    """What is assumed of items in groups; empty without, and where past runs show it."""
    if not power.clusters or power.prior.disagreement is not None:
        return ""
    return _(
        "It counts items with equal inputs as one, and assumes a correlation of %(share)s between the other items of a "
        "group.",
        share=general(GROUPED),
    )


FILTERS = (prior_basis, groups_basis, margin_default, if_equal_text, planned_items)
