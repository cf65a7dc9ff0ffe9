"""Data in the terminal: an upload as it was read, a dataset with its findings, a list of datasets."""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any
from unicodedata import category

from rich import box
from rich.markup import escape
from rich.table import Table

from app.words.data.data import SPLITS, split_name
from app.words.format import capitalized, count
from app.words.i18n import gettext as _
from app.words.i18n import ngettext, stored
from app.words.runs.states import state_word

SHOWN_LABELS = 12
SHOWN_EXAMPLES = 3
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that change the direction of the text after them."""


def upload_line(upload: dict[str, Any]) -> str:
    """`reviews.csv: 120 rows, 2 columns (review, stars); CSV, utf-8.` and the reason of the guess."""
    scan = upload["scan"]
    columns = ", ".join(column["name"] for column in scan["columns"][:SHOWN_LABELS])
    more = ", …" if len(scan["columns"]) > SHOWN_LABELS else ""
    how = ", ".join(part for part in (scan["kind"].upper(), scan["encoding"]) if part)
    rows = ngettext("%(count)s row", "%(count)s rows", scan["rows"], count=count(scan["rows"]))
    width = ngettext("%(num)s column", "%(num)s columns", len(scan["columns"]))
    return f"{upload['name']}: {rows}, {width} ({columns}{more}); {how}. {stored(scan['reason'])}"


def lines(version: dict[str, Any]) -> Iterator[str]:
    """A version of a dataset with its splits, labels and findings."""
    facts = version["facts"]
    state = _("%(name)s is %(state)s", name=version["reference"], state=state_word(version["status"]))
    yield f"{state}: {stored(version['message'])}" if version["message"] else f"{state}."
    if facts:
        yield "  " + ", ".join(f"{split_name(split)} {count(rows)}" for split, rows in facts["counts"].items())
        if facts["labels"]:
            shown = [f"{name} {count(facts['label_counts'][name])}" for name in facts["labels"][:SHOWN_LABELS]]
            more = ["…"] if len(facts["labels"]) > SHOWN_LABELS else []
            yield "  " + _("labels: %(labels)s", labels=", ".join([*shown, *more]))
    yield from _findings(version)
    if facts:
        yield _("In a spec: %(line)s", line=f"dataset: {version['reference']}")


def seen(answer: dict[str, Any]) -> Iterator[str]:
    """A preview: its findings, and its rows with brackets around the tokens in the loss."""
    yield from _findings(answer["preview"])
    rows = answer["preview"]["rows"]
    if any(row["in_loss"] for row in rows):
        yield _("%(brackets)s: tokens in the loss", brackets="⟦…⟧")
    for row in rows:
        size = ngettext("%(num)s token", "%(num)s tokens", row["length"], num=count(row["length"]))
        if row["seen_size"]:
            width, height = row["seen_size"]
            size = _("read as %(width)s × %(height)s px", width=width, height=height)
        loss = _("%(num)s in the loss", num=count(row["in_loss"])) if row["in_loss"] else ""
        yield ", ".join(filter(None, (split_name(row["split"]), size, loss)))
        text = ""
        for learnt, tokens in groupby(row["tokens"], key=itemgetter("learnt")):
            part = "".join(_printable(token["text"]) for token in tokens)
            text += f"⟦{part}⟧" if learnt else part
        hidden = row["kept"] - len(row["tokens"]) if row["tokens"] else 0
        yield text + (" " + _("… and %(rest)s more", rest=count(hidden)) if hidden else "")


def table(versions: list[dict[str, Any]]) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for head in (_("Dataset"), _("State"), _("Format")):
        drawn.add_column(head)
    for split in SPLITS:
        drawn.add_column(capitalized(split_name(split)), justify="right")
    for row in versions:
        facts = row["facts"]
        counts = [count(facts["counts"].get(split, 0)) for split in SPLITS] if facts else []
        drawn.add_row(escape(row["reference"]), state_word(row["status"]), facts["format"] if facts else "", *counts)
    return drawn


def _printable(text: str) -> str:
    """A token's text without characters that would control the terminal."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _controls(sign) else sign for sign in text)


def _controls(sign: str) -> bool:
    return sign in BIDI or (category(sign) in ("Cc", "Cs") and sign not in "\n\t")


def _findings(owner: dict[str, Any]) -> Iterator[str]:
    for finding in owner["findings"]:
        text = " ".join(map(stored, filter(None, (finding["message"], finding["remedy"]))))
        yield f"{capitalized(state_word(finding['severity']))}: {text}"
        for example in finding["examples"][:SHOWN_EXAMPLES]:
            yield f"  {_place(example)}{example['excerpt']}"


def _place(example: dict[str, Any]) -> str:
    where = [
        example["file"],
        _("row %(row)s", row=example["row"]) if example["row"] is not None else "",
        split_name(example["split"]) if example["split"] else "",
    ]
    return f"{', '.join(part for part in where if part)}: " if any(where) else ""
