"""Datasets: items, splits, shares of the training rows, and their baselines."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.domain.data.baselines import BASELINES, BaselineRequest, baselines_of, not_applicable
from app.domain.data.dataset import (
    SPLITS,
    DatasetFacts,
    LabelledRow,
    QueryRow,
    Tally,
    TextRow,
    item_name,
    split_by_hash,
    training_rows,
)
from app.domain.data.splitting import LEFT_OUT, TEST, TRAIN, VALIDATION, Splitting, assign, drop_duplicates, linked
from app.domain.studies.plan import cluster_sizes
from app.domain.tasks import Format, MetricName, Task
from app.samples import samples as sample


def counted(labels: list[str], rows: list[LabelledRow]) -> DatasetFacts:
    tally = Tally("labelled", labels)
    tally.add(rows)
    return tally.facts


ROWS = st.lists(st.tuples(st.text(min_size=1, max_size=20), st.sampled_from(["a", "b", "c"])), min_size=1, max_size=60)


@given(ROWS, st.randoms())
def test_splits_depend_on_the_texts_alone(rows: list[tuple[str, str]], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert split_by_hash(rows, 5, 2) == split_by_hash(shuffled, 5, 2)


@given(ROWS)
def test_no_text_stands_in_two_splits_nor_twice(rows: list[tuple[str, str]]) -> None:
    _, placed = split_by_hash(rows, 5, 2)
    assert len({row.text for row in placed}) == len(placed)
    assert sum(row.split == "train" for row in placed) == min(5, len(placed))


def test_the_sample_is_what_its_description_says() -> None:
    labels, rows = sample.headlines()
    found = counted(labels, rows)
    assert labels == ["business", "entertainment", "politics", "sports", "tech"]
    assert found.counts == {"train": 1300, "validation": 150, "test": 646}
    assert all(len(row.text) < 120 for row in rows)
    assert found.content_hash == counted(labels, rows).content_hash


def test_another_label_makes_another_hash() -> None:
    labels, rows = split_by_hash([("x", "a"), ("y", "b")], 1, 0)
    other = [row._replace(label=0) for row in rows]
    assert counted(labels, rows).content_hash != counted(labels, other).content_hash


def test_the_sizes_of_clusters_and_of_copies_are_means_over_items() -> None:
    tally = Tally("text")
    names = [
        "a" * 16,
        "a" * 16 + "-1",
        "b" * 16 + "~" + "0" * 16,
        "c" * 16 + "~" + "0" * 16,
        "c" * 16 + "-1~" + "0" * 16,
    ]
    tally.add(TextRow(name, "test", name) for name in [*names, "d" * 16])
    facts = tally.facts
    assert facts.test_clusters == 3
    assert facts.test_cluster_size == pytest.approx((2**2 + 3**2 + 1) / 6)
    assert facts.test_copies == pytest.approx((2**2 + 1 + 2**2 + 1) / 6)
    old = facts.model_dump(exclude={"test_cluster_size", "test_copies"})
    assert cluster_sizes(DatasetFacts.model_validate(old)) == (1, 1)


def test_each_distinct_query_of_the_test_split_is_one_item() -> None:
    tally = Tally("query-passage")
    asked = [("train", "a"), ("test", "a"), ("test", "b"), ("test", "a")]
    tally.add(QueryRow(str(place), split, query, "p") for place, (split, query) in enumerate(asked))  # type: ignore[arg-type]
    assert (tally.facts.counts["test"], tally.facts.test_items) == (3, 2)
    old = tally.facts.model_dump(exclude={"test_queries"})
    assert DatasetFacts.model_validate(old).test_items == 3
    labels, rows = split_by_hash([("x", "a"), ("y", "b"), ("z", "b")], 1, 0)
    assert (counted(labels, rows).test_queries, counted(labels, rows).test_items) == (None, 2)


HASHES = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=300)
SHARE = st.floats(0.0, 0.5)


def rows(hashes: list[int]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.array(hashes, dtype=np.uint64)


@settings(deadline=None)
@given(HASHES, st.randoms(), SHARE, SHARE, st.integers(0, 2**32 - 1))
def test_a_rows_split_depends_on_no_order(
    hashes: list[int], random: object, test: float, validation: float, seed: int
) -> None:
    splitting = Splitting(test=test, validation=validation, seed=seed)
    order = list(range(len(hashes)))
    random.shuffle(order)  # type: ignore[attr-defined]
    hashes = [h % 100 for h in hashes]  # some ask the same, under other labels
    labels = np.arange(len(hashes)) % 3
    found = assign(rows(hashes), labels.astype(np.int32), splitting)
    shuffled = assign(rows(hashes)[order], labels[order].astype(np.int32), splitting)
    assert (found[order] == shuffled).all()


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=200), SHARE, SHARE)
def test_equal_inputs_are_on_one_side_and_labels_trained(asks: list[int], test: float, validation: float) -> None:
    labels = (np.array(asks) % 4).astype(np.int32)
    found = assign(rows(asks), labels, Splitting(test=test, validation=validation))
    for ask in set(asks):
        assert len(set(found[rows(asks) == ask].tolist())) == 1
    assert set(labels[found == TRAIN].tolist()) == set(labels.tolist())


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 12), SHARE, SHARE)
def test_shares_hold_over_all_labels_and_nearly_within_each(n: int, kinds: int, test: float, validation: float) -> None:
    assume((1 - test - validation) * n >= kinds)  # train keeps a row of each label, at the cost of the others
    hashes = rows([(i * 0x9E3779B97F4A7C15) % 2**64 for i in range(n)])
    labels = (np.arange(n) % kinds).astype(np.int32)
    counts = np.bincount(assign(hashes, labels, Splitting(test=test, validation=validation)), minlength=3)
    assert abs(counts[TEST] - test * n) <= kinds
    assert abs(counts[VALIDATION] - validation * n) <= kinds
    if n >= 10 * kinds:
        assert abs(counts[TEST] - test * n) <= 1
    for label in range(min(n, kinds)):
        mine = assign(hashes, labels, Splitting(test=test, validation=validation))[labels == label]
        assert abs((mine == TEST).sum() - test * len(mine)) <= 1


def test_another_seed_changes_every_split_and_more_rows_change_few() -> None:
    hashes = rows(list(range(1000)))
    first, second = (assign(hashes, None, Splitting(seed=seed)) for seed in (0, 1))
    assert np.bincount(first).tolist() == np.bincount(second).tolist() == [800, 100, 100]
    assert 60 < (second[first == TEST] != TEST).sum() < 100
    before = assign(rows(list(range(1000))), None, Splitting())
    after = assign(rows(list(range(1100))), None, Splitting())[:1000]
    assert (before != after).mean() < 0.05


def test_what_the_source_lacks_is_cut_from_its_train() -> None:
    given = np.array([TRAIN] * 100 + [TEST] * 50 + [LEFT_OUT] * 10, dtype=np.int8)
    splitting = Splitting(kind="predefined", names={"train": ["a"], "test": ["b"]})
    found = assign(rows(list(range(160))), None, splitting, given)
    assert [(found == code).sum() for code in (TRAIN, VALIDATION, TEST, LEFT_OUT)] == [90, 10, 50, 10]
    assert (found[100:] == given[100:]).all()


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([LEFT_OUT, TRAIN, VALIDATION, TEST])), max_size=40))
def test_of_rows_that_are_the_same_the_one_in_test_stays(pairs: list[tuple[int, int]]) -> None:
    asks, splits = rows([ask for ask, _ in pairs]), np.array([split for _, split in pairs], dtype=np.int8)
    found = drop_duplicates(asks, splits)
    for ask in set(asks.tolist()):
        kept = found[(asks == ask) & (found != LEFT_OUT)].tolist()
        assert kept == [max(splits[asks == ask])][: int(max(splits[asks == ask]) != LEFT_OUT)]


def test_a_source_is_held_against_the_splits_that_are_named() -> None:
    wanted = Splitting(kind="predefined", names={"train": ["a", "x"], "test": ["a"]})
    paths = [problem.path for problem in wanted.problems(["a", "b"], {})]
    assert paths == ["splitting.names.train", "splitting.names.test"]
    by_column = Splitting(kind="predefined", column="part", names={"train": ["1"]}, test=0)
    assert [problem.path for problem in by_column.problems([""], {"part": ["1", "2"]})] == ["splitting.test"]
    assert [p.path for p in by_column.problems([""], {"other": []})][-1] == "splitting.column"
    assert SPLITS[TEST] == "test"


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 15)), min_size=1, max_size=200), st.integers(0, 9))
def test_what_equal_inputs_or_groups_link_is_in_one_split(pairs: list[tuple[int, int]], seed: int) -> None:
    inputs, groups = rows([ask + 100 for ask, _group in pairs]), rows([group for _ask, group in pairs])
    labels = (np.arange(len(pairs)) % 3).astype(np.int32)
    names = linked(inputs, groups)
    found = assign(inputs, labels, Splitting(seed=seed), groups=groups)
    for keys in (inputs, groups):
        for key in set(keys.tolist()) - ({0} if keys is groups else set()):
            assert len(set(found[keys == key].tolist())) == len(set(names[keys == key].tolist())) == 1
    assert set(names[groups == 0].tolist()) <= {0, *groups.tolist()}
    units = set(np.where(names == 0, inputs, names).tolist())
    assert len(set(found.tolist())) == (3 if len(units) > 2 else 1)


def test_a_long_chain_of_links_is_one_group() -> None:
    chain = np.arange(1, 100_001, dtype=np.uint64)
    assert set(linked(chain // 2, (chain + 1) // 2).tolist()) == {1}


NUMBERED = [TextRow(item_name(str(number)), "train", str(number)) for number in range(200)]
FRACTIONS = st.floats(min_value=0.001, max_value=1)


@given(FRACTIONS, FRACTIONS)
def test_a_smaller_share_is_a_subset_of_a_larger_one_in_the_same_order(one: float, other: float) -> None:
    smaller, larger = sorted([training_rows(NUMBERED, one), training_rows(NUMBERED, other)], key=len)
    assert set(smaller) <= set(larger)
    assert smaller == [row for row in NUMBERED if row in set(smaller)]


def test_a_share_is_rounded_never_empty_and_independent_of_the_order() -> None:
    assert [len(training_rows(NUMBERED, share)) for share in (1e-6, 0.1, 0.333, 1)] == [1, 20, 67, 200]
    assert training_rows(NUMBERED, 1) == NUMBERED
    assert training_rows([], 0.5) == []
    assert set(training_rows(NUMBERED[::-1], 0.25)) == set(training_rows(NUMBERED, 0.25))
    assert len(training_rows([NUMBERED[0]] * 10, 0.5)) == 5


NO_PAIRS = "the data have no prompts with completions"


def test_each_metric_of_a_verdict_has_its_baselines() -> None:
    assert baselines_of("sequence-classification", "labelled", "accuracy") == ["most-frequent", "tfidf", "embeddings"]
    assert baselines_of("image-classification", "labelled-images", "accuracy") == [
        "most-frequent",
        "pixels",
        "embeddings",
    ]
    assert baselines_of("token-classification", "tagged", "item_entity_f1") == [
        "most-frequent-tag",
        "random-tags",
        "word-tag",
    ]
    assert baselines_of("causal-lm", "prompt-completion", "exact_match") == ["most-frequent-answer", "few-shot"]
    assert baselines_of("seq2seq-lm", "prompt-completion", "rouge_l") == ["first-sentence"]
    assert baselines_of("sentence-embeddings", "query-passage", "mrr_at_10") == ["random-passage", "bm25"]
    answers = ["random-answer", "longer-answer"]
    assert baselines_of("preference", "preference", "preference_accuracy") == answers
    assert baselines_of("preference", "preference-messages", "likelihood_accuracy") == answers


@pytest.mark.parametrize(
    ("task", "rows", "metric", "reasons"),
    [
        ("causal-lm", "prompt-completion", "token_accuracy", {"few-shot": "token accuracy scores no generated text"}),
        ("causal-lm", "text", "token_accuracy", {"few-shot": NO_PAIRS}),
        ("causal-lm", "messages", "exact_match", {"most-frequent-answer": NO_PAIRS, "few-shot": NO_PAIRS}),
        ("causal-lm", "messages", "rouge_l", {"first-sentence": NO_PAIRS, "few-shot": NO_PAIRS}),
        ("seq2seq-lm", "prompt-completion", "rouge_l", {"few-shot": "only causal language models have it"}),
        ("causal-lm", "prompt-completion", "rouge_l", {}),
        ("sequence-classification", "labelled", "accuracy", {}),
        ("image-classification", "labelled-images", "accuracy", {}),
        ("sentence-embeddings", "query-passage", "recall_at_1", {}),
        ("preference", "preference", "preference_accuracy", {}),
    ],
)
def test_an_unscorable_baseline_has_reasons(
    task: Task, rows: Format, metric: MetricName, reasons: dict[str, str]
) -> None:
    assert not_applicable(task, rows, metric) == reasons
    assert not set(baselines_of(task, rows, metric)) & set(reasons)


def test_the_same_request_has_the_same_key_whatever_the_model_where_it_uses_none() -> None:
    rows = {"dataset_file": "f", "dataset_format": "labelled", "dataset_hash": "h"}
    keys = {kind: BaselineRequest.model_validate(rows | {"kind": kind}).key for kind in BASELINES}
    assert len(set(keys.values())) == len(BASELINES)
    other = BaselineRequest.model_validate(rows | {"kind": "embeddings", "location": "m", "max_length": 8})
    assert other.key != keys["embeddings"]


def test_baselines_that_were_stored_before_fields_were_added_keep_their_keys() -> None:
    rows = {"dataset_file": "f", "dataset_format": "labelled", "dataset_hash": "h", "labels": ["a", "b"]}
    tfidf = BaselineRequest.model_validate(rows | {"kind": "tfidf"})
    embeddings = BaselineRequest.model_validate(rows | {"kind": "embeddings", "location": "m", "max_length": 8})
    assert tfidf.key == "ae7d1fa0829447511658edc94af5bae98fa5cbb869e0978d7ca6bbae39337901"
    assert embeddings.key == "06dbf73d8912fe0fe413126743424b10eacf985618254a5d19b6defb50142006"
    changed = [tfidf.model_copy(update=update) for update in ({"train_fraction": 0.5}, {"max_new_tokens": 9})]
    assert len({tfidf.key, *(request.key for request in changed)}) == 3
