"""Runs' answers on single test items, read from their predictions files.

A file may be larger than the memory of a web server, so only its first rows are read, and only the probabilities of the
answer and of the true label. The files that were read last stay in memory, by SHA-256.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import IO, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from app.domain.data.tagging import in_brackets
from app.domain.data.turns import ASSISTANT, Message, as_text, last_reply, said, stored
from app.domain.errors import Invalid
from app.domain.messages import _
from app.domain.tasks import METRICS
from app.store.files.files import Files
from app.store.tables import ArtifactRow

What = TypeVar("What")

MOST_ROWS = 100_000
MOST_BYTES = 32 << 20
"""Bytes of one file in the cache."""
CACHE_BYTES = 128 << 20
TEXTS = (
    *("text", "prompt", "completion", "messages", "tools", "query", "passage"),
    *("chosen", "rejected", "chosen_more", "rejected_more"),
)
"""Inputs of the model, and expected outputs. The words of tagged rows are always read: they are part of an
answer."""
WANTED = ("completion", "passage", "chosen")
BATCH = 256
"""Rows read at once."""


@dataclass(frozen=True)
class Predictions:
    """A run's answers on the first R items of the test split, in their order.

    `table` has, as far as the task has it: `item`; `text` (of an image its item's name) and `asked`, the part of it
    before the answer; of a conversation the `turns` of that part, and its `tools`; `wanted`, the completion, passage or
    answer; `label`, an index of `labels`; `answer`, an index or a text (of words: their entities in brackets), with the
    probabilities `sure` (of the answer) and `of_label` (of the true label); every per-item metric. Columns with the
    prefix `base_` belong to the base model (before training).
    """

    table: pa.Table
    labels: tuple[str, ...]
    items_hash: str
    """SHA-256 of all items' names in order, as evaluations have it."""

    def column(self, name: str) -> NDArray[Any] | None:
        """A column of numbers, [R]; None where the file has none."""
        return self.table.column(name).to_numpy() if name in self.table.column_names else None

    def at(self, name: str, row: int) -> Any:
        """One value; None where the file has no such column."""
        return self.table.column(name)[row].as_py() if name in self.table.column_names else None


class Cache:
    """A cache of the predictions that were read last, by name, with a maximum size."""

    def __init__(self, most: int = CACHE_BYTES) -> None:
        self.most = most
        self._kept: OrderedDict[str, Predictions] = OrderedDict()
        self._lock = Lock()

    def get(self, name: str, read: Callable[[], Predictions]) -> Predictions:
        """The predictions under a name; `read` reads them if they are not cached."""
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        predictions = read()
        with self._lock:
            self._kept[name] = predictions
            while len(self._kept) > 1 and sum(p.table.nbytes for p in self._kept.values()) > self.most:
                self._kept.popitem(last=False)
        return predictions


CACHE = Cache()


def of_artifact(files: Files, artifact: ArtifactRow, *, texts: bool) -> Predictions:
    """A predictions file, with or without the inputs of the model: all runs of a study have the same inputs, so those
    of one file suffice. Raises NotFound if it is no longer in the store, Invalid if it cannot be read."""
    return CACHE.get(
        f"{artifact.sha256} {texts}", lambda: _opened(files, artifact.file, lambda file: read(file, texts=texts))
    )


def item_names(files: Files, artifact: ArtifactRow) -> list[str]:
    """The names of all items of a predictions file, in order. Raises as `of_artifact`."""
    column = _opened(files, artifact.file, lambda file: pq.read_table(file, columns=["item"]).column("item"))
    names: list[str] = column.to_pylist()
    return names


def _opened(files: Files, name: str, read_it: Callable[[IO[bytes]], What]) -> What:
    with files.open(name) as file:
        try:
            return read_it(file)
        except (OSError, KeyError, IndexError, ValueError, TypeError, pa.ArrowException) as error:
            why = " ".join(str(error).split()) or type(error).__name__
            raise Invalid(
                _("The file %(name)s is not a valid file of predictions (%(why)s).", name=name, why=why[:200])
            ) from error


def read(file: IO[bytes], *, texts: bool = True) -> Predictions:
    """The first rows of a predictions file. Raises what pyarrow raises, and KeyError for a column that is missing."""
    parquet = pq.ParquetFile(file, pre_buffer=False)  # else all that was read stays in memory
    labels = (parquet.schema_arrow.metadata or {}).get(b"labels", b"").decode()
    columns = [name for name in parquet.schema_arrow.names if texts or name not in TEXTS]
    images = not {*TEXTS, "tokens"} & {*parquet.schema_arrow.names}
    parts: list[pa.Table] = []
    rows = size = 0
    for batch in parquet.iter_batches(BATCH, columns=columns):
        part = _kept_of(batch, labels.split("\n"), images=images)
        rows, size = rows + part.num_rows, size + part.nbytes
        if parts and (rows > MOST_ROWS or size > MOST_BYTES):
            break
        parts.append(part)
    if not parts:
        raise ValueError("it has no rows")
    return Predictions(pa.concat_tables(parts), tuple(labels.split("\n")) if labels else (), _items_hash(parquet))


def _items_hash(parquet: Any) -> str:
    """The same hash as in evaluations. Names are read in batches, since there may be many."""
    digest = hashlib.sha256()
    for number, batch in enumerate(parquet.iter_batches(BATCH, columns=["item"])):
        names = "\n".join(batch.column("item").to_pylist())
        digest.update((f"\n{names}" if number else names).encode())
    return digest.hexdigest()


def _kept_of(batch: pa.RecordBatch, labels: Sequence[str], *, images: bool) -> pa.Table:
    columns = {name: batch.column(name) for name in batch.schema.names}
    kept: dict[str, Any] = {"item": columns["item"]}
    if images:
        kept["text"] = columns["item"]  # by which the dataset has the image
    elif (text := _text(columns)) is not None:
        kept["text"] = kept["asked"] = text
        if "messages" in columns:
            prompts = [_prompt(turns, columns) for turns in columns["messages"].to_pylist()]
            kept["turns"] = pa.array(prompts, columns["messages"].type)
            kept |= {"tools": columns["tools"]} if "tools" in columns else {}
            kept["asked"] = _conversations(prompts, columns)
    wanted = next((columns[name] for name in WANTED if name in columns), None)
    if wanted is not None:
        kept["wanted"] = wanted if "chosen_more" not in columns else _said(columns["chosen"], columns["chosen_more"])
    if "tags" in columns:
        kept["words"] = columns["tokens"]
        kept["wanted"] = _tagged(columns["tokens"], columns["tags"], labels)
    if "label" in columns:
        kept["label"] = columns["label"].cast(pa.int32())
    for side in ("", "base_"):
        kept |= {f"{side}{name}": columns[f"{side}{name}"] for name in METRICS if f"{side}{name}" in columns}
        if (answer := columns.get(f"{side}prediction")) is None:
            continue
        if "tags" in columns:
            kept[f"{side}answer"] = _tagged(columns["tokens"], answer, labels)
            continue
        labelled = pa.types.is_integer(answer.type)
        kept[f"{side}answer"] = answer.cast(pa.int32()) if labelled else answer
        if labelled and f"{side}scores" in columns:
            chances = _chances(columns[f"{side}scores"])
            kept[f"{side}sure"] = _of(chances, answer)
            kept[f"{side}of_label"] = _of(chances, columns["label"])
    return pa.table(kept)


def _tagged(words: Any, tags: Any, labels: Sequence[str]) -> Any:
    """Words with their entities in brackets; a word that the model did not read has no tag."""
    names = [*labels, ""]  # the last place is that of UNREAD, -1
    pairs = zip(words.to_pylist(), tags.to_pylist(), strict=True)
    return pa.array([in_brackets(row, [names[tag] for tag in own]) for row, own in pairs], pa.string())


def _said(contents: Any, more: Any) -> Any:
    """The assistant's turns as people read them."""
    pairs = zip(contents.to_pylist(), more.to_pylist(), strict=True)
    return pa.array([said(stored(ASSISTANT, *pair)) for pair in pairs], pa.string())


def _text(columns: dict[str, Any]) -> Any:
    """The input of the model: a text, words, a prompt, or a conversation with one turn per line; None if it was not
    requested."""
    if "messages" in columns:
        return _conversations(columns["messages"].to_pylist(), columns)
    if "tokens" in columns:
        return pa.array([" ".join(words) for words in columns["tokens"].to_pylist()], pa.string())
    return columns["prompt"].fill_null("") if "prompt" in columns else columns.get("text", columns.get("query"))


def _prompt(turns: list[Message], columns: dict[str, Any]) -> list[Message]:
    """The turns before the one that the model is to write: all of a preference pair's, or those before the assistant's
    last one."""
    return turns if "chosen" in columns else turns[: last_reply(turns)]


def _conversations(conversations: Sequence[Sequence[Message]], columns: dict[str, Any]) -> Any:
    """Conversations with one turn per line, and their tools in the last line."""
    tools = columns["tools"].to_pylist() if "tools" in columns else [None] * len(conversations)
    return pa.array(list(map(as_text, conversations, tools)), pa.string())


def _chances(column: Any) -> NDArray[np.float64]:
    """Each label's probability, [R, labels]."""
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1))


def _of(chances: NDArray[np.float64], labels: Any) -> NDArray[np.float32]:
    """The probability of one label per row, [R]."""
    return np.asarray(chances[np.arange(len(chances)), labels.to_numpy(zero_copy_only=False)], dtype=np.float32)
