"""A figure: its takeaway, its drawing at two widths, how to read it, and its numbers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing import render
from app.web.i18n import language

Cell = str | int | float | None
Show = Callable[[Any], str]


@dataclass(frozen=True)
class Column:
    """A column of a figure's numbers."""

    name: str
    """In the CSV, with its unit: `peak_bytes`."""
    heading: str
    """On the page."""
    show: Show | None = None
    """How a number is written on the page; None for words."""


@dataclass(frozen=True)
class Table:
    """A figure's numbers, as they were measured; rounding is for the page."""

    columns: tuple[Column, ...]
    rows: Collection[tuple[Cell, ...]]
    """Those of a CSV may be made as they are read."""

    @property
    def shown(self) -> list[list[str]]:
        """The rows as the page writes them."""
        return [
            [column.show(cell) if column.show else str(cell) for column, cell in zip(self.columns, row, strict=True)]
            for row in self.rows
        ]


@dataclass(frozen=True)
class Key:
    """An entry of a legend: the class that colours it, and its name."""

    css: str
    name: str


@dataclass(frozen=True)
class Figure:
    """What a page shows of a chart, and what its files hold."""

    name: str
    """In its address."""
    title: str
    """The takeaway, a sentence from the numbers."""
    label: str
    """What the picture is, for those who do not see it."""
    note: str
    """Units, n, how to read it."""
    data: object
    """Everything that the drawing is made of: plain values, hashable by content."""
    draw: Callable[[Any, int], alt.LayerChart]
    """From `data` and a width in pixels."""
    widths: tuple[int, int]
    """Wide, narrow."""
    table: Table
    """What the page shows behind the disclosure."""
    everything: Callable[[], Table] | None = None
    """What the CSV holds, where that is more."""
    empty: str = ""
    """Why there is nothing to draw yet."""

    @property
    def numbers(self) -> Table:
        """The rows of the CSV."""
        return self.everything() if self.everything else self.table

    def chart(self, *, narrow: bool = False) -> alt.LayerChart:
        """The drawing at one of its widths."""
        return self.draw(self.data, self.widths[narrow])


@dataclass(frozen=True)
class Drawn:
    """A figure with its drawings, for a template."""

    figure: Figure
    wide: str
    narrow: str
    base: str
    """Where its files are: `/studies/12/charts`."""
    query: str = ""
    """What their addresses end with: `?task=causal-lm`."""

    def file(self, ending: str) -> str:
        """The address of one of its files."""
        return f"{self.base}/{self.figure.name}.{ending}{self.query}"


DRAWINGS = render.Drawings()


def drawn(figure: Figure, base: str, query: str = "") -> Drawn:
    """Draw a figure for a page, or take the drawings that were made of the same numbers."""
    wide, narrow = ("", "") if figure.empty else (_drawing(figure, narrow=False), _drawing(figure, narrow=True))
    return Drawn(figure, wide, narrow, base, query)


def _drawing(figure: Figure, *, narrow: bool) -> str:
    name = f"{figure.name}-{'narrow' if narrow else 'wide'}"
    key = render.content_hash(figure.draw.__qualname__, figure.data, figure.widths, figure.label, name, language())
    return DRAWINGS.get(key, lambda: render.svg(figure.chart(narrow=narrow), figure.label, name))


def csv_rows(table: Table) -> Iterable[tuple[Cell, ...]]:
    """Header and rows."""
    yield tuple(column.name for column in table.columns)
    yield from table.rows
