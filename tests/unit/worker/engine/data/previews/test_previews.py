"""Rows as a model sees them, with real tokenizers: what is shown is what training reads."""

from base64 import b64decode
from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from app.domain.data.dataset import (
    LabelledRow,
    PairRow,
    QueryRow,
    Row,
    TaggedRow,
    TextRow,
    item_name,
)
from app.domain.data.previews import LOOKED_AT, Preview, PreviewRequest, SplitLengths
from app.domain.tasks import Format, Task
from app.store.files.rows_file import RowsFile
from tests.support.tiny import images as tiny_images
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.data.images import opened, resized
from worker.engine.data.previews.previews import pieces, preview


def shown(
    folder: Path, rows: Sequence[Row], form: Format, task: Task, model: Path, max_length: int = 16, **more: bool
) -> Preview:
    file = folder / "rows.parquet"
    with RowsFile(file, form, ["a", "b", "c"] if form in ("labelled", "tagged", "labelled-images") else []) as written:
        written.write(rows)
    request = PreviewRequest(
        location=str(model),
        task=task,
        dataset_file="x",
        dataset_format=form,
        dataset_hash="y",
        max_length=max_length,
        **more,
    )
    return preview(request, file)


def texts(found: Preview) -> list[str]:
    return ["".join(token.text for token in row.tokens) for row in found.rows]


def test_a_classifiers_rows_have_special_tokens_and_lengths_before_they_are_cut(tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "model")
    rows = [LabelledRow(item_name(str(i)), "train", "the cat " * (i + 1), i % 2) for i in range(8)]
    found = shown(tmp_path, rows, "labelled", "sequence-classification", model)
    assert len(found.rows) == 5
    row = next(row for row in found.rows if row.length <= 16)
    assert [token.special for token in row.tokens] == [True, *[False] * (row.length - 2), True]
    assert not any(token.learnt for token in row.tokens)
    assert row.label in (0, 1)
    train = found.lengths[0]
    assert train.counts == [(2 * (i + 1) + 2, 1) for i in range(8)]
    assert (train.percentile(50), train.percentile(100), train.cut_share(16)) == (10, 18, 1 / 8)
    long = [row for row in found.rows if row.length > 16]
    assert all(row.kept == 16 for row in long)


def test_the_first_token_of_each_word_is_learnt(tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "model")
    rows = [TaggedRow(item_name(str(i)), "train", ["cat", "dog-cat", *["the"] * i], [0] * (i + 2)) for i in range(4)]
    found = shown(tmp_path, rows, "tagged", "token-classification", model, 8)
    row = next(row for row in found.rows if row.item == item_name("0"))
    assert [(token.text.strip(), token.learnt) for token in row.tokens] == [
        ("[CLS]", False), ("cat", True), ("dog", True), ("[UNK]", False), ("cat", False), ("[SEP]", False),
    ]  # fmt: skip
    assert max(row.length for row in found.rows) == 9 and max(row.kept for row in found.rows) == 8


def test_of_a_text_to_text_model_prompt_and_completion_are_cut_each_by_itself(tmp_path: Path) -> None:
    model = tiny_lm.save_model(tmp_path / "model", "t5")
    rows = [PairRow("0" * 16, "train", "count from one and two and three", "one and")]
    found = shown(tmp_path, rows, "prompt-completion", "seq2seq-lm", model, 5)
    [row] = found.rows
    assert "".join(token.text for token in row.tokens if token.learnt).split() == ["one", "and", "</s>"]
    assert (row.length, row.kept) == (11, 8)
    assert found.lengths[0].counts == [(8, 1)]


def test_of_a_pair_the_query_stands_before_the_passage_and_each_is_cut_by_itself(tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "model")
    rows = [QueryRow("0" * 16, "train", "the cat", "the cat the cat the cat the cat")]
    found = shown(tmp_path, rows, "query-passage", "sentence-embeddings", model, 5)
    [row] = found.rows
    assert [token.special for token in row.tokens] == [True, False, False, True, True, False, False, False, True]
    assert (row.length, row.kept, found.lengths[0].counts) == (14, 9, [(10, 1)])
    assert not any(token.learnt for token in row.tokens)


def test_plain_texts_are_learnt_after_their_first_token_and_a_split_without_rows_has_no_length(tmp_path: Path) -> None:
    model = tiny_lm.save_model(tmp_path / "model", "gpt2")
    found = shown(tmp_path, [TextRow("0" * 16, "train", "a text")], "text", "causal-lm", model)
    assert [token.learnt for token in found.rows[0].tokens] == [False, True, True, True]
    assert found.rows[0].in_loss == 3
    assert [(one.split, one.rows) for one in found.lengths] == [("train", 1), ("validation", 0), ("test", 0)]
    assert found.lengths[2].percentile(50) == 0
    assert found.lengths[2].bins() == [(0, 1, 0)]


def test_lengths_are_told_of_some_rows_by_name_and_of_how_many(tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "model")
    rows = [LabelledRow(item_name(str(i)), "test", "the cat", 0) for i in range(LOOKED_AT + 10)]
    found = shown(tmp_path, rows, "labelled", "sequence-classification", model)
    assert (found.lengths[2].rows, found.lengths[2].looked_at) == (LOOKED_AT + 10, LOOKED_AT)


def test_a_letter_of_several_tokens_stands_with_the_last() -> None:
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({sign: place for place, sign in enumerate(bytes_)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    text = "naïve 👩‍🔬 größer"
    ids = backend.encode(text).ids
    found = pieces(PreTrainedTokenizerFast(tokenizer_object=backend), ids)
    assert len(found) == len(ids) == len(text.encode())
    assert "".join(found) == text
    assert found[:4] == ["n", "a", "", "ï"]


@pytest.mark.parametrize("count", [1, 7, 20])
def test_bins_hold_every_row(count: int) -> None:
    lengths = SplitLengths(split="train", rows=6, looked_at=6, counts=[(1, 1), (5, 2), (39, 3)])
    bins = lengths.bins(count)
    assert sum(rows for _, _, rows in bins) == 6
    assert len(bins) <= count
    assert all(here[1] == there[0] for here, there in pairwise(bins))


def test_images_are_shown_as_the_image_processor_makes_them(tmp_path: Path) -> None:
    model = tiny_images.save_model(tmp_path / "model")
    rows = tiny_images.rows(8, 1, 1)
    found = shown(tmp_path, rows, "labelled-images", "image-classification", model)
    first = sorted(rows[:8], key=lambda row: row.item)[:5]
    assert [(row.item, row.label) for row in found.rows] == [(row.item, row.label) for row in first]
    assert (found.rows[0].stored_size, found.rows[0].seen_size, found.lengths) == ((12, 10), (16, 16), [])
    seen = Image.open(BytesIO(b64decode(found.rows[0].image.removeprefix("data:image/png;base64,"))))
    [pixels] = resized(tiny_images.processor(tmp_path / "processor"), [opened(first[0].image)])
    assert np.array_equal(np.asarray(seen).transpose(2, 0, 1), pixels)
