"""Rows to batches: fair between arms, little padding, and clear words about a dataset that cannot be used."""

from pathlib import Path

import pytest

from app.domain.datasets import Row
from app.domain.errors import RunFailed
from app.domain.runs import FailureCode
from tests import tiny
from worker.engine.data import check_length, collate, evaluation_order, read, tokenize, training_order
from worker.engine.model import load

LENGTHS = [3 + (i * 37) % 50 for i in range(500)]


def test_an_epoch_sees_every_row_once() -> None:
    order = training_order(LENGTHS, 16, seed=0, epoch=0)
    assert sorted(i for batch in order for i in batch) == list(range(500))
    assert sorted(map(len, order)) == [4] + [16] * 31


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    assert training_order(LENGTHS, 16, 0, 0) == training_order(LENGTHS, 16, 0, 0)
    assert training_order(LENGTHS, 16, 0, 0) != training_order(LENGTHS, 16, 1, 0)
    assert training_order(LENGTHS, 16, 0, 0) != training_order(LENGTHS, 16, 0, 1)


def test_batches_hold_texts_of_like_length_in_random_order() -> None:
    order = training_order(LENGTHS, 16, 0, 0)
    padded = sum(len(b) * max(LENGTHS[i] for i in b) for b in order)
    assert padded < 1.1 * sum(LENGTHS)
    longest = [max(LENGTHS[i] for i in b) for b in order]
    assert longest != sorted(longest)


def test_evaluation_begins_with_the_longest() -> None:
    order = evaluation_order(LENGTHS, 64)
    assert LENGTHS[order[0][0]] == max(LENGTHS)
    assert sorted(i for batch in order for i in batch) == list(range(500))


def test_a_batch_is_padded_to_its_longest_row_and_counts_real_tokens() -> None:
    table = [Row("a", "train", "cat", 0), Row("b", "train", "the red owl in blue", 1)]
    examples = tokenize(table, tiny.tokenizer(), 6, lambda: None)
    batch = collate(examples, [0, 1], pad_token=0)
    assert batch.input_ids.shape == (2, 6), "cut to max_length, special tokens included"
    assert batch.attention_mask.sum(1).tolist() == [3, 6]
    assert (batch.input_ids[0, 3:] == 0).all()
    assert batch.tokens == 9
    assert batch.labels.tolist() == [0, 1]


def _row(**changes: object) -> Row:
    return Row("x", "train", "cat", 0)._replace(**changes)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([_row(split="test")], "no row in its train split"),
        ([_row()], "no row in its test split"),
        ([_row(label=3)], "Row x of the dataset has label 3.*from 0 to 2"),
        ([_row(label=-1)], "label -1"),
        ([_row(split="dev")], "split 'dev'"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused(tmp_path: Path, table: list[Row], words: str) -> None:
    with pytest.raises(RunFailed, match=words) as failed:
        read(str(tiny.save_rows(tmp_path / "rows.parquet", table)), labels=3)
    assert failed.value.code is FailureCode.BAD_CONFIGURATION


@pytest.mark.parametrize("content", [None, b"", b"not parquet at all"])
def test_a_file_that_cannot_be_read_is_unavailable(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "rows.parquet"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RunFailed) as failed:
        read(str(file), labels=3)
    assert failed.value.code is FailureCode.DATASET_UNAVAILABLE
    assert str(tmp_path) not in failed.value.message


def test_texts_longer_than_the_model_reads_are_refused_beforehand(base: Path) -> None:
    loaded = load(str(base), "", tiny.LABELS, 0)
    check_length(32, loaded.model, loaded.tokenizer)
    with pytest.raises(RunFailed, match=r"max_length is 33.*at most 32 tokens"):
        check_length(33, loaded.model, loaded.tokenizer)
