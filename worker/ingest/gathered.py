"""All rows of an upload between its two passes: numbers in memory (some 30 bytes a row), texts in a file beside.

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
from typing import Any, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from app.domain.data.dataset import ROWS
from app.domain.data.splitting import Codes, Hashes
from app.domain.tasks import Format
from app.store.rows_file import column_type
from worker.ingest.readers.batches import Unreadable
from worker.ingest.rows import Draft

_N = TypeVar("_N", bound=np.generic)
_MOST_CODES = 100_000
"""Far more labels than any dataset may have; they are held in memory until that is known."""
_SHOWN: dict[Format, str] = {
    "labelled": "text",
    "text": "text",
    "prompt-completion": "prompt",
    "messages": "messages",
}
"""What a row says first."""


class Gathered:
    """Takes drafts, a batch at a time; then answers questions about all of them. `with Gathered(path, form)`."""

    def __init__(self, path: Path, form: Format) -> None:
        self._path, self._form = path, form
        self._asks, self._same = array("Q"), array("Q")
        self._labels, self._given = array("i"), array("b")
        self._files, self._numbers = array("h"), array("q")
        self._codes: dict[str, int] = {}
        self._starts = [0]
        self._schema = pa.schema([(name, column_type(name)) for name in ROWS[form]._fields[2:]])
        self._writer = pq.ParquetWriter(path, self._schema)

    def add(self, drafts: Sequence[Draft], numbers: Sequence[int], file: int, given: Sequence[int]) -> None:
        """More rows: where each stands, and which split the source says (a place in `SPLITS`, or LEFT_OUT)."""
        if not drafts:
            return
        for draft in drafts:
            asks = hashlib.sha256(_plain(draft.asks))
            self._asks.append(int.from_bytes(asks.digest()[:8], "big"))
            asks.update(b"\x1f" + _plain(draft.answers))
            self._same.append(int.from_bytes(asks.digest()[:8], "big"))
            self._labels.append(self._codes.setdefault(draft.answers, len(self._codes)) if self._labelled else 0)
        if len(self._codes) > _MOST_CODES:
            raise Unreadable(
                f"There are more than {_MOST_CODES:,} different labels by row {numbers[-1]:,}: is it the right column?"
            )
        self._numbers.extend(numbers)
        self._given.extend(given)
        self._files.extend([file] * len(drafts))
        self._starts.append(self._starts[-1] + len(drafts))
        columns = [list(values) for values in zip(*(draft.columns for draft in drafts), strict=True)]
        if self._labelled:
            columns[1] = self._labels[-len(drafts) :].tolist()
        self._writer.write_table(pa.table(dict(zip(self._schema.names, columns, strict=True)), schema=self._schema))

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
        """Of the rows."""
        return self._form

    @property
    def asks(self) -> Hashes:
        """[n] a hash of what each row asks."""
        return _view(self._asks, np.uint64)

    @property
    def same(self) -> Hashes:
        """[n] a hash of the whole row."""
        return _view(self._same, np.uint64)

    @cached_property
    def again(self) -> NDArray[np.int64]:
        """Places of the rows that ask what another asks; most rows are not among them. Once all are gathered."""
        ordered = np.sort(self.asks)
        twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        del ordered  # millions of numbers
        if not len(twice):
            return np.empty(0, dtype=np.int64)
        at = np.minimum(np.searchsorted(twice, self.asks), len(twice) - 1)
        return np.flatnonzero(twice[at] == self.asks)

    @property
    def given(self) -> Codes:
        """[n] the source's splits."""
        return _view(self._given, np.int8)

    @property
    def names(self) -> list[str]:
        """Of the labels, in order."""
        return in_order(self._codes)

    @property
    def labels(self) -> NDArray[np.int32] | None:
        """[n] places in `names`; None of rows that have no label."""
        if not self._labelled:
            return None
        return self._ranks[_view(self._labels, np.int32)]

    def where(self, place: int) -> tuple[int, int]:
        """Of a row: its file, and its number in it."""
        return self._files[place], self._numbers[place]

    def texts(self, places: NDArray[np.int64], characters: int) -> Iterator[tuple[int, str]]:
        """What some rows say, cut; `places` in order. A row group is read at a time."""
        column = _SHOWN[self._form]
        with pq.ParquetFile(self._path) as file:
            groups = np.searchsorted(self._starts, places, side="right") - 1
            for group in np.unique(groups).tolist():
                values = file.read_row_group(group, columns=[column]).column(column)
                for place in places[groups == group].tolist():
                    yield place, _text(values[place - self._starts[group]].as_py())[:characters]

    def batches(self) -> Iterator[tuple[int, list[tuple[Any, ...]]]]:
        """The place of the first row, and rows as their format has them, without item and split."""
        ranks = self._ranks.tolist()
        with pq.ParquetFile(self._path) as file:
            for group, start in enumerate(self._starts[:-1]):
                columns = [column.to_pylist() for column in file.read_row_group(group).columns]
                if self._labelled:
                    columns[1] = [ranks[code] for code in columns[1]]
                yield start, list(zip(*columns, strict=True))

    @property
    def _labelled(self) -> bool:
        return self._form == "labelled"

    @property
    def _ranks(self) -> NDArray[np.int32]:
        """From the order in which labels came to their order."""
        rank = {name: place for place, name in enumerate(self.names)}
        return np.array([rank[name] for name in self._codes], dtype=np.int32)


def in_order(names: Iterable[str]) -> list[str]:
    """Names of labels: as numbers where all are, else by letters. Of the same names always the same order."""
    found = sorted(names)
    return sorted(found, key=int) if all(map(_is_integer, found)) else found


def _view(values: "array[int]", kind: type[_N]) -> NDArray[_N]:
    """Without a copy; no more may be added then."""
    return np.frombuffer(values, dtype=kind) if len(values) else np.empty(0, dtype=kind)


def _plain(text: str) -> bytes:
    """Rows that differ in white space only are the same."""
    return " ".join(text.split()).encode()


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,18}", text) is not None


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(f"{turn['role']}: {turn['content']}" for turn in value)
    return str(value)
