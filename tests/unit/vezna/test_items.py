"""Hashes of rows: the same for the same rows, whatever a tokenizer made of them."""

import pytest

from vezna.items import item_names, split_hash

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


def test_datasets_by_name_are_hashed_by_their_rows() -> None:
    datasets = pytest.importorskip("datasets")
    first, other = datasets.Dataset.from_list(ROWS[:2]), datasets.Dataset.from_list(ROWS[2:])
    assert item_names(datasets.DatasetDict({"b": other, "a": first})) == item_names(ROWS)
    with pytest.raises(ValueError, match="a mapping of no datasets"):
        item_names({"text": ["a cat"]})
