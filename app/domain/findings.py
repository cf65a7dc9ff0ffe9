"""Findings: what is wrong or odd with rows, found before any run, with rows to look at.

blocks   nothing can be measured with such rows: no dataset is made of them
warns    a dataset is made, and its results should be read with this in mind
notes    nothing is wrong; worth knowing
"""

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.datasets import Split

Severity = Literal["blocks", "warns", "notes"]
FindingCode = Literal[
    "encoding",
    "control-characters",
    "formulas",
    "very-long-field",
    "empty-rows",
    "broken-messages",
    "no-assistant-turn",
    "duplicates",
    "contradictions",
    "leak",
    "near-leak",
    "too-few-rows",
    "empty-split",
    "one-class",
    "too-many-labels",
    "label-once",
    "label-not-trained",
    "label-not-tested",
    "labels-alike",
    "imbalance",
]
MOST_EXAMPLES = 10
LONGEST_EXCERPT = 200
"""Characters of a row that are shown."""


class Example(BaseModel):
    """A row to look at."""

    model_config = ConfigDict(frozen=True)

    row: int | None
    """As whoever opens the file counts: of a CSV file as a spreadsheet does, the header being row 1; of JSONL the line;
    else the element, from 1."""
    file: str = ""
    """Of several, the one that it stands in."""
    split: Split | None = None
    """None where rows have no split yet."""
    item: str = ""
    """Its name in the dataset, if it is in it."""
    excerpt: str = ""


class Finding(BaseModel):
    """One thing that was found."""

    model_config = ConfigDict(frozen=True)

    code: FindingCode
    severity: Severity
    count: int
    """Rows that it concerns, or labels, if it concerns labels."""
    message: str
    """What was found: a sentence."""
    remedy: str = ""
    """What to do: a sentence."""
    column: str = ""
    """Of the source, if it concerns one."""
    examples: list[Example] = Field(default_factory=list, max_length=MOST_EXAMPLES)


def gravest_first(findings: Iterable[Finding]) -> list[Finding]:
    """In the order in which they matter."""
    order: tuple[Severity, ...] = ("blocks", "warns", "notes")
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def excerpt(text: str) -> str:
    """A text's beginning on one line, with what cannot be printed as its number."""
    shown = "".join(map(_shown, text[:LONGEST_EXCERPT]))
    return shown + ("…" if len(text) > LONGEST_EXCERPT else "")


def _shown(sign: str) -> str:
    if sign.isprintable():
        return sign
    return " " if sign.isspace() else f"\\x{ord(sign):02x}"
