"""Items of a script's test set, and the version of a metric."""

import datetime
import math
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any

import numpy as np
import pytest

from vezna.scores.items import is_stream, item_groups, item_names, split_hash
from vezna.scores.metric_version import ARGMAX, version_of
from vezna.tracking import _facts

ROWS = [{"text": "a cat", "label": 0}, {"text": "a dog", "label": 1}, {"text": "a cat", "label": 0}]


def test_tokens_and_padding_leave_a_rows_name_alone() -> None:
    tokenized = [row | {"input_ids": [1, 2, 3], "attention_mask": [1, 1, 1]} for row in ROWS]
    padded = [row | {"input_ids": [1, 2, 3, 0], "attention_mask": [1, 1, 1, 0]} for row in ROWS]
    assert item_names(tokenized) == item_names(padded) == item_names(ROWS)
    assert item_names([{"input_ids": [1, 2]}]) != item_names([{"input_ids": [1, 3]}])


def test_another_label_or_text_is_another_item_and_equal_rows_are_told_apart() -> None:
    names = item_names(ROWS)
    assert len(set(names)) == 3
    assert names[2] == f"{names[0]}-2"
    assert item_names([ROWS[0] | {"label": 1}]) != names[:1]
    assert item_names(ROWS, ["text"]) == item_names([row | {"label": 5} for row in ROWS], ["text"])
    with pytest.raises(ValueError, match="no column 'sentence'; it has text, label"):
        item_names(ROWS, ["sentence"])


def test_a_split_has_one_hash_in_any_order() -> None:
    assert split_hash(item_names(ROWS)) == split_hash(item_names(ROWS[::-1]))
    assert split_hash(item_names(ROWS)) != split_hash(item_names(ROWS[:2]))
    assert len(split_hash(item_names(ROWS))) == 64


def test_rows_of_torch_and_of_datasets_are_hashed_by_their_values() -> None:
    torch = pytest.importorskip("torch")
    datasets = pytest.importorskip("datasets")
    as_dataset = datasets.Dataset.from_list(ROWS)
    assert item_names(as_dataset) == item_names(ROWS)
    assert item_names(as_dataset.with_format("torch")) == item_names(ROWS)
    pairs = [(torch.tensor([1.0, 2.0]), 0)]
    assert item_names(pairs) == item_names([([1.0, 2.0], 0)])
    with pytest.raises(ValueError, match="object, which cannot be hashed"):
        item_names([{"x": object()}])


def test_rows_of_messages_are_hashed_without_their_tokens_and_computed_columns() -> None:
    messages = [{"messages": [{"role": "user", "content": "a cat"}]}]
    tokenized = [messages[0] | {"input_ids": [1, 2], "labels": [-100, 2]}]
    assert item_names(tokenized) == item_names(messages)
    pair = {"prompt": "say", "chosen": "a cat", "rejected": "a dog"}
    assert item_names([pair | {"prompt_ids": [1], "ref_chosen_logps": -1.5}]) == item_names([pair])


def test_lists_of_numbers_that_are_labels_count() -> None:
    def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
        return item_names([one]) == item_names([other])

    words = {"tokens": ["Ada", "slept"], "id": "1"}
    assert not same(words | {"ner_tags": [1, 0]}, words | {"ner_tags": [0, 0]})
    steps = {"prompt": "1 + 1", "completions": ["a", "b"]}
    assert not same(steps | {"labels": [True, False]}, steps | {"labels": [False, True]})
    several = {"text": "a cat", "input_ids": [1, 2, 3]}
    assert not same(several | {"labels": [0.0, 1.0]}, several | {"labels": [1.0, 0.0]})
    assert same(several | {"labels": [-100, 2, 3], "assistant_masks": [0, 1, 1]}, {"text": "a cat"})


def test_the_names_of_several_datasets_count_and_that_of_a_single_one_does_not() -> None:
    datasets = pytest.importorskip("datasets")
    first, other = datasets.Dataset.from_list(ROWS[:2]), datasets.Dataset.from_list(ROWS[2:])
    assert item_names(datasets.DatasetDict({"a": first})) == item_names(first)
    both = datasets.DatasetDict({"b": other, "a": first})
    assert item_names(both) == item_names(datasets.DatasetDict({"a": first, "b": other}))
    assert split_hash(item_names(both)) != split_hash(item_names(datasets.DatasetDict({"a": other, "b": first})))
    with pytest.raises(ValueError, match="a mapping of no datasets"):
        item_names({"text": ["a cat"], "label": [0]})


def test_a_stream_among_several_datasets_is_not_read() -> None:
    datasets = pytest.importorskip("datasets")

    def endless() -> Iterator[dict[str, str]]:
        raise AssertionError("the stream was read")
        yield {"text": "a"}

    streams = datasets.IterableDatasetDict({"train": datasets.IterableDataset.from_generator(endless)})
    assert is_stream(streams) and is_stream(endless()) and not is_stream({"train": ROWS})
    assert "train" not in _facts(None, {"train": streams}, None)[1]["splits"]


def groups_of(rows: list[Any], **how: Any) -> list[int | None]:
    """The group of each row, by number."""
    names = item_names(rows)
    found = item_groups(rows, names, **how)
    return [int(found[name]) if name in found else None for name in names]


def test_equal_inputs_are_a_group_whatever_their_labels() -> None:
    assert groups_of([*ROWS, {"text": "a cat", "label": 1}]) == [0, None, 0, 0]
    pairs = [{"prompt": "say", "chosen": word, "rejected": "no"} for word in ("a", "b")]
    assert groups_of([*pairs, {"prompt": "do", "chosen": "a", "rejected": "no"}]) == [0, 0, None]
    assert groups_of([("a", 1), ("b", 0)]) == [None, None]
    assert groups_of([{"label": 1}, {"label": 0}]) == [None, None], "without an input rows are told apart as they are"
    numbered = [row | {"id": number} for number, row in enumerate(ROWS)]
    assert groups_of(numbered) == [None, None, None]
    assert groups_of(numbered, columns=["text", "label"]) == [0, None, 0]


