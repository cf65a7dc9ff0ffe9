"""Datasets: registered rows with a content hash, a format and fixed splits.

format              columns beside `item` and `split`     tasks
labelled            text, label                           sequence-classification
tagged              tokens (words), tags                  token-classification
text                text                                  causal-lm
prompt-completion   prompt, completion                    causal-lm, seq2seq-lm
messages            messages: turns; tools (JSON)         causal-lm, by the tokenizer's chat template
query-passage       query, passage                        sentence-embeddings
preference          prompt, chosen, rejected              preference
preference-messages messages, chosen, rejected; tools     preference, by the tokenizer's chat template
                    chosen_more, rejected_more            the answers' fields beside their texts (JSON)
labelled-images     image (a PNG), label                  image-classification
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from app.domain.data.item_names import cluster_of, group_in, input_of
from app.domain.data.turns import ASSISTANT, ChatPart, Message, parts_of, said, stored
from app.domain.tasks import PREFERENCES, TASKS, Format, Task

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SAMPLE_DATASET = "bbc-headlines"
CHATS: tuple[Format, ...] = ("messages", "preference-messages")
"""Formats of conversations, which need a chat template."""


class LabelledRow(NamedTuple):
    """One labelled text. `item` is a hash of the row's content: the same row has the same name everywhere."""

    item: str
    split: Split
    text: str
    label: int
    """Index into the dataset's labels."""


class TaggedRow(NamedTuple):
    """A text as words, with a tag for each of them."""

    item: str
    split: Split
    tokens: list[str]
    tags: list[int]
    """Indices into the dataset's labels, one for each word."""


class TextRow(NamedTuple):
    item: str
    split: Split
    text: str


class PairRow(NamedTuple):
    item: str
    split: Split
    prompt: str
    completion: str


class ChatRow(NamedTuple):
    """A conversation; the model learns the assistant's turns."""

    item: str
    split: Split
    messages: list[Message]
    tools: str | None = None
    """The tools that the assistant may call, as JSON: a list of {type, function}."""


class QueryRow(NamedTuple):
    """A query and a passage that answers it."""

    item: str
    split: Split
    query: str
    passage: str


class PreferenceRow(NamedTuple):
    """A prompt, the better and the worse one of two answers."""

    item: str
    split: Split
    prompt: str
    chosen: str
    rejected: str

    @property
    def answers(self) -> tuple[str, str]:
        """The better and the worse answer."""
        return self.chosen, self.rejected


class PreferenceChatRow(NamedTuple):
    """A conversation, the better and the worse one of two next turns of the assistant."""

    item: str
    split: Split
    messages: list[Message]
    chosen: str
    rejected: str
    tools: str | None = None
    chosen_more: str | None = None
    """The fields of the answer's turn beside its text, as `app.domain.data.turns` has them."""
    rejected_more: str | None = None

    @property
    def turns(self) -> tuple[Message, Message]:
        """The better and the worse turn."""
        return stored(ASSISTANT, self.chosen, self.chosen_more), stored(ASSISTANT, self.rejected, self.rejected_more)

    @property
    def answers(self) -> tuple[str, str]:
        """What the turns say, for people."""
        better, worse = map(said, self.turns)
        return better, worse


class StoredImage(NamedTuple):
    """An image that is still in its dataset's file."""

    file: str
    """A local Parquet file."""
    place: int
    """Its row there, from 0."""


class ImageRow(NamedTuple):
    """One labelled image. `item` is a hash of its pixels."""

    item: str
    split: Split
    image: bytes | StoredImage
    """A PNG in RGB, 8 bits per channel, as `app.domain.data.images` limits it, or where it is."""
    label: int
    """Index into the dataset's labels."""


Row = LabelledRow | TaggedRow | TextRow | PairRow | ChatRow | QueryRow | PreferenceRow | PreferenceChatRow | ImageRow
ROWS: dict[Format, type[Row]] = {
    "labelled": LabelledRow,
    "tagged": TaggedRow,
    "text": TextRow,
    "prompt-completion": PairRow,
    "messages": ChatRow,
    "query-passage": QueryRow,
    "preference": PreferenceRow,
    "preference-messages": PreferenceChatRow,
    "labelled-images": ImageRow,
}


