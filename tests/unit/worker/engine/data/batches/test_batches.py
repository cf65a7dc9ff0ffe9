"""Batches: their order, padding and copies to the device."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.domain.data.dataset import LabelledRow, TextRow
from app.domain.failures import FailureCode, RunFailed
from app.domain.methods import HeadOnlySpec
from app.domain.runs.training import TrainingArguments
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.data.batches.batches import (
    Batch,
    Examples,
    Texts,
    check_length,
    learnt,
    padded,
    read,
    training_order,
)
from worker.engine.data.batches.order import Order, evaluation_order, heaviest_to_generate
from worker.engine.models.load import load
from worker.engine.tasks import sequence_classification

LENGTHS = [3 + (i * 37) % 50 for i in range(500)]


def test_an_epoch_sees_every_row_once_in_an_order_of_seed_and_epoch() -> None:
    order = training_order(LENGTHS, 16, seed=0, epoch=0)
    assert sorted(i for batch in order for i in batch) == list(range(500))
    assert sorted(map(len, order)) == [4] + [16] * 31
    assert training_order(LENGTHS, 16, 0, 0) == training_order(LENGTHS, 16, 0, 0)
    assert training_order(LENGTHS, 16, 0, 0) != training_order(LENGTHS, 16, 1, 0)
    assert training_order(LENGTHS, 16, 0, 0) != training_order(LENGTHS, 16, 0, 1)


@pytest.mark.parametrize("times", [1, 20], ids=["few", "many"])
def test_batches_hold_texts_of_like_length_in_random_order(times: int) -> None:
    lengths = LENGTHS * times
    order = training_order(lengths, 16, 0, 0)
    padded = sum(len(b) * max(lengths[i] for i in b) for b in order)
    assert padded < 1.3 * sum(lengths)  # unsorted, it is 1.8 times as much
    longest = [max(lengths[i] for i in b) for b in order]
    assert longest != sorted(longest)


@pytest.mark.parametrize("rows", [160, 1600])
def test_a_batch_spans_more_lengths_than_it_would_in_a_sorted_epoch(rows: int) -> None:
    """If length predicts the label, batches of one length have few labels."""
    lengths = list(range(rows))
    spans = [max(batch) - min(batch) for batch in training_order(lengths, 16, 0, 0)]
    assert sum(spans) / len(spans) > rows / 8  # sorted as a whole it would be 15


def test_evaluation_begins_with_the_longest_and_long_rows_pad_no_short_ones() -> None:
    order = evaluation_order(LENGTHS, 64)
    assert LENGTHS[order[0][0]] == max(LENGTHS)
    assert sorted(i for batch in order for i in batch) == list(range(500))
    assert max(map(len, order)) == 64
    order = evaluation_order([30, 900, 40, 50, 1000, 20], 4)
    assert order == [[4, 1], [3, 2, 0], [5]]
    assert heaviest_to_generate(order) == {0, 1}


def encode(directory: Path, base: Path, table: list[LabelledRow]) -> Texts:
    loaded = load(str(base), "", "sequence-classification", tiny.LABELS, 0)
    training = tiny.FAST.model_copy(update={"max_length": 6})
    job = tiny.job(directory / "job", base, HeadOnlySpec(), training, tiny.rows())
    return sequence_classification.encode(table, "train", loaded.processor, loaded.model, job, tiny.Recorder())


def row(**changes: object) -> LabelledRow:
    return LabelledRow("x", "train", "cat", 0)._replace(**changes)


def test_a_batch_is_padded_to_its_longest_row_on_either_side(base: Path, tmp_path: Path) -> None:
    examples = encode(tmp_path, base, [row(), row(text="the red owl in blue", label=1)])
    batch = sequence_classification.collate(examples, [0, 1], 0)
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    assert ids.shape == (2, 6), "cut to max_length, special tokens included"
    assert mask.sum(1).tolist() == [3, 6]
    assert (ids[0, 3:] == 0).all()
    assert batch.tokens == 9
    assert batch.labels.tolist() == [0, 1]
    assert examples.units([0, 1]) == 2
    sequences = [np.array([1]), np.array([2, 3])]
    assert [t.tolist() for t in padded(sequences, 9)] == [[[1, 9], [2, 3]], [[1, 0], [1, 1]]]
    assert [t.tolist() for t in padded(sequences, 9, left=True)] == [[[9, 1], [2, 3]], [[0, 1], [1, 1]]]


@pytest.mark.parametrize(("label", "words"), [(3, "has label 3.*from 0 to 2"), (-1, "label -1"), (None, "label None")])
def test_a_label_that_there_is_not_is_refused(base: Path, tmp_path: Path, label: int | None, words: str) -> None:
    with pytest.raises(RunFailed, match=f"Row x of the train split.*{words}"):
        encode(tmp_path, base, [row(label=label)])


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([row(split="test")], "no rows in its train split"),
        ([row()], "no rows in its test split"),
        ([row(split="dev")], "split 'dev'"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused(tmp_path: Path, table: list[LabelledRow], words: str) -> None:
    with pytest.raises(RunFailed, match=words) as failed:
        read(str(tiny.save_rows(tmp_path / "rows.parquet", table)), "labelled")
    assert failed.value.code is FailureCode.BAD_CONFIGURATION


def test_every_format_is_read_back_as_it_was(tmp_path: Path) -> None:
    for form, rows in tiny_lm.ROWS.items():
        table = rows(2, 1, 1)
        found = read(str(tiny_lm.save_rows(tmp_path / "rows.parquet", table)), form)
        assert [row for split in found.values() for row in split] == table


@pytest.mark.parametrize("content", [None, b"", b"not parquet at all"])
def test_a_file_that_cannot_be_read_is_unavailable(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "rows.parquet"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RunFailed) as failed:
        read(str(file), "labelled")
    assert failed.value.code is FailureCode.DATASET_UNAVAILABLE
    assert str(tmp_path) not in failed.value.message


def test_texts_longer_than_the_model_reads_are_refused_beforehand(base: Path) -> None:
    loaded = load(str(base), "", "sequence-classification", tiny.LABELS, 0)
    check_length(32, 0, loaded.model, loaded.processor)
    with pytest.raises(RunFailed, match=r"max_length is 33.*at most 32 tokens\. Lower it to 32"):
        check_length(33, 0, loaded.model, loaded.processor)
    with pytest.raises(RunFailed, match=r"at most 32 tokens, of which the method uses 20\. Lower it to 12"):
        check_length(16, 20, loaded.model, loaded.processor)
    with pytest.raises(RunFailed, match="Lower num_virtual_tokens"):
        check_length(16, 40, loaded.model, loaded.processor)


@pytest.mark.parametrize(
    ("max_length", "words", "said"),
    [
        (8, 6, []),
        (8, 12, ["2 of 3 rows of the train split are longer than max_length 8 and were truncated; the longest has 14 "
                 "tokens. Raise max_length to 14."]),
        (8, 40, ["2 of 3 rows of the train split are longer than max_length 8 and were truncated; the longest has 42 "
                 "tokens. Raise max_length to 32, the most that the model reads."]),
        (32, 40, ["1 of 3 rows of the train split are longer than max_length 32 and were truncated; the longest has 42 "
                  "tokens. The model reads no more."]),
    ],
)  # fmt: skip
def test_rows_that_are_cut_are_counted_and_the_log_says_what_to_do(
    base: Path, tmp_path: Path, recorder: tiny.Recorder, max_length: int, words: int, said: list[str]
) -> None:
    loaded = load(str(base), "", "sequence-classification", tiny.LABELS, 0)
    job = tiny.job(tmp_path, base, HeadOnlySpec(), tiny.FAST.model_copy(update={"max_length": max_length}))
    lengths = [3, words, min(words, 10)]
    rows = [LabelledRow(str(i), "train", "the " * n, 0) for i, n in enumerate(lengths)]
    found = sequence_classification.encode(rows, "train", loaded.processor, loaded.model, job, recorder)
    assert recorder.logs == said
    assert list(found.lengths) == [min(n + 2, max_length) for n in lengths]


TWO_LENGTHS = [3 + (i * 37) % 50 for i in range(100)]


def order(lengths: Sequence[int] = TWO_LENGTHS, **training: object) -> Order:
    """Of rows with a target for each token."""
    rows = [TextRow(str(i), "train", "") for i in range(len(lengths))]
    examples = Examples(rows, [np.zeros(n, dtype=np.int64) for n in lengths], lengths)
    return Order(examples, TrainingArguments.model_validate({"per_device_train_batch_size": 8} | training))


def test_an_epochs_last_step_takes_the_batches_that_remain() -> None:
    steps = order(gradient_accumulation_steps=3, num_train_epochs=1).first_epoch()
    assert [len(step) for step in steps] == [3, 3, 3, 3, 1]
    assert sorted(i for step in steps for batch in step for i in batch) == list(range(100))


@pytest.mark.parametrize(
    ("training", "total", "reached"),
    [
        ({"num_train_epochs": 3}, 39, 13),
        ({"max_steps": 4}, 4, 4),
        ({"num_train_epochs": 0.5}, 7, 7),
        ({"max_steps": 20}, 20, 13),
    ],
)
def test_a_run_reaches_some_steps_of_its_first_epoch(training: dict[str, object], total: int, reached: int) -> None:
    steps = order(**training)
    assert (steps.total_steps, len(steps.first_epoch())) == (total, reached)


def test_the_heaviest_batch_is_one_that_the_run_reaches_after_its_first_step() -> None:
    for seed in range(10):
        short = order(max_steps=4, seed=seed)
        reached = short.first_epoch()
        step, batch = short.heaviest()[0]
        assert 2 <= step <= 4 and batch in reached[step - 1]
        assert short.train.weight(batch) == max(short.train.weight(b) for later in reached[1:] for b in later)
    assert order(max_steps=1).heaviest() == []


CUDA = torch.device("cuda:0")


class Watched:
    """What becomes of a batch's tensors, with a CPU in the place of the GPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pinned: list[int] = []
        self.copies: list[tuple[bool, bool]] = []
        """Of each copy to the device: whether it was from pinned memory, and without waiting."""
        self._sources: list[torch.Tensor] = []
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: self._pin(tensor))
        monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *args, **options: self._to(tensor, *args, **options))

    def _pin(self, tensor: torch.Tensor) -> torch.Tensor:
        self._sources.append(tensor.clone())
        return self._sources[-1]

    def _to(self, tensor: torch.Tensor, device: torch.device, non_blocking: bool = False) -> torch.Tensor:
        assert device == CUDA
        self.copies.append((any(tensor is source for source in self._sources), non_blocking))
        return tensor.clone()


def batch() -> Batch:
    labels = torch.tensor([[-100, 4, 5], [-100, 6, -100]])
    ids = torch.arange(6).reshape(2, 3)
    return Batch({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, labels, 6, learnt(labels))


def test_every_tensor_of_a_batch_is_copied_from_pinned_memory_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    made = batch()
    watched = Watched(monkeypatch)
    there: Any = made.to(CUDA)
    assert watched.copies == [(True, True)] * 5, "two inputs, two places and the labels"
    assert all(torch.equal(there.inputs[name], made.inputs[name]) for name in made.inputs)
    assert torch.equal(there.labels, made.labels) and torch.equal(there.targets, made.targets)


def test_on_a_cpu_nothing_is_copied() -> None:
    made = batch()
    assert made.to(torch.device("cpu")) is made
