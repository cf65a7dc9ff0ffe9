"""Findings: what is wrong or odd with rows, found before any run, with rows to look at.

blocks   nothing can be measured with such rows: no dataset is made of them
warns    a dataset is made, and its results should be read with this in mind
notes    nothing is wrong; worth knowing

What is stored of one is its code with numbers and names; its sentences are made where it is shown, by
`app.web.text.findings`.
"""

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.data.dataset import Split

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
MOST_NAMED = 5
"""Labels that a sentence names, or groups of them."""
DifferBy = Literal["white-space", "capital-letters"]


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


def _absent(value: object) -> bool:
    return value is None


class Details(BaseModel):
    """What a finding speaks of beside its count, its column and its rows; each code of some of these."""

    model_config = ConfigDict(frozen=True)

    encoding: str | None = Field(default=None, exclude_if=_absent)
    """By which the file was read."""
    limit: int | None = Field(default=None, exclude_if=_absent)
    """The most, or the least, that there may be: characters, labels, rows."""
    split: Split | None = Field(default=None, exclude_if=_absent)
    of_rows: int | None = Field(default=None, exclude_if=_absent)
    """Rows that those which it concerns are a share of."""
    labels: list[str] | None = Field(default=None, exclude_if=_absent, max_length=MOST_NAMED)
    """The first of those that it concerns, each its beginning; of `imbalance` the commonest and the rarest."""
    label_rows: list[int] | None = Field(default=None, exclude_if=_absent)
    """Of each of `labels`."""
    alike: list[list[str]] | None = Field(default=None, exclude_if=_absent, max_length=MOST_NAMED)
    """Groups of labels that look alike, in quotation marks, with white space that can be seen."""
    differ_by: DifferBy | None = Field(default=None, exclude_if=_absent)
    """And what tells them apart."""
    held_out_rows: int | None = Field(default=None, exclude_if=_absent)
    """Rows of test and validation that were looked at, of more than that."""
    train_rows: int | None = Field(default=None, exclude_if=_absent)
    """Rows of train that they were held against."""
    shared: float | None = Field(default=None, exclude_if=_absent)
    """How much of two texts is the same at least, 0 to 1."""


class Finding(BaseModel):
    """One thing that was found."""

    model_config = ConfigDict(frozen=True)

    code: FindingCode
    severity: Severity
    count: int
    """Rows that it concerns, or labels, if it concerns labels."""
    message: str = ""
    """What was found: a sentence. Empty until it is shown; of what was stored before `details` were, the sentence."""
    remedy: str = ""
    """What to do: a sentence, as `message`."""
    column: str = ""
    """Of the source, if it concerns one."""
    details: Details = Details()
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
