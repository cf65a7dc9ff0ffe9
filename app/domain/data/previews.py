"""Previews: rows as a base model sees them (tokens, special tokens, tokens in the loss), and the lengths of all rows.

A preview needs the tokenizer, or the image processor, only. It is requested and stored like a resource estimate.
"""

from pydantic import BaseModel, ConfigDict, Field

from app.domain.data.dataset import Split
from app.domain.data.findings import Finding
from app.domain.resources.estimate import key_of
from app.domain.tasks import Format, Task

PREVIEW_VERSION = 2
"""Raised when a preview of the same request may differ."""
PREVIEWED_ROWS = 5
LOOKED_AT = 5000
"""Rows of a split whose length is measured; of a larger split, those with the smallest hashes."""
MOST_TOKENS = 1000
"""Tokens of a row that are shown."""
PERCENTILES = (50, 90, 95, 99, 100)


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PreviewRequest(_Value):
    """Everything that determines a preview."""

    version: int = PREVIEW_VERSION
    location: str
    revision: str = ""
    fingerprint: str = ""
    """The commit, or the hash of the files, that the location stood for."""
    hub_user: int | None = None
    """The user whose hub token opens the base model; None where it needs none."""
    task: Task
    dataset_file: str
    dataset_format: Format
    dataset_hash: str
    max_length: int = Field(ge=2, le=131072)
    completion_only_loss: bool = True

    @property
    def key(self) -> str:
        """SHA-256 over all of it."""
        return key_of(self)


class PreviewToken(_Value):
    text: str
    """Its text with the white space before it; empty for a part of a character that the next token completes."""
    special: bool = False
    learnt: bool = False
    """It is in the loss."""


class PreviewRow(_Value):
    """A row, truncated to `max_length`."""

    item: str
    split: Split
    label: int | None = None
    """Place in the dataset's labels, of labelled rows."""
    tokens: list[PreviewToken]
    """A text-to-text model's prompt and then its completion, a pair's query and then its passage; at most
    `MOST_TOKENS`."""
    length: int
    """Tokens of the whole row."""
    kept: int
    """Tokens that `max_length` keeps."""
    in_loss: int = 0
    """Kept tokens that the loss covers."""
    image: str = ""
    """What the model reads of an image, before normalization, as a `data:` address of a PNG. An image has no tokens."""
    seen_size: tuple[int, int] | None = None
    """Width and height of that, in pixels."""
    stored_size: tuple[int, int] | None = None
    """Width and height in the dataset."""


class SplitLengths(_Value):
    """Lengths of a split's rows in tokens."""

    split: Split
    rows: int
    looked_at: int
    counts: list[tuple[int, int]]
    """Lengths and their numbers of rows, in order of length. For a text-to-text model, the longer one of prompt and
    completion counts, of a pair the longer one of query and passage, since each is truncated separately."""

    def percentile(self, share: float) -> int:
        """The length that `share` percent of the rows do not exceed."""
        rank, rows = share / 100 * self.looked_at, 0
        for length, count in self.counts:
            rows += count
            if rows >= rank:
                return length
        return self.counts[-1][0] if self.counts else 0

    def cut_share(self, max_length: int) -> float:
        """Share of the rows that `max_length` truncates, 0 to 1."""
        longer = sum(count for length, count in self.counts if length > max_length)
        return longer / self.looked_at if self.looked_at else 0.0

    def bins(self, count: int = 20) -> list[tuple[int, int, int]]:
        """For a chart: from, to (excluded) and number of rows, in equal steps up to the longest."""
        longest = self.counts[-1][0] if self.counts else 0
        step = max(1, -(-(longest + 1) // count))
        bins: dict[int, int] = {}
        for length, rows in self.counts:
            bins[length // step] = bins.get(length // step, 0) + rows
        return [(place * step, (place + 1) * step, bins.get(place, 0)) for place in range(longest // step + 1)]


class Preview(_Value):
    rows: list[PreviewRow]
    lengths: list[SplitLengths]
    findings: list[Finding] = []
    """About a sample of the train rows. The database has them without sentences."""
    seconds: float
