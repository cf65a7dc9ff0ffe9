"""All rows of an upload between its two passes: numbers in memory (some 30 bytes per row), texts in a file.

first pass     the upload's files → drafts, hashes, labels
in between     splits and findings, from the numbers alone
second pass    drafts → the dataset's file, with splits and names
"""

import hashlib
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from app.domain.data.dataset import ROWS
from app.domain.data.images import size_of
from app.domain.data.splitting import Codes, Hashes
from app.domain.data.turns import said
from app.domain.messages import _
from app.domain.tasks import PREFERENCES, Format
from app.store.files.rows_file import column_type
from worker.ingest.readers.batches import Unreadable
from worker.ingest.rows.rows import Draft

_N = TypeVar("_N", bound=np.generic)
_MOST_CODES = 100_000
"""Limit of labels held in memory, far above that of a dataset."""
_SHOWN: dict[Format, str] = {
    "labelled": "text",
    "tagged": "tokens",
    "text": "text",
    "prompt-completion": "prompt",
    "messages": "messages",
    "query-passage": "query",
    "preference": "prompt",
    "preference-messages": "messages",
    "labelled-images": "image",
}
"""The column shown in excerpts."""
GROUP = "group"
"""A column beside those of the format, if rows are grouped."""


class Tags(NamedTuple):
    """The tags of all words, [W] each."""

    codes: NDArray[np.int32]
    """Indices into `Gathered.names`."""
    rows: NDArray[np.int64]
    """The row of each word."""