_R = TypeVar("_R", bound=Row)


def training_rows(rows: Sequence[_R], fraction: float) -> list[_R]:
    """A share of the training rows, at least one row, in the order of `rows`.

    Chosen by the hash of each row's name, so that a smaller fraction is a subset of a larger one, on every machine and
    for every seed.
    """
    if fraction >= 1 or not rows:
        return list(rows)
    order = sorted(range(len(rows)), key=lambda place: (_fraction_hash(rows[place].item), place))
    return [rows[place] for place in sorted(order[: fraction_of(len(rows), fraction)])]


def fraction_of(rows: int, fraction: float) -> int:
    """How many of the training rows a share of them is: at least one."""
    return max(1, round(rows * fraction))


def _fraction_hash(item: str) -> str:
    # Not the item's own hash: splits are cut in its order.
    return hashlib.sha256(f"train_fraction/{item}".encode()).hexdigest()


class PartRows(BaseModel):
    """The conversations with some part."""

    model_config = ConfigDict(frozen=True)

    count: int
    items: list[str]
    """The names of the first three."""


class DatasetFacts(BaseModel):
    """A dataset's description, stored beside its file."""

    model_config = ConfigDict(frozen=True)

    format: Format = "labelled"
    labels: list[str] = Field(default_factory=list)
    """Labels of rows, or tags of words."""
    counts: dict[Split, int]
    test_queries: int | None = None
    """Distinct queries of the test split, each of which is one item; None of other rows, and of rows that were written
    before this was counted."""
    test_clusters: int | None = None
    """Clusters of the test items; None of rows that were written before the names of items told them."""
    test_cluster_size: float | None = None
    """Σ n² / N over clusters of n of the N test items: the size of an item's cluster, on average over items. None of
    rows that were written before it was counted."""
    test_copies: float | None = None
    """The same over test items with equal inputs."""
    label_counts: dict[str, int] = Field(default_factory=dict)
    """Rows with each label, or words with each tag."""
    chat_parts: dict[ChatPart, PartRows] = Field(default_factory=dict)
    """Rows with a part that not every chat template renders; none of a dataset from before this was counted."""
    content_hash: str
    """SHA-256 over every row in order."""

    @property
    def test_items(self) -> int:
        """Items of the test split, each with a score."""
        return self.test_queries or self.counts["test"]

    @property
    def is_preference(self) -> bool:
        """Each row has a chosen and a rejected answer."""
        return self.format in PREFERENCES

    @property
    def tasks(self) -> list[Task]:
        """The tasks that can use its rows."""
        return [task.name for task in TASKS.values() if self.format in task.formats]


def items_hash(items: Sequence[str]) -> str:
    """SHA-256 of items' names in order: scores can be compared item by item only where it is the same."""
    return hashlib.sha256("\n".join(items).encode()).hexdigest()


