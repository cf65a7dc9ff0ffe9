"""From a chart to what a browser shows: inline SVG that follows the page's theme, stand-alone SVG, PNG.

An inline drawing takes 20 to 60 ms, so drawings are cached under a hash of everything that decides them: a page with
seven figures at two widths is drawn once for as long as its numbers stay the same.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from html import escape
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Literal

import numpy as np
import vl_convert
from babel.numbers import get_decimal_symbol, get_group_symbol

from app.settings import ROOT
from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.theme import CONFIG, FONT
from app.words.i18n import language

Theme = Literal["light", "dark"]
CSS = ROOT / "static" / "css"
MOST_CHARACTERS = 48 << 20
"""Characters of drawings that are kept: the pages of about 80 studies with 20 drawings of 30,000 characters each."""


class Drawings:
    """A cache of drawings, by content; the least recently used goes first."""

    def __init__(self, most_characters: int = MOST_CHARACTERS) -> None:
        self.most_characters = most_characters
        self._characters = 0
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._lock = Lock()

    def get(self, key: str, draw: Callable[[], str]) -> str:
        """The drawing of that key; `draw` makes it if it is not there."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        drawing = draw()
        with self._lock:
            self._characters += len(drawing) - len(self._kept.pop(key, ""))
            self._kept[key] = drawing
            while self._characters > self.most_characters:
                self._characters -= len(self._kept.popitem(last=False)[1])
        return drawing


@cache
def warm() -> None:
    """Start the renderer before a page with figures needs it: its first drawing in a process takes a second.

    And 58 MiB, so it happens with the first view of the list that leads to such pages, not when a server starts.
    """

    def draw() -> None:
        nothing = alt.LayerChart(layer=[alt.Chart(alt.InlineData(values=[])).mark_text()])
        vl_convert.vegalite_to_svg(_specification(nothing))

    Thread(target=draw, name="warm-charts", daemon=True).start()


def content_hash(*parts: object) -> str:
    """A name for values (numbers, text, arrays, tuples and frozen dataclasses of them): equal just when they are."""
    digest = hashlib.blake2b(digest_size=16)
    for piece in _pieces(parts):
        digest.update(piece)
        digest.update(b"\0")
    return digest.hexdigest()


def _pieces(value: object) -> Iterator[bytes]:
    if isinstance(value, np.ndarray):
        yield f"{value.dtype}{value.shape}".encode()
        yield value.tobytes()
    elif is_dataclass(value):
        yield type(value).__name__.encode()
        for field in fields(value):
            yield from _pieces(getattr(value, field.name))
    elif isinstance(value, tuple | list):
        yield f"{len(value)}".encode()
        for item in value:
            yield from _pieces(item)
    else:
        yield repr(value).encode()


def svg(chart: alt.LayerChart, label: str, name: str) -> str:
    """Inline SVG named `label`: colours by CSS, size left to the page, ids unique by `name`."""
    text = _svg(chart)
    text = _in_tags(r"\bclip(\d+)", rf"{name}-clip\1", text[text.index("<svg") :])
    text = _in_tags(r' (aria-\w+|role)="[^"]*"', "", text)
    text = _in_tags(f' font-family="{re.escape(FONT)}"', "", text)  # the page's own font, by CSS
    attributes = f'role="img" aria-label="{escape(label)}"'
    return re.sub(r"<svg ([^>]*)>", lambda m: f"<svg {m[1]} {attributes}>", text, count=1)


def svg_file(chart: alt.LayerChart, theme: Theme) -> str:
    """An SVG that stands alone: the colours of one theme, on that theme's surface."""
    text = _svg(chart, background="var(--surface)")
    return resolve(text, theme)


def png(chart: alt.LayerChart, theme: Theme, scale: float = 2) -> bytes:
    """A PNG in the colours of one theme."""
    return bytes(vl_convert.svg_to_png(svg_file(chart, theme), scale=scale))


def resolve(text: str, theme: Theme, css: Path = CSS) -> str:
    """Put in the value of every `var(--token)`; KeyError for a token that the stylesheet lacks."""
    values = tokens(css)
    return _in_tags(r"var\(--([\w-]+)\)", lambda m: values[m[1]][theme], text)


def _in_tags(pattern: str, by: str | Callable[[re.Match[str]], str], text: str) -> str:
    """Replace within tags only. What stands between them is words, an arm's name perhaps, and stays as it is."""
    return re.sub(r"<[^<>]*>", lambda tag: re.sub(pattern, by, tag[0]), text)


@cache
def tokens(css: Path = CSS) -> dict[str, dict[Theme, str]]:
    """Colours of both themes by token, read from the stylesheets: `--ink: light-dark(#14191f, #e9edf1)`."""
    text = "\n".join(file.read_text() for file in sorted(css.glob("*.css")))
    pairs = re.findall(r"--([\w-]+):\s*light-dark\(\s*(#\w+)\s*,\s*(#\w+)\s*\)", text)
    return {name: {"light": light, "dark": dark} for name, light, dark in pairs}


def _svg(chart: alt.LayerChart, **config: Any) -> str:
    """With the signs of numbers of the page's language."""
    return str(vl_convert.vegalite_to_svg(_specification(chart, **config), format_locale=_signs(language())))


@cache
def _signs(code: str) -> dict[str, object]:
    """A language's signs of numbers, as d3-format takes them."""
    return {
        "decimal": get_decimal_symbol(code),
        "thousands": get_group_symbol(code).replace("\N{NO-BREAK SPACE}", "\N{NARROW NO-BREAK SPACE}"),
        "grouping": [3],
        "currency": ["", ""],
    }


def _specification(chart: alt.LayerChart, **config: Any) -> dict[str, Any]:
    """Vega-Lite. Unchecked: checking against the schema takes longer than drawing, and tests check every chart."""
    specification: dict[str, Any] = chart.configure(**CONFIG | config).to_dict(validate=False)
    return specification
