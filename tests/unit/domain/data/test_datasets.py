"""Splits that are the same everywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.data.dataset import DatasetFacts, LabelledRow, QueryRow, Tally, TextRow, split_by_hash
from app.domain.studies.plan import cluster_sizes
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
