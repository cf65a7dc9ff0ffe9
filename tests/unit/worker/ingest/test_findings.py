"""Findings in data, and groups that stay in one split."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from app.domain.comparison.statistics.clusters import Clusters
from app.domain.data.findings import Finding
from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.item_names import cluster_of
from app.domain.data.splitting import Splitting
from tests.support.ingested import by_code, prepared
from worker.engine.data.batches.batches import read
from worker.ingest.findings.near_duplicates import near
from worker.ingest.readers.batches import Unreadable

LABELLED = ColumnMapping(format="labelled", columns={"text": "text", "label": "label"})


def csv(*rows: tuple[str, str]) -> bytes:
    return b"text,label\n" + "".join(f'"{text}","{label}"\n' for text, label in rows).encode()


def usual(count: int = 30, first: int = 0) -> list[tuple[str, str]]:
    return [(f"text number {i}", "yes" if i % 2 else "no") for i in range(first, first + count)]


def rows_of(finding: Finding) -> list[int | None]:
    return [example.row for example in finding.examples]


def test_good_rows_have_nothing_but_their_small_number_against_them(tmp_path: Path) -> None:
    found = prepared(tmp_path, csv(*usual(200)))
    assert [finding.code for finding in found.findings] == ["too-few-rows"]
    assert found.findings[0].severity == "warns"


@pytest.mark.parametrize(
    ("rows", "code", "count", "details"),
    [
        (usual(1), "too-few-rows", 1, {"limit": 10}),
        ([(text, "same") for text, _ in usual(40)], "one-class", 1, {"labels": ["same"]}),
        ([(f"t {i}", f"c{i % 5000}") for i in range(10_000)], "too-many-labels", 5000, {"limit": 1000}),
        (
            [*usual(40), *((f"more {i}", "yes ") for i in range(9))],
            "labels-alike",
            2,
            {"alike": [["'yes'", "'yes '"]], "differ_by": "white-space"},
        ),
        ([("", "yes")] * 30 + usual(20), "empty-rows", 30, {}),
    ],
)
def test_what_blocks_says_why_and_nothing_is_written(
    tmp_path: Path, rows: list[tuple[str, str]], code: str, count: int, details: dict[str, object]
) -> None:
    found = prepared(tmp_path, csv(*rows), LABELLED)
    assert found.facts is None
    assert not (tmp_path / "rows.parquet").exists()
    first = found.findings[0]
    assert (first.severity, first.code, first.count) == ("blocks", code, count)
    assert first.details.model_dump() == details


def test_equal_labels_join_and_empty_rows_are_named(tmp_path: Path) -> None:
    content = csv(*usual(40), *((f"more {i}", "yes ") for i in range(9)))
    mapping = LABELLED.model_copy(update={"label_names": {"yes ": "yes", "no": "nay"}})
    found = prepared(tmp_path, content, mapping)
    assert found.facts is not None
    assert found.facts.label_counts == {"nay": 20, "yes": 29}
    rows = usual(60)
    rows[3], rows[7] = ("  ", "yes"), ("a text", "")
    found = prepared(tmp_path, csv(*rows))
    empty = [finding for finding in found.findings if finding.code == "empty-rows"]
    assert [(f.column, f.severity, rows_of(f)) for f in empty] == [("text", "warns", [5]), ("label", "warns", [9])]
    assert found.facts is not None and sum(found.facts.counts.values()) == 58


def test_repeats_stay_on_one_side_and_are_said(tmp_path: Path) -> None:
    content = csv(*usual(100), *usual(20))
    found = prepared(tmp_path, content)
    repeats = by_code(found.findings)["duplicates"]
    assert (repeats.count, repeats.severity) == (20, "warns")
    assert rows_of(repeats) == list(range(102, 112))
    assert "leak" not in by_code(found.findings)
    rows = read(str(tmp_path / "rows.parquet"), "labelled")
    texts = {split: {row.text for row in of_split} for split, of_split in rows.items()}  # type: ignore[union-attr]
    assert not texts["train"] & texts["test"] and not texts["train"] & texts["validation"]
    items = [row.item for of_split in rows.values() for row in of_split]
    assert len(set(items)) == 120
    dropped = prepared(tmp_path, content, splitting=Splitting(duplicates="drop"))
    assert dropped.facts is not None and sum(dropped.facts.counts.values()) == 100
    assert "duplicates" not in by_code(dropped.findings)


def test_rows_of_the_sources_test_split_that_are_trained_on_are_a_leak(tmp_path: Path) -> None:
    files = {"train.csv": csv(*usual(200)), "test.csv": csv(*usual(2, first=50), *usual(98, first=300))}
    found = prepared(tmp_path, files)
    leak = by_code(found.findings)["leak"]
    assert (leak.count, leak.severity) == (2, "warns")
    assert (leak.count, leak.details.of_rows, leak.details.split) == (2, 100, "test")
    assert [(e.file, e.row, e.split) for e in leak.examples] == [("test.csv", 2, "test"), ("test.csv", 3, "test")]
    many = {**files, "test.csv": csv(*usual(10, first=50), *usual(90, first=300))}
    assert prepared(tmp_path, many).facts is None
    split = Splitting(
        kind="predefined", names={"train": ["train"], "test": ["test"]}, validation=0.1, duplicates="drop"
    )
    cured = prepared(tmp_path, many, splitting=split)
    assert cured.facts is not None
    assert (cured.facts.counts["test"], sum(cured.facts.counts.values())) == (100, 290)
    assert "leak" not in by_code(cured.findings)


def test_near_duplicates_across_splits_need_more_than_equal_counts(tmp_path: Path) -> None:
    story = "the quick brown fox jumps over the lazy dog and runs through the dark forest until the night has come"
    train = csv(*usual(200), (f"{story} for good", "yes"))
    test = csv(*usual(100, first=300), (f"{story} for now", "yes"))
    found = by_code(prepared(tmp_path, {"train.csv": train, "test.csv": test}).findings)["near-leak"]
    assert (found.count, found.severity) == (1, "warns")
    assert [(e.file, e.row) for e in found.examples] == [("test.csv", 102), ("train.csv", 202)]
    one = "a b c d e f g h i j k l m n o p q r s t"
    half = "a b c d e f g h i j L M N O P Q R S T U"
    assert near([(1, one)], [(2, half)]) == []
    [pair] = near([(1, one)], [(2, f"{one} u")])
    assert (pair.held_out, pair.trained, pair.alike) == (1, 2, 18 / 19)


def test_labels_once_never_tested_never_trained_and_contradicted(tmp_path: Path) -> None:
    train = csv(*usual(200), ("alone", "once"), ("said", "yes"), ("said", "no"), *((f"r{i}", "rare") for i in range(4)))
    test = csv(*usual(100, first=300), *((f"n{i}", "new") for i in range(3)))
    split = Splitting(kind="predefined", names={"train": ["train"], "test": ["test"]})
    found = by_code(prepared(tmp_path, {"train.csv": train, "test.csv": test}, splitting=split).findings)
    assert found["label-once"].details.labels == ["once"]
    assert found["label-not-trained"].details.labels == ["new"]
    assert found["label-not-tested"].details.labels == ["rare"]
    assert found["contradictions"].count == 1
    assert rows_of(found["contradictions"]) == [203, 204]
    assert (found["imbalance"].details.label_rows or [])[0] == 151


@pytest.mark.slow
def test_a_column_of_texts_taken_for_labels_is_said_before_it_fills_the_memory(tmp_path: Path) -> None:
    rows = [(f"text {i}", f"label {i}") for i in range(100_500)]
    with pytest.raises(Unreadable, match="more than 100,000 different labels up to row 1"):
        prepared(tmp_path, csv(*rows), LABELLED)


@pytest.mark.parametrize(
    ("labels", "ordered"),
    [(["10", "9", "-1"], ["-1", "9", "10"]), (["--5", "1"], ["--5", "1"]), (["b", "10", "a"], ["10", "a", "b"])],
)
def test_labels_are_in_order_as_numbers_where_all_are(tmp_path: Path, labels: list[str], ordered: list[str]) -> None:
    rows = [(f"text {i}", labels[i % len(labels)]) for i in range(60)]
    found = prepared(tmp_path, csv(*rows), LABELLED)
    assert found.facts is not None and found.facts.labels == ordered


def test_conversations_without_an_answer_are_left_out(tmp_path: Path) -> None:
    good = '{"messages": [{"role": "user", "content": "hi %d"}, {"role": "assistant", "content": "yes"}]}\n'
    lines = [good % i for i in range(60)]
    lines[4] = '{"messages": [{"role": "user", "content": "hello?"}]}\n'
    lines[6] = '{"messages": "hello"}\n'
    lines[8] = '{"messages": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yes"}]}\n'
    found = prepared(tmp_path, {"chats.jsonl": "".join(lines).encode()})
    told = by_code(found.findings)
    assert rows_of(told["no-assistant-turn"]) == [5]
    assert rows_of(told["broken-messages"]) == [7]
    assert found.facts is not None and sum(found.facts.counts.values()) == 58


def test_queries_and_passages_become_rows_and_what_lacks_one_is_named(tmp_path: Path) -> None:
    """A query's rows are all in one split: another passage of it is no leak, and no contradiction."""
    pairs = [(f"query {n}", f"a passage about {n}, which is long enough") for n in range(60)]
    pairs[3], pairs[7] = (" ", pairs[3][1]), (pairs[7][0], "")
    pairs += [(query, "another passage of it") for query, _passage in pairs[20:40]]
    lines = ["query,passage", *(f'"{query}","{passage}"' for query, passage in pairs)]
    found = prepared(tmp_path, "\n".join(lines).encode())
    assert found.facts is not None and found.facts.format == "query-passage"
    assert sum(found.facts.counts.values()) == 78
    empty = [(f.column, rows_of(f)) for f in found.findings if f.code == "empty-rows"]
    assert sorted(empty) == [("passage", [9]), ("query", [5])]
    assert {f.code for f in found.findings} == {"empty-rows", "too-few-rows"}
    rows = read(str(tmp_path / "rows.parquet"), "query-passage")
    queries = {split: {row.query for row in of_split} for split, of_split in rows.items()}  # type: ignore[union-attr]
    assert not queries["train"] & queries["test"] and queries["test"]


