"""Baselines of texts, of images, and of a model that sees examples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.domain.data.baselines import FEW_SHOT_EXAMPLES, BaselineKind, BaselineRequest, baselines_of, not_applicable
from app.domain.data.dataset import LabelledRow, PairRow, PreferenceRow, QueryRow, Row, TaggedRow, items_hash
from app.domain.failures import RunFailed
from app.store.files.rows_file import RowsFile
from tests.support.tiny import images as tiny_images
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.baselines import baselines, few_shot, small_model
from worker.engine.baselines.baselines import FrozenFeatures, baseline, raw_pixels
from worker.engine.baselines.retrieval import Bm25

TRAIN = [
    LabelledRow(f"t{i}", "train", f"a {'good' if i % 3 else 'bad'} thing {i % 7}", int(i % 3 > 0)) for i in range(30)
]
VALIDATION = [LabelledRow(f"v{i}", "validation", f"{'good' if i % 2 else 'bad'} {i}", i % 2) for i in range(6)]
TEST = [LabelledRow(f"e{i}", "test", f"such a {'bad' if i < 3 else 'good'} day", int(i >= 3)) for i in range(9)]
ROWS = [*TRAIN, *VALIDATION, *TEST]


def request(kind: BaselineKind, **values: Any) -> BaselineRequest:
    form = "labelled" if kind in ("most-frequent", "tfidf", "embeddings") else "prompt-completion"
    known = {"dataset_file": "rows", "dataset_format": form, "dataset_hash": "h", "labels": ["bad", "good"]}
    return BaselineRequest.model_validate(known | {"kind": kind} | values)


def stored(directory: Path, rows: list[Any]) -> Path:
    directory.mkdir(exist_ok=True)
    file = directory / "rows.parquet"
    pq.write_table(pa.table({name: [getattr(row, name) for row in rows] for name in rows[0]._fields}), file)
    return file


def test_the_most_frequent_label_and_tfidf_learn_what_they_can(tmp_path: Path) -> None:
    found = baseline(request("most-frequent"), stored(tmp_path, ROWS))
    assert found.scores["accuracy"] == [0.0] * 3 + [1.0] * 6
    assert found.metrics["accuracy"] == pytest.approx(6 / 9)
    assert found.metrics["macro_f1"] == pytest.approx((0 + 12 / 15) / 2)  # 2·6 / (2·6 + 3 + 0)
    assert found.items_hash == items_hash([row.item for row in TEST])
    assert (found.trained_rows, found.train_rows) == (30, 30)
    found = baseline(request("tfidf"), stored(tmp_path, ROWS))
    assert found.metrics == {"accuracy": 1.0, "macro_f1": 1.0}
    assert found == baseline(request("tfidf"), stored(tmp_path, ROWS)).model_copy(update={"seconds": found.seconds})
    rows = [row._replace(label=0) for row in ROWS]
    assert baseline(request("most-frequent", labels=["only"]), stored(tmp_path, rows)).metrics["accuracy"] == 1.0


def test_baselines_learn_from_the_share_of_train_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = baseline(request("tfidf", train_fraction=0.5), stored(tmp_path, ROWS))
    assert (found.trained_rows, found.train_rows, len(found.scores["accuracy"])) == (15, 15, 9)
    # With validation labels turned round the best C on validation is another; the test labels have no say.
    seen: list[np.ndarray] = []
    original = baselines._labels
    monkeypatch.setattr(baselines, "_labels", lambda rows: seen.append([row.split for row in rows]) or original(rows))
    baseline(request("tfidf"), stored(tmp_path, ROWS))
    assert seen == [["train"] * 30, ["validation"] * 6, ["test"] * 9]  # test last: when all is predicted
    found = baseline(request("tfidf"), stored(tmp_path, [*TRAIN, *TEST]))
    assert found.metrics["accuracy"] == 1.0


def test_embeddings_are_those_of_the_base_model_without_padding(tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "model")
    rows = tiny.rows()
    values = {"location": str(model), "max_length": 16, "labels": tiny.LABELS}
    found = baseline(request("embeddings", **values), stored(tmp_path, rows))
    assert len(found.scores["accuracy"]) == sum(row.split == "test" for row in rows)
    assert found.metrics["accuracy"] > 0.5
    assert found.scores == baseline(request("embeddings", **values), stored(tmp_path, rows)).scores
    encode = baselines._encoder(request("embeddings", location=str(model), max_length=16))
    alone, both = encode(["one two"]), encode(["one two", "one two three four five six"])
    assert np.allclose(alone[0], both[0], atol=1e-6)
    assert not np.allclose(both[0], both[1], atol=1e-3)


def test_of_a_larger_split_a_sample_trains_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_TRAINED_ROWS", 20)
    ordered = sorted(TRAIN, key=lambda row: -row.label)  # the first 20 all have the same label
    file = stored(tmp_path, [*ordered, *VALIDATION, *TEST])
    found = baseline(request("tfidf"), file)
    assert (found.trained_rows, found.train_rows) == (20, 30)
    assert found.metrics["accuracy"] == 1.0
    assert found.scores == baseline(request("tfidf"), file).scores
    trivial = baseline(request("most-frequent"), file)
    assert (trivial.trained_rows, trivial.train_rows) == (30, 30), "counting needs no sample"


def test_a_model_too_large_is_refused_and_macro_f1_is_over_all_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = baseline(request("most-frequent", labels=["bad", "good", "never"]), stored(tmp_path, ROWS))
    assert found.metrics["macro_f1"] == pytest.approx((0 + 12 / 15 + 0) / 3)
    monkeypatch.setattr(small_model, "MOST_WEIGHT_BYTES", 1000)
    model = tiny.save_model(tmp_path / "model")
    with pytest.raises(RunFailed, match="GiB in float32, and this process has room"):
        baseline(request("embeddings", location=str(model), max_length=8), stored(tmp_path, ROWS))


PAIRS: list[Row] = [
    PairRow("t0", "train", "p", " yes"),
    PairRow("t1", "train", "p", "yes "),
    PairRow("t2", "train", "p", "no"),
    PairRow("e0", "test", "The cat sat. It purred.\n\nHeadline:", "yes"),
    PairRow("e1", "test", "One line\nand more", "the one line"),
]


def test_answers_are_the_most_frequent_or_the_first_sentence(tmp_path: Path) -> None:
    assert baseline(request("most-frequent-answer"), stored(tmp_path, PAIRS)).scores["exact_match"] == [1.0, 0.0]
    found = baseline(request("first-sentence"), stored(tmp_path, PAIRS))
    assert found.scores["rouge_l"] == [0.0, pytest.approx(2 * 2 / (2 + 3))]  # "One line" in "the one line"


QUERIES: list[Row] = [
    QueryRow("t0", "train", "a", "b"),
    QueryRow("e0", "test", "cat", "the cat sat on the cat"),
    QueryRow("e1", "test", "Dog!", "a dog and a cat and a bird"),
    QueryRow("e2", "test", "fish", "nothing of that"),
]


def test_passages_are_ranked_by_bm25_and_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: C = 3, mean length 5.67; "cat" is in 2 passages, twice in the first of length 6."""
    passages = [row.passage for row in QUERIES[1:] if isinstance(row, QueryRow)]
    found = Bm25(passages)(["the cat cat", "ünknown"])
    cat, the = np.log(1 + 1.5 / 2.5), np.log(1 + 2.5 / 1.5)
    spread = 1.2 * (0.25 + 0.75 * 6 / (17 / 3))
    assert found[0, 0] == pytest.approx((2 * cat + the) * 2 * 2.2 / (2 + spread), rel=1e-6)
    assert found[0, 2] == 0 and not found[1].any()
    ranked = baseline(request("bm25", dataset_format="query-passage"), stored(tmp_path, QUERIES))
    assert ranked.scores["recall_at_1"] == [1.0, 1.0, 0.0]
    assert ranked.scores["mrr_at_10"] == [1.0, 1.0, pytest.approx(1 / 3)], "the fish is in no passage: the worst rank"
    # Blocks of one query each: counted again for every block, 20,000 passages took 4 s a block.
    counted: list[int] = []

    class Counted(Bm25):
        def __init__(self, passages: Sequence[str]) -> None:
            counted.append(len(passages))
            super().__init__(passages)

    asked = request("bm25", dataset_format="query-passage")
    at_once = baseline(asked, stored(tmp_path, QUERIES))
    monkeypatch.setattr(baselines, "Bm25", Counted)
    monkeypatch.setattr(baselines, "MOST_SIMILARITIES", 1)
    assert baseline(asked, stored(tmp_path, QUERIES)).scores == at_once.scores
    assert counted == [3]


