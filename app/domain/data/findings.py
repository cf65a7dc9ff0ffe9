"""Findings: problems of rows that are detected before any run, with example rows.

blocks   the rows cannot be used: no dataset is made
warns    a dataset is made; read its results with this in mind
notes    worth knowing

The database stores code, numbers and names; `app.words.data.findings` makes the sentences.
"""

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.data.dataset import Split
from app.domain.data.tag_schemes import Scheme

Severity = Literal["blocks", "warns", "notes"]
FindingCode = Literal[
    "encoding",
    "control-characters",
    "formulas",
    "very-long-field",
    "duplicate-keys",
    "empty-rows",
    "broken-messages",
    "no-assistant-turn",
    "unsupported-chat",
    "unread-chat-fields",
    "not-a-number",
    "broken-words",
    "tags-mismatch",
    "broken-tags",
    "tag-scheme",
    "tags-converted",
    "broken-images",
    "skipped-files",
    "tags-are-numbers",
    "no-prompt",
    "broken-pairs",
    "equal-answers",
    "guessed-prompts",
    "contradicting-pairs",
    "shared-prompts",
    "shared-passages",
    "longer-chosen",
    "shorter-chosen",
    "duplicates",
    "contradictions",
    "leak",
    "shared-groups",
    "near-leak",
    "too-few-rows",
    "too-few-groups",
    "empty-split",
    "one-class",
    "too-many-labels",
    "label-once",
    "label-not-trained",
    "label-not-tested",
    "labels-alike",
    "imbalance",
    "stop-outside-loss",
    "empty-thought-learnt",
    "reasoning-left-out",
]
MOST_EXAMPLES = 10
LONGEST_EXCERPT = 200
"""Characters of a row that are shown."""
MOST_NAMED = 5
"""Labels, or groups of them, that a sentence names."""
DifferBy = Literal["white-space", "capital-letters", "type"]


class Example(BaseModel):
    model_config = ConfigDict(frozen=True)

    row: int | None
    """Counted as an editor shows it: the spreadsheet row of a CSV file (the header is row 1), the line of a JSONL file,
    otherwise the element, from 1."""
    file: str = ""
    """The file that contains the row, if the upload has several."""
    split: Split | None = None
    """None before the rows are split."""
    item: str = ""
    """The item's name in the dataset, if the dataset contains it."""
    excerpt: str = ""


def _absent(value: object) -> bool:
    return value is None


class Details(BaseModel):
    """Parameters of a finding's sentence beside count, column and rows; each code uses some."""

    model_config = ConfigDict(frozen=True)

    encoding: str | None = Field(default=None, exclude_if=_absent)
    limit: int | None = Field(default=None, exclude_if=_absent)
    """Maximum or minimum: characters, labels, rows, or bits in which two images' hashes differ."""
    split: Split | None = Field(default=None, exclude_if=_absent)
    of_rows: int | None = Field(default=None, exclude_if=_absent)
    """The total that `count` is a share of."""
    scheme: Scheme | None = Field(default=None, exclude_if=_absent)
    """Scheme of the tags before they were converted to IOB2."""
    groups: int | None = Field(default=None, exclude_if=_absent)
    """Groups that splits share."""
    labels: list[str] | None = Field(default=None, exclude_if=_absent, max_length=MOST_NAMED)
    """The first of those that it concerns, each its beginning, or groups; of `imbalance` the commonest and the
    rarest."""
    label_rows: list[int] | None = Field(default=None, exclude_if=_absent)
    """Rows of each of `labels`; for `skipped-files` the number of files with each ending."""
    alike: list[list[str]] | None = Field(default=None, exclude_if=_absent, max_length=MOST_NAMED)
    """Groups of labels that look alike, in quotation marks, with white space that can be seen."""
    differ_by: DifferBy | None = Field(default=None, exclude_if=_absent)
    held_out_rows: int | None = Field(default=None, exclude_if=_absent)
    """Sampled rows of test and validation, if not all were compared."""
    train_rows: int | None = Field(default=None, exclude_if=_absent)
    """Rows of train that they were compared with."""
    shared: float | None = Field(default=None, exclude_if=_absent)
    """Minimum similarity of two texts or images, 0 to 1."""


class Finding(BaseModel):
    model_config = ConfigDict(frozen=True)

    code: FindingCode
    severity: Severity
    count: int
    """Affected rows, or affected labels."""
    message: str = ""
    """A sentence; empty in the database."""
    remedy: str = ""
    """What to do; empty in the database."""
    column: str = ""
    """The affected column of the source, if any."""
    details: Details = Details()
    examples: list[Example] = Field(default_factory=list, max_length=MOST_EXAMPLES)


def gravest_first(findings: Iterable[Finding]) -> list[Finding]:
    """Blocking ones first, then warnings and notes."""
    order: tuple[Severity, ...] = ("blocks", "warns", "notes")
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def excerpt(text: str) -> str:
    """The beginning of a text on one line, with escapes for unprintable characters."""
    shown = "".join(map(_shown, text[:LONGEST_EXCERPT]))
    return shown + ("…" if len(text) > LONGEST_EXCERPT else "")


def _shown(sign: str) -> str:
    if sign.isprintable():
        return sign
    return " " if sign.isspace() else f"\\x{ord(sign):02x}"