def test_a_column_or_a_list_names_groups_which_equal_inputs_join() -> None:
    rows = [{"text": text, "user": user} for text, user in zip("abcadef", "uuvvw", strict=False)]
    assert groups_of(rows, group="user") == [0, 0, 0, 0, None], "u and v sent the same text"
    lone = [{"text": text} for text in "abcd"]
    assert groups_of(lone, group=["u", "u", None, ""]) == [0, 0, None, None]
    assert groups_of(lone, group=[float("nan")] * 4) == [None] * 4
    with pytest.raises(ValueError, match="no column 'user', which group names"):
        item_groups(lone, item_names(lone), group="user")
    with pytest.raises(ValueError, match="3 groups were given for 4 test items"):
        item_groups(lone, item_names(lone), group=[1, 2, 3])


def test_values_that_every_library_writes_for_missing_are_no_group() -> None:
    pandas, torch = pytest.importorskip("pandas"), pytest.importorskip("torch")
    rows = [{"text": text} for text in "abcd"]
    for missing in (pandas.NA, pandas.NaT, np.float32("nan"), torch.tensor(float("nan")), np.datetime64("NaT", "ns")):
        assert groups_of(rows, group=[missing, missing, "a", "a"]) == [None, None, 0, 0], missing
    assert groups_of(rows, group=torch.tensor([1, 1, 2, 2])) == [0, 0, 1, 1]
    assert groups_of(rows, group=pandas.Series([1, None, 1, None], dtype="Int64")) == [0, None, 0, None]
    days = [datetime.date(2020, 1, day) for day in (1, 1, 2, 3)]
    assert groups_of(rows, group=days) == [0, 0, None, None]
    one, other = uuid.uuid4(), uuid.uuid4()
    assert groups_of(rows, group=[one, other, one, other]) == [0, 1, 0, 1]


def test_a_prompt_is_the_input_only_beside_the_columns_that_trl_reads() -> None:
    pairs = [{"prompt": "Translate:", "input": word, "completion": word.upper()} for word in ("a", "b", "a")]
    assert groups_of(pairs) == [0, None, 0]
    scored = [{"prompt": "say", "completion": word, "label": True, "completions": [word]} for word in ("a", "b")]
    assert groups_of(scored) == [0, 0]


class Pictures(list[int]):
    """200 rows of 0.8 MB each, made as they are read."""

    def __getitem__(self, place: Any) -> Any:
        return {"image": bytes(800_000) + bytes([place]), "label": 1, "user": place // 2}


def test_rows_are_read_one_by_one() -> None:
    rows = Pictures(range(200))
    names = [str(place) for place in rows]
    for how in ({}, {"group": "user"}, {"group": names}):
        tracemalloc.start()
        item_groups(rows, names, **how)
        assert tracemalloc.get_traced_memory()[1] < 10e6
        tracemalloc.stop()


THRESHOLD = 0.5
TABLE = {"a": 0.5}


class Score:
    """Scores by a threshold."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def __call__(self, output: list[float]) -> list[float]:
        """Whether each value exceeds it."""
        return self.method(output)

    def method(self, output: list[float]) -> list[float]:
        """Whether each value exceeds it."""
        return [float(value > self.threshold) for value in output]


def plain(output: list[float]) -> list[float]:
    """Of nothing but its code and a module."""
    return [float(math.floor(value)) for value in output]


def above(output: list[float], threshold: float) -> list[float]:
    """By an argument."""
    return [float(value > threshold) for value in output]


def above_global(output: list[float]) -> list[float]:
    """By a global number."""
    return [float(value > THRESHOLD) for value in output]


def of_table(output: list[float]) -> list[float]:
    """By a global object."""
    return [TABLE["a"] for _value in output]


def closure(threshold: float) -> Callable[[list[float]], list[float]]:
    """By a variable of the function around it."""

    def score(output: list[float]) -> list[float]:
        return [float(value > threshold) for value in output]

    return score


def with_default(threshold: float) -> Callable[[list[float]], list[float]]:
    """By a default."""

    def score(output: list[float], threshold: float = threshold) -> list[float]:
        return [float(value > threshold) for value in output]

    return score


def decorated(threshold: float) -> Callable[[list[float]], list[float]]:
    """As a decorator makes one."""

    @wraps(plain)
    def score(output: list[float]) -> list[float]:
        return [value * threshold for value in plain(output)]

    return score


without_source: dict[str, Any] = {}
exec("def score(output): return output", without_source)


@pytest.mark.parametrize(
    "function",
    [
        Score(0.1), Score(0.1).method, partial(above, threshold=0.1), closure(0.1), decorated(0.1), of_table,
        lambda output: output, without_source["score"], len,
    ],
)  # fmt: skip
def test_what_the_code_does_not_tell_gets_no_version(function: Callable[..., Any]) -> None:
    assert version_of(function) == ""


def test_a_function_is_known_by_its_code_its_defaults_and_its_global_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert version_of(None) == ARGMAX
    assert version_of(plain).startswith("plain, SHA-256 ") and version_of(plain) == version_of(plain)
    assert version_of(with_default(0.1)) == version_of(with_default(0.1)) != version_of(with_default(0.9))
    before = version_of(above_global)
    monkeypatch.setitem(globals(), "THRESHOLD", 0.9)
    assert before and version_of(above_global) not in ("", before)