def test_test_queries_of_one_passage_are_found_and_a_query_counts_once(tmp_path: Path) -> None:
    pairs = [(f"query {n}", f"passage {n // 3 if n < 30 else n}") for n in range(200)]
    pairs += [(f"query {n}", "one more") for n in range(30)]
    lines = "\n".join(["query,passage", *map(",".join, pairs)]).encode()
    found = prepared(tmp_path, lines, splitting=Splitting(test=0.5))
    rows = read(str(tmp_path / "rows.parquet"), "query-passage")["test"]
    tested = {row.query for row in rows}  # type: ignore[union-attr]
    several = {row.query for row in rows if row.passage == "one more"}  # type: ignore[union-attr]
    [shared] = [f for f in found.findings if f.code == "shared-passages"]
    assert (shared.severity, shared.count, shared.details.of_rows) == ("notes", len(several), len(tested))


MAPPING = ColumnMapping(format="labelled", columns={"text": "text", "label": "label", "group": "user"})


def grouped_csv(*rows: tuple[str, str, str]) -> bytes:
    return ("text,label,user\n" + "".join(",".join(row) + "\n" for row in rows)).encode()


def messages(users: int, each: int = 10, first: int = 0) -> list[tuple[str, str, str]]:
    numbers = range(first * each, (first + users) * each)
    return [(f"message {n}", "yes" if n % 3 else "no", f"user {n // each}") for n in numbers]