def test_a_random_order_is_the_same_every_time(tmp_path: Path) -> None:
    rows: list[Row] = [QueryRow(f"e{n}", "test", f"q{n}", f"p{n}") for n in range(200)]
    found = [
        baseline(request("random-passage", dataset_format="query-passage"), stored(tmp_path, [QUERIES[0], *rows]))
        for _again in range(2)
    ]
    assert found[0].scores == found[1].scores
    assert 0 < found[0].metrics["recall_at_5"] < 0.1, "5 of 200 by chance"


@pytest.mark.parametrize(
    ("kind", "rows", "part"),
    [
        ("tfidf", [row._replace(label=1) for row in ROWS], "same label"),
        ("tfidf", [row._replace(text="") for row in ROWS], "no words in common"),
        ("embeddings", ROWS, "does not exist on this worker"),
    ],
)
def test_what_cannot_be_computed_is_a_sentence(tmp_path: Path, kind: BaselineKind, rows: list[Any], part: str) -> None:
    with pytest.raises(RunFailed, match=part):
        baseline(request(kind, location=str(tmp_path / "none"), max_length=8), stored(tmp_path, rows))


TAGGED = [
    TaggedRow("a", "train", ["Ada", "saw", "Rome"], [1, 2, 0]),
    TaggedRow("b", "train", ["Rome", "saw", "me"], [1, 2, 2]),
    TaggedRow("c", "train", ["in", "Rome"], [2, 0]),
    TaggedRow("d", "test", ["Ada", "in", "Rome"], [1, 2, 0]),
    TaggedRow("e", "test", ["Bo", "in", "Rome"], [1, 2, 1]),
    TaggedRow("f", "test", ["saw", "me"], [2, 2]),
]


