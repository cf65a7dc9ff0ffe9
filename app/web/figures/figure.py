"""A figure: its takeaway, its drawing at two widths, how to read it, and its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from app.domain.errors import NotFound
from app.domain.messages import Message
from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing import render
from app.words.i18n import language

Cell = str | int | float | None
Show = Callable[[Any], str]
WIDTHS = (556, 356)


@dataclass(frozen=True)
class Column:
    name: str
    """In the CSV, with its unit: `peak_bytes`."""
    heading: str
    show: Show | None = None
    """How a number is written on the page; None for words."""
    total: bool = False
    """It sums the columns before it."""


@dataclass(frozen=True)
class Table:
    """A figure's numbers, as they were measured; rounding is for the page."""

    columns: tuple[Column, ...]
    rows: Iterable[tuple[Cell, ...]]
    """Those of a CSV may be made as they are read."""
    caption: str = ""

    @classmethod
    def raw(cls, names: Iterable[str], rows: Iterable[tuple[Cell, ...]]) -> Table:
        """A table for a CSV alone, without headings for a page."""
        return cls(tuple(Column(name, name) for name in names), rows)

    @property
    def shown(self) -> list[list[str]]:
        """The rows as the page writes them."""
        return [
            [column.show(cell) if column.show else str(cell) for column, cell in zip(self.columns, row, strict=True)]
            for row in self.rows
        ]

    @property
    def csv_rows(self) -> Iterable[tuple[Cell, ...]]:
        yield tuple(column.name for column in self.columns)
        yield from self.rows


@dataclass(frozen=True)
class Figure:
    """What a page shows of a chart, and what its files hold."""

    name: str
    """Its name in the address."""
    title: str
    """The takeaway, a sentence from the numbers."""
    label: str
    """What the picture shows, for screen readers."""
    note: str
    """Units, n, how to read it."""
    data: object
    """Everything that the drawing is made of: numbers, text and arrays in dataclasses and tuples."""
    draw: Callable[[Any, int], alt.LayerChart]
    """From `data` and a width in pixels."""
    table: Table
    """What the page shows behind the disclosure."""
    widths: tuple[int, int] = WIDTHS
    everything: Callable[[], Table] | None = None
    """What the CSV holds, where that is more."""
    empty: str = ""
    """Why there is nothing to draw yet."""

    @property
    def numbers(self) -> Table:
        return self.everything() if self.everything else self.table

    def chart(self, *, narrow: bool = False) -> alt.LayerChart:
        """The drawing at one of its widths. Raises NotFound where there is nothing to draw."""
        if self.empty:
            raise NotFound(Message(self.empty))
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


Some = TypeVar("Some")


def choose(figures: Mapping[str, Some], name: str) -> Some:
    """The figure of that name. Raises NotFound, naming the choices."""
    if name not in figures:
        names = ", ".join(figures) or "none yet"
        raise NotFound(Message("There is no chart %(name)r. Choose from: %(names)s.", name=name, names=names))
    return figures[name]


DRAWINGS = render.Drawings()


def drawn(figure: Figure, base: str, query: str = "") -> Drawn:
    """Draw a figure for a page, or take the drawings that were made of the same numbers."""
    wide, narrow = ("", "") if figure.empty else (_drawing(figure, narrow=False), _drawing(figure, narrow=True))
    return Drawn(figure, wide, narrow, base, query)


def _drawing(figure: Figure, *, narrow: bool) -> str:
    name = f"{figure.name}-{'narrow' if narrow else 'wide'}"
    key = render.content_hash(figure.draw.__module__, figure.data, figure.widths, figure.label, name, language())
    return DRAWINGS.get(key, lambda: render.svg(figure.chart(narrow=narrow), figure.label, name))