def test_no_group_is_in_two_splits_and_each_is_one_cluster(tmp_path: Path) -> None:
    rows = messages(60)
    found = prepared(tmp_path, grouped_csv(*rows), MAPPING)
    assert found.facts is not None
    assert found.facts.counts == {"train": 480, "validation": 60, "test": 60}
    assert (found.facts.test_clusters, found.facts.test_cluster_size, found.facts.test_copies) == (6, 10, 1)
    user_of = {text: user for text, _label, user in rows}
    written = read(str(tmp_path / "rows.parquet"), "labelled")
    users = {split: {user_of[row.text] for row in of_split} for split, of_split in written.items()}  # type: ignore[union-attr]
    assert sum(map(len, users.values())) == 60
    clusters = Clusters.of(cluster_of(row.item) for row in written["test"])
    assert clusters is not None and clusters.sizes.tolist() == [10] * 6
    by_label = Counter(row.label for row in written["test"])  # type: ignore[union-attr]
    assert abs(by_label[0] - 20) <= 2


def test_equal_inputs_and_groups_join_also_through_other_rows(tmp_path: Path) -> None:
    """user 0 and user 1 sent the same text, user 2 and one without a name another; rows without a user are alone."""
    rows = [*messages(20), ("hello", "yes", "user 0"), ("hello", "no", "user 1")]
    rows += [("bye", "yes", "user 2"), ("bye", "no", ""), *((f"lone {n}", "yes", " ") for n in range(5))]
    found = prepared(tmp_path, grouped_csv(*rows), MAPPING)
    written = read(str(tmp_path / "rows.parquet"), "labelled")
    everything = [row for of_split in written.values() for row in of_split]
    assert len({row.item for row in everything}) == len(rows)
    cluster = {row.text: cluster_of(row.item) for row in everything}  # type: ignore[union-attr]
    split = {row.text: row.split for row in everything}  # type: ignore[union-attr]
    assert cluster["message 0"] == cluster["message 10"] == cluster["hello"]
    assert split["message 0"] == split["message 10"] == split["hello"]
    assert cluster["message 20"] == cluster["bye"] != cluster["message 30"]
    assert len(set(cluster.values())) == 19 + 5
    assert found.facts is not None