class Gathered:
    """Collects drafts in batches, then gives access to all of them. `with Gathered(path, form)`."""

    def __init__(self, path: Path, form: Format, grouped: bool = False) -> None:
        self._path, self._form = path, form
        self._asks, self._same = array("Q"), array("Q")
        self._labels, self._splits = array("i"), array("b")
        self._words = array("i")
        self._longer, self._guessed, self._unordered = array("b"), array("b"), array("Q")
        self._passages = array("Q")
        self._difference_hashes = array("Q")
        self._files, self._numbers = array("h"), array("q")
        self._groups = array("Q") if grouped else None
        self._codes: dict[str, int] = {}
        self._starts = [0]
        self._columns = ROWS[form]._fields[2:]
        names = (*self._columns, *([GROUP] if grouped else []))
        self._schema = pa.schema([(name, column_type(name)) for name in names])
        self._writer = pq.ParquetWriter(path, self._schema)

    def add(
        self,
        drafts: Sequence[Draft],
        numbers: Sequence[int],
        file: int,
        splits: Sequence[int],
        groups: Sequence[str] = (),
    ) -> None:
        """Add rows, with their numbers in the file, the source's splits (indices into `SPLITS`, or LEFT_OUT) and, where
        rows are grouped, their groups."""
        if not drafts:
            return
        for draft in drafts:
            asks = hashlib.sha256(_plain(draft.asks))
            self._asks.append(int.from_bytes(asks.digest()[:8], "big"))
            asks.update(b"\x1f" + _plain(draft.answers))
            self._same.append(int.from_bytes(asks.digest()[:8], "big"))
            answers = draft.columns[1] if self._tagged else [draft.answers] if self._labelled else []
            self._labels.extend(self._codes.setdefault(answer, len(self._codes)) for answer in answers)
            self._words.append(len(answers))
            if self._form in PREFERENCES:
                self._add_pair(draft)
            elif self._form == "query-passage":
                self._passages.append(_hash(_plain(draft.answers)))
            if draft.difference_hash is not None:
                self._difference_hashes.extend(divmod(draft.difference_hash, 1 << 64))
        if len(self._codes) > _MOST_CODES:
            text = _(
                "There are more than %(limit)s different labels up to row %(row)s. Choose another label column.",
                limit=f"{_MOST_CODES:,}",
                row=f"{numbers[-1]:,}",
            )
            raise Unreadable(text)
        self._numbers.extend(numbers)
        self._splits.extend(splits)
        self._files.extend([file] * len(drafts))
        self._starts.append(self._starts[-1] + len(drafts))
        columns = [list(values) for values in zip(*(draft.columns for draft in drafts), strict=True)]
        if self._labelled:
            columns[1] = [self._codes[label] for label in columns[1]]
        elif self._tagged:
            columns[1] = [[self._codes[tag] for tag in tags] for tags in columns[1]]
        if self._groups is not None:
            columns.append(list(groups))
            self._groups.extend(_hash(_plain(group)) if group.strip() else 0 for group in groups)
        self._writer.write_table(pa.table(dict(zip(self._schema.names, columns, strict=True)), schema=self._schema))

    def _add_pair(self, draft: Draft) -> None:
        row_type: Any = ROWS[self._form]
        answers: tuple[str, str] = row_type("", "train", *draft.columns).answers
        chosen, rejected = map(len, answers)
        self._longer.append((chosen > rejected) - (chosen < rejected))
        self._guessed.append(draft.guessed)
        texts = b"\x1f".join([_plain(draft.asks), *sorted(map(_plain, answers))])
        self._unordered.append(_hash(texts))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def form(self) -> Format:
        return self._form

    @property
    def asks(self) -> Hashes:
        """[n] a hash of each row's input."""
        return _view(self._asks, np.uint64)

    @property
    def same(self) -> Hashes:
        """[n] a hash of each row's input and target."""
        return _view(self._same, np.uint64)

    @property
    def groups(self) -> Hashes | None:
        """[n] a hash of each row's group, 0 without one; None if rows are not grouped."""
        return None if self._groups is None else _view(self._groups, np.uint64)

    @cached_property
    def again(self) -> NDArray[np.int64]:
        """Indices of the rows whose input occurs more than once. Only after all rows are added."""
        ordered = np.sort(self.asks)
        repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        del ordered  # millions of numbers
        if not len(repeated):
            return np.empty(0, dtype=np.int64)
        at = np.minimum(np.searchsorted(repeated, self.asks), len(repeated) - 1)
        return np.flatnonzero(repeated[at] == self.asks)

    @property
    def splits(self) -> Codes:
        """[n] the source's splits."""
        return _view(self._splits, np.int8)

    @property
    def names(self) -> list[str]:
        """Names of the labels, in order."""
        return in_order(self._codes)

    @property
    def labels(self) -> NDArray[np.int32] | None:
        """[n] indices into `names`; None for a format without labels."""
        if not self._labelled:
            return None
        return self._ranks[_view(self._labels, np.int32)]

    @property
    def tags(self) -> Tags | None:
        """The tags of words; None for a format without them."""
        if not self._tagged:
            return None
        rows = np.repeat(np.arange(len(self)), _view(self._words, np.int32))
        return Tags(self._ranks[_view(self._labels, np.int32)], rows)

    @property
    def longer(self) -> NDArray[np.int8] | None:
        """[n] of preference pairs: 1 where the chosen answer is longer, -1 where it is shorter, else 0; None for other
        formats."""
        return _view(self._longer, np.int8) if self._form in PREFERENCES else None

    @property
    def guessed(self) -> NDArray[np.bool_]:
        """[n] of preference pairs, whether the end of the prompt is a guess."""
        return _view(self._guessed, np.int8).astype(bool)

    @property
    def unordered(self) -> Hashes:
        """[n] of preference pairs, a hash of the prompt and both answers, whichever is the chosen one."""
        return _view(self._unordered, np.uint64)

    @property
    def passages(self) -> Hashes:
        """[n] of queries and passages, a hash of the passage."""
        return _view(self._passages, np.uint64)

    @property
    def difference_hashes(self) -> NDArray[np.uint64]:
        """[n, 2] of images, 128 bits each."""
        return _view(self._difference_hashes, np.uint64).reshape(-1, 2)

    def labels_of(self, kept: NDArray[np.bool_]) -> NDArray[np.int32] | None:
        """The labels, or tags, of the rows that are kept ([n]), as indices into `names`; None for a format without
        them."""
        if (tags := self.tags) is not None:
            return tags.codes[kept[tags.rows]]
        return None if self.labels is None else self.labels[kept]

    def where(self, place: int) -> tuple[int, int]:
        """The file of a row, and its number there."""
        return self._files[place], self._numbers[place]

    def texts(self, places: NDArray[np.int64], characters: int) -> Iterator[tuple[int, str]]:
        """Truncated texts of some rows (`places` in order); reads one row group at a time."""
        for place, value in self.shown(places):
            yield place, _text(value)[:characters]

    def shown(self, places: NDArray[np.int64], column: str = "") -> Iterator[tuple[int, Any]]:
        """What is shown of some rows (`places` in order): texts, words, turns or PNGs; or their values in a column."""
        column = column or _SHOWN[self._form]
        with pq.ParquetFile(self._path) as file:
            groups = np.searchsorted(self._starts, places, side="right") - 1
            for group in np.unique(groups).tolist():
                values = file.read_row_group(group, columns=[column]).column(column)
                for place in places[groups == group].tolist():
                    yield place, values[place - self._starts[group]].as_py()

    def batches(self) -> Iterator[tuple[int, list[tuple[Any, ...]]]]:
        """The index of the first row and the rows of each batch, in their format without item and split."""
        ranks = self._ranks.tolist()
        with pq.ParquetFile(self._path) as file:
            for group, start in enumerate(self._starts[:-1]):
                columns = [column.to_pylist() for column in file.read_row_group(group, columns=self._columns).columns]
                if self._labelled:
                    columns[1] = [ranks[code] for code in columns[1]]
                elif self._tagged:
                    columns[1] = [[ranks[code] for code in codes] for codes in columns[1]]
                yield start, list(zip(*columns, strict=True))

    @property
    def _labelled(self) -> bool:
        return self._form in ("labelled", "labelled-images")

    @property
    def _tagged(self) -> bool:
        return self._form == "tagged"

    @property
    def _ranks(self) -> NDArray[np.int32]:
        """Maps labels from the order in which they occurred to their sorted order."""
        rank = {name: place for place, name in enumerate(self.names)}
        return np.array([rank[name] for name in self._codes], dtype=np.int32)


def in_order(names: Iterable[str]) -> list[str]:
    """Sorted names of labels: by value if all are integers, else alphabetically. The same names give the same order."""
    ordered = sorted(names)
    return sorted(ordered, key=int) if all(map(_is_integer, ordered)) else ordered


def _view(values: "array[int]", kind: type[_N]) -> NDArray[_N]:
    """A view without a copy; the array must not grow afterwards."""
    return np.frombuffer(values, dtype=kind) if len(values) else np.empty(0, dtype=kind)


def _plain(text: str) -> bytes:
    """The text with white space normalized: rows that differ only in it count as the same."""
    return " ".join(text.split()).encode()


def _hash(text: bytes) -> int:
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,18}", text) is not None


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return "{} × {} px".format(*size_of(value))
    if isinstance(value, list):
        if all(isinstance(word, str) for word in value):
            return " ".join(value)
        return " ".join(f"{turn['role']}: {said(turn)}" for turn in value)
    return str(value)
