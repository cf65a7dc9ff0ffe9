"""Rows of a group stay in one split, count as one cluster, and are found where predefined splits share them."""

from collections import Counter
from pathlib import Path

import numpy as np

from app.domain.comparison.statistics.clusters import Clusters
from app.domain.data.findings import Finding
from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.item_names import cluster_of
from app.domain.data.splitting import Splitting
from tests.support.ingested import prepared
from worker.engine.data.batches.batches import read

MAPPING = ColumnMapping(format="labelled", columns={"text": "text", "label": "label", "group": "user"})


def csv(*rows: tuple[str, str, str]) -> bytes:
    return ("text,label,user\n" + "".join(",".join(row) + "\n" for row in rows)).encode()


def messages(users: int, each: int = 10, first: int = 0) -> list[tuple[str, str, str]]:
    numbers = range(first * each, (first + users) * each)
    return [(f"message {n}", "yes" if n % 3 else "no", f"user {n // each}") for n in numbers]


def by_code(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.code: finding for finding in findings}


def test_no_group_is_in_two_splits_and_each_is_one_cluster(tmp_path: Path) -> None:
    rows = messages(60)
    found = prepared(tmp_path, csv(*rows), MAPPING)
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
    found = prepared(tmp_path, csv(*rows), MAPPING)
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
        found = prepared(tmp_path, csv(*messages(users, each=100)), MAPPING)
        assert found.facts is None
        told = by_code(found.findings)["too-few-groups"]
        assert (told.severity, told.count, told.details.limit) == ("blocks", users, 3)
        assert "empty-split" not in by_code(found.findings)
    three = prepared(tmp_path, csv(*messages(3, each=100)), MAPPING)
    assert three.facts is not None and three.facts.counts == {"train": 100, "validation": 100, "test": 100}


def test_groups_that_predefined_splits_share_are_counted_and_up_to_three_named(tmp_path: Path) -> None:
    train, test = messages(30), [*messages(6, first=40), *((f"new {n}", "yes", f"user {n}") for n in range(4))]
    splitting = Splitting(kind="predefined", names={"train": ["train"], "test": ["test"]})
    files = {"train.csv": csv(*train), "test.csv": csv(*test, ("nobody's", "yes", ""))}
    found = prepared(tmp_path, files, MAPPING, splitting)
    told = by_code(found.findings)["shared-groups"]
    assert (told.severity, told.count, told.details.split) == ("warns", 4, "test")
    assert (told.details.groups, told.details.of_rows) == (4, 65)
    assert told.details.labels == ["user 0", "user 1", "user 2"]
    assert [example.excerpt for example in told.examples] == ["new 0", "new 1", "new 2"]
    apart = prepared(tmp_path, {**files, "test.csv": csv(*messages(6, first=40))}, MAPPING, splitting)
    assert apart.facts is not None and "shared-groups" not in by_code(apart.findings)
    random = prepared(tmp_path, csv(*train, *test), MAPPING, Splitting())
    assert random.facts is not None and "shared-groups" not in by_code(random.findings)


def test_groups_of_very_unequal_sizes_give_splits_near_their_shares(tmp_path: Path) -> None:
    sizes = np.random.default_rng(0).geometric(0.1, size=300)
    owners = [f"user {user}" for user, size in enumerate(sizes) for _ in range(size)]
    rows = [(f"text {n}", "rare" if owner.endswith("7") else "usual", owner) for n, owner in enumerate(owners)]
    found = prepared(tmp_path, csv(*rows), MAPPING)
    assert found.facts is not None
    assert abs(found.facts.counts["test"] / len(rows) - 0.1) < 0.01
    assert abs(found.facts.counts["validation"] / len(rows) - 0.1) < 0.01