def tagged(kind: BaselineKind, folder: Path) -> dict[str, list[float]]:
    labels = ["B-LOC", "B-PER", "O"]
    found = baseline(request(kind, dataset_format="tagged", labels=labels), stored(folder, TAGGED))
    assert 0 <= found.metrics["entity_f1"] <= 1
    return {name: [round(score, 3) for score in scores] for name, scores in found.scores.items()}


def test_baselines_of_tags(tmp_path: Path) -> None:
    assert tagged("most-frequent-tag", tmp_path) == {"item_entity_f1": [0, 0, 1], "tag_accuracy": [0.333, 0.333, 1]}
    # Rome is twice a place, once a person; Bo was never seen.
    assert tagged("word-tag", tmp_path) == {"item_entity_f1": [1, 0, 1], "tag_accuracy": [1, 0.333, 1]}
    assert tagged("random-tags", tmp_path) == tagged("random-tags", tmp_path)


def answers(split: str, lengths: list[tuple[int, int]]) -> list[PreferenceRow]:
    return [
        PreferenceRow(f"{split}{i}", split, "say", "c" * chosen, "r" * rejected)  # type: ignore[arg-type]
        for i, (chosen, rejected) in enumerate(lengths)
    ]


@pytest.mark.parametrize(
    ("trained", "right"),
    [([(9, 1), (1, 2), (5, 3)], [1.0, 0.0]), ([(1, 9), (2, 1), (3, 5)], [0.0, 1.0])],
    ids=["longer", "shorter"],
)
def test_the_answer_length_is_a_baseline(tmp_path: Path, trained: list[tuple[int, int]], right: list[float]) -> None:
    rows = [*answers("train", trained), *answers("test", [(4, 2), (2, 4)])]
    found = baseline(request("longer-answer", dataset_format="preference"), stored(tmp_path, rows))
    assert found.scores == dict.fromkeys(
        ("preference_accuracy", "likelihood_accuracy", "mean_likelihood_accuracy"), right
    )
    assert found.items_hash == items_hash(["test0", "test1"])


def test_equally_long_answers_and_random_ones_are_right_half_of_the_time(tmp_path: Path) -> None:
    rows = [*answers("train", [(1, 2)]), *answers("test", [(3, 3)] * 400)]
    for kind in ("longer-answer", "random-answer"):
        found = baseline(request(kind, dataset_format="preference"), stored(tmp_path, rows))
        assert 0.45 < found.metrics["preference_accuracy"] < 0.55
        assert set(found.scores["preference_accuracy"]) == {0.0, 1.0}


WORDS = tiny_lm.tokenizer()
EXAMPLES = [PairRow(f"t{i}", "train", "count from one :", " one two") for i in range(6)]
EACH = 6
"""Tokens of an example: four of the prompt, two of the completion."""


def asked_with_examples(model: Path, **changes: object) -> BaselineRequest:
    values = {
        "kind": "few-shot",
        "dataset_file": "rows",
        "dataset_format": "prompt-completion",
        "dataset_hash": "h",
        "location": str(model),
        "max_length": 48,
        "max_new_tokens": 4,
    }
    return BaselineRequest.model_validate(values | changes)


