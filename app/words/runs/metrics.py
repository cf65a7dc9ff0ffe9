"""Metrics in words: the title that a sentence, a column and an axis take, and how a value is written.

Scores that a verdict can rest on lie between 0 and 1 and are written in percent; others, such as perplexity, have a
scale of their own, and a loss is in nats.
"""

from app.domain.comparison.statistics.clusters import FEW
from app.domain.tasks import METRICS, TASKS, MetricName, Task, generates
from app.words.format import NOTHING, capitalized, count, percent, significant
from app.words.i18n import gettext as _
from app.words.i18n import marked, marked_plural, ngettext

UNITS = {
    "item": marked("nats per item"),
    "pair": marked("nats per pair"),
    "word": marked("nats per word"),
    "completion token": marked("nats per token"),
}
"""Units of a loss, by what the task takes its mean over."""
COUNTED: tuple[MetricName, ...] = (
    *("accuracy", "exact_match", "recall_at_1", "recall_at_5"),
    *("preference_accuracy", "likelihood_accuracy", "mean_likelihood_accuracy"),
)
"""An item is right or wrong, and the score says how many are right."""


def counted_items(number: int, metric: str) -> str:
    """`646 test items`, by what has a value of the metric: `160 test pairs`, `320 test queries`."""
    tasks = [facts for facts in TASKS.values() if metric in facts.metrics]
    forms = marked_plural("%(num)s test item", "%(num)s test items")
    if any(facts.prefers for facts in tasks):
        forms = marked_plural("%(num)s test pair", "%(num)s test pairs")
    elif any(facts.output == "embedding" for facts in tasks):
        forms = marked_plural("%(num)s test query", "%(num)s test queries")
    return ngettext(*forms, number, num=count(number))


def items_in_groups(number: int, groups: int | None, metric: str) -> str:
    """`646 test items in 412 groups`; without groups where each item is its own."""
    items = counted_items(number, metric)
    if not groups:
        return items
    return ngettext("%(items)s in %(num)s group", "%(items)s in %(num)s groups", groups, num=count(groups), items=items)


def few_groups(groups: int) -> str:
    """That so many groups are few; empty where they are enough."""
    return _("with fewer than %(few)s groups the intervals rest on little evidence", few=FEW) if groups < FEW else ""


def title(metric: str) -> str:
    """`accuracy`, `ROUGE-L`: within a sentence; a metric that only an imported run has keeps its name."""
    facts = METRICS.get(metric)  # type: ignore[call-overload]
    return _(facts.title) if facts else metric


def heading(metric: str) -> str:
    """`Accuracy`, `ROUGE-L`: at the head of a column or an axis."""
    return capitalized(title(metric))


def definition(metric: MetricName) -> str:
    return _(METRICS[metric].definition)


def written(metric: MetricName, value: float | None) -> str:
    """A metric's value with its unit: `61.2 %`, `8.31`."""
    if value is None:
        return NOTHING
    facts = METRICS.get(metric)  # an imported run may have another metric
    return percent(value) if facts is None or facts.percentage else significant(value, 3)


def loss_unit(task: Task) -> str:
    """`nats per item`, `nats per token`."""
    return _(UNITS[TASKS[task].unit])


FILTERS = (heading, definition, written, loss_unit, generates)
