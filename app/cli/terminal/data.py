"""Data in the terminal: an upload as it was read, a dataset with its findings, a list of datasets."""

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

SEVERITIES = {"blocks": "Blocks", "warns": "Warning", "notes": "Note"}
SHOWN_LABELS = 12
SHOWN_EXAMPLES = 3


def upload_line(upload: dict[str, Any]) -> str:
    """`reviews.csv: 120 rows, 2 columns (review, stars); CSV, utf-8.` and the reason of the guess."""
    scan = upload["scan"]
    columns = ", ".join(column["name"] for column in scan["columns"][:SHOWN_LABELS])
    more = ", …" if len(scan["columns"]) > SHOWN_LABELS else ""
    how = ", ".join(part for part in (scan["kind"].upper(), scan["encoding"]) if part)
    rows, count = _counted(scan["rows"], "row"), _counted(len(scan["columns"]), "column")
    return f"{upload['name']}: {rows}, {count} ({columns}{more}); {how}. {scan['reason']}"


def lines(version: dict[str, Any]) -> Iterator[str]:
    """A version of a dataset with its splits, labels and findings."""
    facts = version["facts"]
    yield f"{version['reference']} is {version['status']}{': ' + version['message'] if version['message'] else '.'}"
    if facts:
        yield "  " + ", ".join(f"{rows:,} {split}" for split, rows in facts["counts"].items())
        if facts["labels"]:
            shown = ", ".join(f"{name} {facts['label_counts'][name]:,}" for name in facts["labels"][:SHOWN_LABELS])
            yield f"  labels: {shown}{', …' if len(facts['labels']) > SHOWN_LABELS else ''}"
    for finding in version["findings"]:
        yield f"{SEVERITIES[finding['severity']]}: {' '.join(filter(None, (finding['message'], finding['remedy'])))}"
        for example in finding["examples"][:SHOWN_EXAMPLES]:
            yield f"  {_place(example)}{example['excerpt']}"
    if facts:
        yield f"Use it in a spec as  dataset: {version['reference']}"


def table(versions: list[dict[str, Any]]) -> Table:
    """One row per version."""
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for head in ("Dataset", "State", "Format"):
        drawn.add_column(head)
    for head in ("Train", "Validation", "Test"):
        drawn.add_column(head, justify="right")
    for row in versions:
        facts = row["facts"]
        counts = [f"{facts['counts'].get(split, 0):,}" for split in ("train", "validation", "test")] if facts else []
        drawn.add_row(escape(row["reference"]), row["status"], facts["format"] if facts else "", *counts)
    return drawn


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _place(example: dict[str, Any]) -> str:
    where = [example["file"], f"row {example['row']}" if example["row"] is not None else "", example["split"] or ""]
    return f"{', '.join(part for part in where if part)}: " if any(where) else ""
