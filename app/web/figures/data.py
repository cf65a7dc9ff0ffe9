"""Figures of a dataset: its labels, and how long its rows are in a base model's tokens."""

from app.domain.data.dataset import DatasetFacts
from app.domain.data.previews import PERCENTILES, SplitLengths
from app.web.figures.drawing import lengths as lengths_chart
from app.web.figures.drawing import stacks
from app.web.figures.drawing.lengths import Bin, Lengths
from app.web.figures.drawing.stacks import Bar, Part, Stacks
from app.web.figures.figure import Column, Figure, Table
from app.web.format import count, percent, share
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.data import SPLITS

WIDTHS = (556, 356)
MOST_BARS = 20
MOST_BINS = 28
GREY = "var(--p-backward)"


def labels(facts: DatasetFacts) -> Figure:
    """Rows by label, the commonest first."""
    found = sorted(facts.label_counts.items(), key=lambda pair: (-pair[1], pair[0]))
    total, shown = sum(facts.label_counts.values()), found[:MOST_BARS]
    bars = tuple(Bar(name, (Part("", GREY, float(rows)),), float(rows), count(rows)) for name, rows in shown)
    return Figure(
        name="labels",
        title=_labels_title(found, total),
        label=_("Rows by label"),
        note=_labels_note(total, len(found)),
        data=Stacks(bars, _("rows of all splits →")),
        draw=stacks.chart,
        widths=WIDTHS,
        table=Table(
            (Column("label", _("label")), Column("rows", _("rows"), count), Column("share", _("share"), percent)),
            tuple((name, rows, rows / total if total else 0.0) for name, rows in found),
        ),
    )


def _labels_title(found: list[tuple[str, int]], total: int) -> str:
    (most, rows), (least, few) = found[0], found[-1]
    if len(found) == 1:
        return _("All rows have one label")
    if rows < 1.5 * few:
        return _("The %(num)s labels are about as common as each other", num=len(found))
    values = {"most": most, "share": share(rows, total), "least": least, "rare": share(few, total)}
    return _("%(most)s is the commonest label with %(share)s of the rows, %(least)s the rarest with %(rare)s", **values)


def _labels_note(total: int, number: int) -> str:
    text = ngettext("%(num)s label", "%(num)s labels", number, num=count(number)) + ", "
    text += ngettext("%(num)s row.", "%(num)s rows.", total, num=count(total))
    if number > MOST_BARS:
        text += " " + _("The %(most)s commonest are drawn; the table has all.", most=MOST_BARS)
    return text


def lengths(found: list[SplitLengths], max_length: int, model: str) -> Figure:
    """Rows by their length in tokens, all splits together, and what is cut."""
    looked_at = sum(split.looked_at for split in found)
    rows = sum(split.rows for split in found)
    beyond = sum(number for split in found for length, number in split.counts if length > max_length)
    longest = max((length for split in found for length, _number in split.counts), default=0)
    note = _("Tokens of %(model)s, special ones included; %(rows)s.", model=model, rows=_looked_at(looked_at, rows))
    return Figure(
        name="lengths",
        title=_lengths_title(beyond, looked_at, longest, max_length),
        label=_("Rows by their length in tokens"),
        note=note + (" " + _("Paler: what is longer than max_length keeps its beginning.") if beyond else ""),
        data=Lengths(
            bins=_bins(found, longest, looked_at),
            cut=max_length,
            cut_label=_("max_length %(length)s", length=max_length),
            across=_("tokens of a row →"),
            up=_("↑ % of the rows"),
        ),
        draw=lengths_chart.chart,
        widths=WIDTHS,
        table=Table(
            (
                Column("split", _("split")),
                Column("rows", _("rows"), count),
                *(
                    Column(f"p{p}", _("longest") if p == 100 else _("%(p)s %% of rows", p=p), count)
                    for p in PERCENTILES
                ),
                Column("cut_share", _("cut"), percent),
            ),
            tuple(
                (
                    _(SPLITS[split.split]),
                    split.rows,
                    *(split.percentile(p) for p in PERCENTILES),
                    split.cut_share(max_length),
                )
                for split in found
            ),
        ),
        everything=lambda: Table(
            (Column("split", ""), Column("tokens", ""), Column("rows", "")),
            tuple((split.split, length, number) for split in found for length, number in split.counts),
        ),
        empty="" if looked_at else _("No row was looked at."),
    )


def _lengths_title(beyond: int, looked_at: int, longest: int, max_length: int) -> str:
    if not beyond:
        return _("Nothing is cut: the longest row has %(longest)s of %(most)s tokens", longest=longest, most=max_length)
    return _(
        "max_length %(most)s cuts %(share)s of the rows; the longest has %(longest)s tokens",
        most=max_length,
        share=share(beyond, looked_at),
        longest=count(longest),
    )


def _looked_at(looked_at: int, rows: int) -> str:
    if looked_at == rows:
        return ngettext("%(num)s row", "all %(num)s rows", rows, num=count(rows))
    return _("%(some)s of %(all)s rows, chosen by hash", some=count(looked_at), all=count(rows))


def _bins(found: list[SplitLengths], longest: int, looked_at: int) -> tuple[Bin, ...]:
    step = max(1, -(-(longest + 1) // MOST_BINS))
    rows: dict[int, int] = {}
    for split in found:
        for length, number in split.counts:
            rows[length // step] = rows.get(length // step, 0) + number
    return tuple(
        Bin(place * step, (place + 1) * step, 100 * number / max(looked_at, 1))
        for place, number in sorted(rows.items())
    )
