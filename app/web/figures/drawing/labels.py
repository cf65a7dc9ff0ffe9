"""How common each label of a dataset is, or each tag of its words."""

from app.domain.data.dataset import DatasetFacts
from app.web.figures.drawing import stacks
from app.web.figures.drawing.stacks import Bar, Part, Stacks
from app.web.figures.figure import Column, Figure, Table
from app.words.format import count, percent, share
from app.words.i18n import gettext as _
from app.words.i18n import ngettext

MOST_BARS = 20
GREY = "var(--p-backward)"


def labels(facts: DatasetFacts) -> Figure:
    """Rows by label, or words by tag, the most common first."""
    tagged = facts.format == "tagged"
    labels = sorted(facts.label_counts.items(), key=lambda pair: (-pair[1], pair[0]))
    total = sum(facts.label_counts.values())
    bars = tuple(Bar(name, (Part("", GREY, float(n)),), float(n), count(n)) for name, n in labels[:MOST_BARS])
    return Figure(
        name="labels",
        title=_title(labels, total, tagged),
        label=_("Words by tag") if tagged else _("Rows by label"),
        note=_note(total, len(labels), tagged),
        data=Stacks(bars, _("words of all splits →") if tagged else _("rows of all splits →")),
        draw=stacks.chart,
        table=Table(
            (
                Column("tag", _("tag")) if tagged else Column("label", _("label")),
                Column("words", _("words"), count) if tagged else Column("rows", _("rows"), count),
                Column("share", _("share"), percent),
            ),
            tuple((name, rows, rows / total if total else 0.0) for name, rows in labels),
        ),
    )


def _title(labels: list[tuple[str, int]], total: int, tagged: bool) -> str:
    (most, rows), (least, few) = labels[0], labels[-1]
    if len(labels) == 1:
        return _("All rows have one label")
    if rows < 1.5 * few and not tagged:
        return _("The %(num)s labels are about equally common", num=len(labels))
    values = {"most": most, "share": share(rows, total), "least": least, "rare": share(few, total)}
    if tagged:
        return _(
            "%(most)s is the most common tag with %(share)s of the words, %(least)s the rarest with %(rare)s", **values
        )
    return _(
        "%(most)s is the most common label with %(share)s of the rows, %(least)s the rarest with %(rare)s", **values
    )


def _note(total: int, number: int, tagged: bool) -> str:
    if tagged:
        text = ngettext("%(num)s tag", "%(num)s tags", number, num=count(number)) + ", "
        text += ngettext("%(num)s word.", "%(num)s words.", total, num=count(total))
        return text + (" " + _("The chart shows the %(most)s most common, the table all.", most=MOST_BARS)) * (
            number > MOST_BARS
        )
    text = ngettext("%(num)s label", "%(num)s labels", number, num=count(number)) + ", "
    text += ngettext("%(num)s row.", "%(num)s rows.", total, num=count(total))
    if number > MOST_BARS:
        text += " " + _("The chart shows the %(most)s most common, the table all.", most=MOST_BARS)
    return text
