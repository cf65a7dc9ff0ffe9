"""The names of arms as the y axis of a figure with a row per arm: beside the rows in a wide drawing, above them in a
narrow one. What is said of each arm stands at the right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.theme import INK, NAME, MarkStyle, at_x, halo, named_axis, own_colour, values

LIMIT = 140
"""Pixels of a name beside its row."""
LIMIT_ABOVE = 210


def names_beside(
    styles: Sequence[MarkStyle], middles: Sequence[float], scale: alt.Scale, words: Sequence[str] = ()
) -> list[alt.Chart]:
    """The names at the left, each at the middle of its row, and `words` at the right."""
    colours = json.dumps([style.colour for style in styles])
    axes = [
        named_axis(
            [style.name for style in styles],
            middles,
            title=None,
            labelFontSize=NAME,
            labelFontWeight="bold",
            labelLimit=LIMIT,
            labelColor=alt.ExprRef(f"{colours}[indexof({json.dumps(list(middles))}, datum.value)]"),
        )
    ]
    if words:
        look = {"labelFontSize": NAME, "labelColor": INK, "labelLimit": LIMIT, "labelPadding": 12}
        axes.append(named_axis(words, middles, title=None, orient="right", **look))
    nothing = values([{"y": middle} for middle in middles]).mark_point(opacity=0)
    return [nothing.encode(x=at_x(0), y=alt.Y("y:Q", scale=scale, axis=axis)) for axis in axes]


def names_above(rows: Sequence[Mapping[str, object]], y: alt.Y, dy: float) -> list[alt.Chart]:
    """The name of each row's `arm` above it, and its `word`, where it has one, at the right."""
    where = {"x": at_x(0), "y": y, "text": alt.Text("arm:N"), "color": own_colour()}
    layers = halo(values(rows), where, align="left", dy=dy, fontWeight="bold", fontSize=NAME, limit=LIMIT_ABOVE)
    if any("word" in row for row in rows):
        word = values(rows).mark_text(align="right", dy=dy, fontSize=NAME, color=INK)
        right = alt.XValue(alt.ExprRef("width"))  # type: ignore[no-untyped-call]
        layers.append(word.encode(x=right, y=y, text=alt.Text("word:N")))
    return layers
