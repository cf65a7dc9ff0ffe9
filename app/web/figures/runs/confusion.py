"""The confusion matrix of a run: true labels down, predicted labels across."""

from collections.abc import Sequence

from app.domain.runs.confusion import Confusion
from app.web.figures.drawing import heat
from app.web.figures.drawing.heat import Cell, Heat
from app.web.figures.drawing.theme import MarkStyle
from app.web.figures.figure import Column, Figure, Table
from app.words.format import count, percent
from app.words.i18n import gettext as _
from app.words.i18n import ngettext

MOST_LABELS = 20
"""Labels that are drawn; of more, the most frequent of the test items, and the rest together."""
ROW = 26
DARKEST = 0.42
ONE_ANSWER = 0.95
"""Share of items with the same prediction from which on a model answers that alone."""


def confusion_matrix(confusion: Confusion, labels: Sequence[str], style: MarkStyle) -> Figure:
    """The matrix over the test split; `labels` are the dataset's."""
    drawn = [label for label, _items in confusion.labels.most_common(MOST_LABELS)]
    order = sorted(drawn)
    others = sorted({*confusion.labels, *confusion.predictions} - set(drawn))
    names = [labels[label] for label in order] + ([_("others")] if others else [])
    predicted, share = confusion.most_predicted
    note = _(
        "True labels down, predicted labels across. Darker: a larger share of the row. %(items)s test items. Most "
        "frequent prediction: %(label)s, %(share)s.",
        items=count(confusion.items),
        label=labels[predicted],
        share=percent(share),
    )
    return Figure(
        name="confusion",
        title=_finding(confusion, labels),
        label=_("Confusion matrix of the test split"),
        note=note,
        data=_cells(confusion, order, names, style.colour),
        draw=heat.chart,
        table=_table(confusion, labels),
        everything=lambda: _every_pair(confusion, labels),
    )


def _finding(confusion: Confusion, labels: Sequence[str]) -> str:
    label, share = confusion.most_predicted
    if share >= ONE_ANSWER and len(confusion.labels) > 1:
        return _("%(share)s of the predictions are “%(label)s”", share=percent(share), label=labels[label])
    if not confusion.errors:
        return ngettext("The %(num)s test item is right", "All %(num)s test items are right", confusion.items)
    worst = confusion.errors[0]
    return _(
        "The most frequent error: “%(predicted)s” for “%(label)s”, %(items)s of %(all)s items",
        predicted=labels[worst.predicted],
        label=labels[worst.label],
        items=count(worst.items),
        all=count(confusion.labels[worst.label]),
    )


def _cells(confusion: Confusion, order: Sequence[int], names: Sequence[str], colour: str) -> Heat:
    place = {label: i for i, label in enumerate(order)}
    counts: dict[tuple[int, int], int] = {}
    for answer in confusion.answers:
        where = place.get(answer.label, len(order)), place.get(answer.predicted, len(order))
        counts[where] = counts.get(where, 0) + answer.items
    rows = {row: sum(items for (other, _column), items in counts.items() if other == row) for row, _c in counts}
    return Heat(
        columns=tuple(names),
        rows=tuple(names),
        cells=tuple(
            Cell(
                column=column,
                row=row,
                text=count(items),
                opacity=DARKEST * items / rows[row],
                muted=column != row and 2 * items < rows[row],  # muted text is unreadable on a dark cell
            )
            for (row, column), items in counts.items()
        ),
        colour=colour,
        across=_("Predicted →"),
        row_height=ROW,
    )


def _table(confusion: Confusion, labels: Sequence[str]) -> Table:
    columns = (
        Column("label", _("label")),
        Column("items", _("items"), count),
        Column("predicted", _("predicted"), count),
        Column("recall", _("recall"), percent),
        Column("precision", _("precision"), percent),
    )
    right = {a.label: a.items for a in confusion.answers if a.label == a.predicted}
    true, predicted = confusion.labels, confusion.predictions
    rows = tuple(
        (
            labels[label],
            true[label],
            predicted[label],
            right.get(label, 0) / true[label] if true[label] else None,
            right.get(label, 0) / predicted[label] if predicted[label] else None,
        )
        for label in sorted({*true, *predicted})
    )
    return Table(columns, rows)


def _every_pair(confusion: Confusion, labels: Sequence[str]) -> Table:
    rows = ((labels[a.label], labels[a.predicted], a.items) for a in confusion.answers)
    return Table.raw(("label", "predicted", "items"), rows)
