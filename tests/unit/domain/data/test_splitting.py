"""Splits that are made here: stratified, by hash, with what is the same on one side."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.domain.data.dataset import SPLITS
from app.domain.data.splitting import LEFT_OUT, TEST, TRAIN, VALIDATION, Splitting, assign, drop_duplicates, linked

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
def test_what_asks_the_same_is_on_one_side_and_every_label_is_trained(
    asks: list[int], test: float, validation: float
) -> None:
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


def test_another_seed_makes_another_split_of_the_same_sizes() -> None:
    hashes = rows(list(range(1000)))
    first, second = (assign(hashes, None, Splitting(seed=seed)) for seed in (0, 1))
    assert np.bincount(first).tolist() == np.bincount(second).tolist() == [800, 100, 100]
    assert 60 < (second[first == TEST] != TEST).sum() < 100


def test_more_rows_move_few_of_those_that_were_there() -> None:
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
    inputs, groups = rows([ask for ask, _group in pairs]), rows([group for _ask, group in pairs])
    labels = (np.arange(len(pairs)) % 3).astype(np.int32)
    names = linked(inputs, groups)
    found = assign(inputs, labels, Splitting(seed=seed), groups=groups)
    for keys in (inputs, groups):
        for key in set(keys.tolist()) - ({0} if keys is groups else set()):
            assert len(set(found[keys == key].tolist())) == len(set(names[keys == key].tolist())) == 1
    assert set(names[groups == 0].tolist()) <= {0, *groups.tolist()}
    units = set(np.where(names == 0, inputs + 100, names).tolist())
    assert len(set(found.tolist())) == (3 if len(units) > 2 else 1)


def test_a_long_chain_of_links_is_one_group() -> None:
    chain = np.arange(1, 100_001, dtype=np.uint64)
    assert set(linked(chain // 2, (chain + 1) // 2).tolist()) == {1}