def item_name(text: str) -> str:
    """A row's stable name: the first 16 hex digits of its text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def split_by_hash(rows: Iterable[tuple[str, str]], train: int, validation: int) -> tuple[list[str], list[LabelledRow]]:
    """Drop repeated texts, order by hash, and cut: `train` rows, `validation` rows, the rest is the test split.

    The order depends on the texts alone, so the splits are the same on every machine. A text with two labels keeps the
    first label in alphabetical order. Returns the labels (sorted) and the rows.
    """
    distinct: dict[str, str] = {}
    for text, label in sorted(rows, key=lambda r: (r[1], r[0])):
        cleaned = " ".join(text.split())
        if cleaned:
            distinct.setdefault(cleaned, label)
    labels = sorted(set(distinct.values()))
    index = {name: i for i, name in enumerate(labels)}
    ordered = sorted((item_name(text), text, index[label]) for text, label in distinct.items())
    return labels, [
        LabelledRow(item, split_at(place, train, validation), text, number)
        for place, (item, text, number) in enumerate(ordered)
    ]


def split_at(place: int, train: int, validation: int) -> Split:
    """The split of the row at a place: `train` rows, then `validation` rows, then the test split."""
    return "train" if place < train else "validation" if place < train + validation else "test"


class Tally:
    def __init__(self, form: Format, labels: Sequence[str] = ()) -> None:
        self._form, self._labels = form, list(labels)
        self._counts: dict[Split, int] = dict.fromkeys(SPLITS, 0)
        self._of_label = [0] * len(self._labels)
        self._test_queries: set[int] = set()
        self._parts: dict[ChatPart, PartRows] = {}
        self._test_clusters: Counter[int] = Counter()
        self._test_inputs: Counter[int] = Counter()
        self._digest = hashlib.sha256()

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._counts[row.split] += 1
            is_item = row.split == "test"
            if isinstance(row, LabelledRow | ImageRow):
                self._of_label[row.label] += 1
            elif isinstance(row, TaggedRow):
                for tag in row.tags:
                    self._of_label[tag] += 1
            elif isinstance(row, QueryRow) and row.split == "test":
                is_item = hash(row.query) not in self._test_queries
                self._test_queries.add(hash(row.query))
            elif isinstance(row, ChatRow | PreferenceChatRow):
                turns = [*row.messages, *(row.turns if isinstance(row, PreferenceChatRow) else ())]
                for part in dict.fromkeys(parts_of(turns, row.tools)):
                    before = self._parts.get(part, PartRows(count=0, items=[]))
                    self._parts[part] = PartRows(count=before.count + 1, items=[*before.items, row.item][:3])
            if is_item:
                self._test_clusters[hash(cluster_of(row.item))] += 1
                self._test_inputs[hash(input_of(row.item))] += 1
            self._digest.update(f"{row.split}\x1f{_content(row, self._labels)}{group_in(row.item)}\x1e".encode())

    @property
    def facts(self) -> DatasetFacts:
        """The facts of the rows so far."""
        return DatasetFacts(
            format=self._form,
            labels=self._labels,
            counts=self._counts,
            test_queries=len(self._test_queries) or None,
            test_clusters=len(self._test_clusters),
            test_cluster_size=_mean_over_items(self._test_clusters),
            test_copies=_mean_over_items(self._test_inputs),
            label_counts=dict(zip(self._labels, self._of_label, strict=True)),
            chat_parts=self._parts,
            content_hash=self._digest.hexdigest(),
        )


def _mean_over_items(sizes: Counter[int]) -> float:
    """Σ n² / N: the size of an item's cluster, on average over items."""
    return sum(n * n for n in sizes.values()) / max(1, sizes.total())


def _content(row: Row, labels: Sequence[str]) -> str:
    match row:
        case LabelledRow():
            return f"{row.text}\x1f{labels[row.label]}"
        case TaggedRow():
            return json.dumps([row.tokens, [labels[tag] for tag in row.tags]], ensure_ascii=False)
        case TextRow():
            return row.text
        case PairRow():
            return f"{row.prompt}\x1f{row.completion}"
        case ChatRow():
            return _conversation(row)
        case QueryRow():
            return f"{row.query}\x1f{row.passage}"
        case PreferenceRow():
            return f"{row.prompt}\x1f{row.chosen}\x1f{row.rejected}"
        case PreferenceChatRow():
            return _conversation(row, *(turn if "more" in turn else turn["content"] for turn in row.turns))
        case ImageRow():  # the bytes of a PNG depend on the library that wrote it
            return f"{row.item}\x1f{labels[row.label]}"


def _conversation(row: ChatRow | PreferenceChatRow, *answers: Message | str) -> str:
    """Without what a row lacks, so that a conversation of texts has the hash that it had before there was more."""
    turns = [stored(turn["role"], turn["content"], turn.get("more")) for turn in row.messages]
    told = [turns, *answers] if answers else turns
    return json.dumps([told, row.tools] if row.tools else told, ensure_ascii=False)