def test_a_group_may_be_a_column_with_another_role(tmp_path: Path) -> None:
    lines = [f"query {n},passage {n // 4}" for n in range(400)]
    columns = {"query": "query", "passage": "passage"}
    content = "\n".join(["query,passage", *lines]).encode()
    alone = prepared(tmp_path, content, ColumnMapping(format="query-passage", columns=columns))
    mapping = ColumnMapping(format="query-passage", columns=columns | {"group": "passage"})
    assert not list(mapping.problems(["query", "passage"]))
    grouped = prepared(tmp_path, content, mapping)
    assert alone.facts is not None and grouped.facts is not None
    assert (alone.facts.test_items, alone.facts.test_clusters) == (40, 40)
    assert (grouped.facts.test_items, grouped.facts.test_clusters) == (40, 10)
    assert "shared-passages" in by_code(alone.findings) and "shared-passages" not in by_code(grouped.findings)


def test_too_few_groups_for_three_splits_block(tmp_path: Path) -> None:
    for users in (1, 2):
        found = prepared(tmp_path, grouped_csv(*messages(users, each=100)), MAPPING)
        assert found.facts is None
        told = by_code(found.findings)["too-few-groups"]
        assert (told.severity, told.count, told.details.limit) == ("blocks", users, 3)
        assert "empty-split" not in by_code(found.findings)
    three = prepared(tmp_path, grouped_csv(*messages(3, each=100)), MAPPING)
    assert three.facts is not None and three.facts.counts == {"train": 100, "validation": 100, "test": 100}


def test_groups_that_predefined_splits_share_are_counted_and_up_to_three_named(tmp_path: Path) -> None:
    train, test = messages(30), [*messages(6, first=40), *((f"new {n}", "yes", f"user {n}") for n in range(4))]
    splitting = Splitting(kind="predefined", names={"train": ["train"], "test": ["test"]})
    files = {"train.csv": grouped_csv(*train), "test.csv": grouped_csv(*test, ("nobody's", "yes", ""))}
    found = prepared(tmp_path, files, MAPPING, splitting)
    told = by_code(found.findings)["shared-groups"]
    assert (told.severity, told.count, told.details.split) == ("warns", 4, "test")
    assert (told.details.groups, told.details.of_rows) == (4, 65)
    assert told.details.labels == ["user 0", "user 1", "user 2"]
    assert [example.excerpt for example in told.examples] == ["new 0", "new 1", "new 2"]
    apart = prepared(tmp_path, {**files, "test.csv": grouped_csv(*messages(6, first=40))}, MAPPING, splitting)
    assert apart.facts is not None and "shared-groups" not in by_code(apart.findings)
    random = prepared(tmp_path, grouped_csv(*train, *test), MAPPING, Splitting())
    assert random.facts is not None and "shared-groups" not in by_code(random.findings)


def test_groups_of_very_unequal_sizes_give_splits_near_their_shares(tmp_path: Path) -> None:
    sizes = np.random.default_rng(0).geometric(0.1, size=300)
    owners = [f"user {user}" for user, size in enumerate(sizes) for _ in range(size)]
    rows = [(f"text {n}", "rare" if owner.endswith("7") else "usual", owner) for n, owner in enumerate(owners)]
    found = prepared(tmp_path, grouped_csv(*rows), MAPPING)
    assert found.facts is not None
    assert abs(found.facts.counts["test"] / len(rows) - 0.1) < 0.01
    assert abs(found.facts.counts["validation"] / len(rows) - 0.1) < 0.01
