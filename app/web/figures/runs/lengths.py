"""How long a dataset's rows are in a base model's tokens: bars over lengths, and a line where rows are truncated."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.data.previews import PERCENTILES, SplitLengths
from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.theme import (
    INK,
    SURFACE,
    WIDE_FROM,
    at_y,
    frame,
    halo,
    number_axis,
    own_colour,
    side,
    values,
)
from app.web.figures.figure import Column, Figure, Table
from app.words.data.data import SPLITS
from app.words.format import count, percent, share
from app.words.i18n import gettext as _
from app.words.i18n import ngettext

MOST_BINS = 28
WITHIN, BEYOND = "var(--p-backward)", "var(--p-idle)"


@dataclass(frozen=True)
class Bin:
    """Rows of `low` to below `high` tokens."""

    low: int
    high: int
    share: float
    """Of all rows, in percent."""


def lengths(splits: list[SplitLengths], max_length: int, model: str) -> Figure:
    """Rows by their length in tokens, all splits together, and what is cut."""
    tokenized = sum(split.looked_at for split in splits)
    rows = sum(split.rows for split in splits)
    beyond = sum(number for split in splits for length, number in split.counts if length > max_length)
    longest = max((length for split in splits for length, _number in split.counts), default=0)
    note = _("Tokens of %(model)s, including special tokens; %(rows)s.", model=model, rows=_rows_text(tokenized, rows))
    return Figure(
        name="lengths",
        title=_title(beyond, tokenized, longest, max_length),
        label=_("Rows by length in tokens"),
        note=note + (" " + _("Pale: rows longer than max_length are truncated.") if beyond else ""),
        data=(_bins(splits, longest, tokenized), max_length),
        draw=chart,
        table=Table(
            (
                Column("split", _("split")),
                Column("rows", _("rows"), count),
                *(
                    Column(f"p{p}", _("longest") if p == 100 else _("%(p)s %% of rows up to", p=p), count)
                    for p in PERCENTILES
                ),
                Column("cut_share", _("truncated"), percent),
            ),
            tuple(
                (
                    _(SPLITS[split.split]),
                    split.rows,
                    *(split.percentile(p) for p in PERCENTILES),
                    split.cut_share(max_length),
                )
                for split in splits
            ),
        ),
        everything=lambda: Table.raw(
            ("split", "tokens", "rows"),
            tuple((split.split, length, number) for split in splits for length, number in split.counts),
        ),
        empty="" if tokenized else _("No row was tokenized."),
    )


def chart(data: tuple[tuple[Bin, ...], int], width: int) -> alt.LayerChart:
    """Bars, pale beyond the most tokens that a row keeps; there a line with its name, where the axis reaches it."""
    bins, cut = data
    end = max((b.high for b in bins), default=1)
    x_scale = alt.Scale(domain=[0, end], nice=False)
    rows = [{"low": b.low, "high": b.high, "share": b.share, "colour": WITHIN if b.low < cut else BEYOND} for b in bins]
    bars = values(rows).mark_rect(stroke=SURFACE, strokeWidth=1)
    layers = [
        bars.encode(
            x=alt.X("low:Q", scale=x_scale, axis=number_axis(_("tokens per row →"))),
            x2=alt.X2("high:Q"),
            y=alt.Y("share:Q", scale=alt.Scale(zero=True), axis=number_axis()),
            y2=alt.Y2Datum(0),
            color=own_colour(),
        )
    ]
    if cut < end:
        mark = values([{"cut": cut, "text": _("max_length %(length)s", length=cut)}])
        x = alt.X("cut:Q", scale=x_scale)
        label = {"x": x, "y": at_y(2), "text": alt.Text("text:N")}
        layers += [
            mark.mark_rule(stroke=INK, strokeWidth=1.5, strokeDash=[4, 3]).encode(x=x),
            *halo(mark, label, baseline="top", fontWeight="bold", color=INK, **side(cut / end)),
        ]
    return frame(*layers, width=width, height=180 if width > WIDE_FROM else 150, up=_("↑ % of the rows"))


def _title(beyond: int, tokenized: int, longest: int, max_length: int) -> str:
    if not beyond:
        return _(
            "No row is truncated: the longest has %(longest)s of %(most)s tokens", longest=longest, most=max_length
        )
    return _(
        "max_length %(most)s truncates %(share)s of the rows; the longest has %(longest)s tokens",
        most=max_length,
        share=share(beyond, tokenized),
        longest=count(longest),
    )


def _rows_text(tokenized: int, rows: int) -> str:
    if tokenized == rows:
        return ngettext("%(num)s row", "all %(num)s rows", rows, num=count(rows))
    return _("a sample of %(some)s of %(all)s rows, by hash", some=count(tokenized), all=count(rows))


def _bins(splits: list[SplitLengths], longest: int, tokenized: int) -> tuple[Bin, ...]:
    step = max(1, -(-(longest + 1) // MOST_BINS))
    rows: dict[int, int] = {}
    for split in splits:
        for length, number in split.counts:
            rows[length // step] = rows.get(length // step, 0) + number
    return tuple(
        Bin(place * step, (place + 1) * step, 100 * number / max(tokenized, 1))
        for place, number in sorted(rows.items())
    )