@pytest.mark.parametrize(("limit", "used"), [(64, 4), (29, 4), (28, 3), (11, 1), (10, 0), (3, 0)])
def test_as_many_examples_as_fit_stand_before_the_prompt(limit: int, used: int) -> None:
    ids, found = few_shot.prompt("count from two :", EXAMPLES[:4], limit, few_shot.encoder(WORDS))
    assert found == used and len(ids) <= limit
    assert WORDS.decode(ids[-3:]) == "from two :"
    if used:
        assert len(ids) == 1 + EACH * used + 4 and ids[0] == WORDS.bos_token_id


def test_the_same_four_rows_are_drawn_and_must_fit(tmp_path: Path) -> None:
    rows = [row._replace(item=f"r{i}") for i, row in enumerate(EXAMPLES * 5)]
    assert few_shot.chosen(rows) == few_shot.chosen(rows) != rows[:4]
    assert len({row.item for row in few_shot.chosen(rows)}) == FEW_SHOT_EXAMPLES
    assert len(few_shot.chosen(EXAMPLES[:2])) == 2
    model = tiny_lm.save_model(tmp_path / "model", "llama")
    file = tiny_lm.save_rows(tmp_path / "rows.parquet", tiny_lm.pairs())
    with pytest.raises(RunFailed, match=r"No training example fits into a prompt of 4 tokens\. Raise max_length\."):
        baseline(asked_with_examples(model, max_length=4), file)


def test_a_language_model_answers_every_test_row_and_again_alike(tmp_path: Path) -> None:
    model = tiny_lm.save_model(tmp_path / "model", "llama")
    file = tiny_lm.save_rows(tmp_path / "rows.parquet", tiny_lm.pairs())
    found = baseline(asked_with_examples(model), file)
    assert len(found.scores["rouge_l"]) == 12 and set(found.scores) == {"exact_match", "rouge_l"}
    assert all(0 <= score <= 1 for score in found.scores["rouge_l"])
    assert baseline(asked_with_examples(model), file).scores == found.scores


def test_an_answer_ends_at_a_blank_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_lm.save_model(tmp_path / "model", "llama")
    monkeypatch.setattr(few_shot, "write", lambda _model, prompts, *_rest: ["\none\n\ntwo three"] * len(prompts))
    pairs = tiny_lm.pairs()
    train, test = pairs[:40], pairs[-12:]
    assert set(few_shot.few_shot_answers(asked_with_examples(model), train, test)) == {"one"}
    several = [row._replace(completion="one\n\ntwo") for row in train]
    assert set(few_shot.few_shot_answers(asked_with_examples(model), several, test)) == {"\none\n\ntwo three"}


def test_the_baselines_of_images() -> None:
    known = baselines_of("image-classification", "labelled-images", "accuracy")
    assert known == ["most-frequent", "pixels", "embeddings"]
    assert not not_applicable("image-classification", "labelled-images", "accuracy")
    assert "pixels" not in baselines_of("sequence-classification", "labelled", "accuracy")


def asked_of_images(kind: BaselineKind, model: Path) -> BaselineRequest:
    return BaselineRequest(
        kind=kind,
        dataset_file="rows",
        dataset_format="labelled-images",
        dataset_hash="h",
        labels=tiny_images.LABELS,
        location=str(model),
    )


@pytest.mark.parametrize(("kind", "accuracy"), [("most-frequent", 1 / 3), ("pixels", 1.0), ("embeddings", 1.0)])
def test_pixels_and_a_frozen_model_tell_colours(kind: BaselineKind, accuracy: float, tmp_path: Path) -> None:
    rows = tiny_images.rows()
    with RowsFile(tmp_path / "rows.parquet", "labelled-images", tiny_images.LABELS) as file:
        file.write(rows)
    found = baseline(asked_of_images(kind, tiny_images.save_model(tmp_path / "model")), tmp_path / "rows.parquet")
    assert found.metrics["accuracy"] == pytest.approx(accuracy)
    assert found.items_hash == items_hash([row.item for row in rows if row.split == "test"])


def test_features_are_of_each_image(tmp_path: Path) -> None:
    rows = tiny_images.rows(40, 0, 0)
    pixels = raw_pixels(rows)
    assert pixels.shape == (40, 3 * 16 * 16) and 0 <= pixels.min() < pixels.max() <= 1
    features = FrozenFeatures(asked_of_images("embeddings", tiny_images.save_model(tmp_path / "model")))
    hidden = features(rows)
    assert hidden.shape == (40, 32) and np.allclose(features(rows[35:36]), hidden[35:36], atol=1e-5)
