"""Which kind an item is of, by hand and against McNemar's table."""

from typing import Any

import numpy as np
import pytest

from app.domain.comparison.flips import FlipKind, Flips, bands, quarter_edges, quarters
from app.domain.comparison.model import RunOutcome
from app.domain.comparison.statistics.verdict import McNemar
from app.domain.comparison.study import StudyComparison, compare
from app.domain.methods import FullSpec, HeadOnlySpec, LoraSpec
from app.domain.runs.status import RunStatus
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from tests.support.rows.results import result

FULL, LORA, HEAD = "full", "LoRA r=8", "head only"
Scores = list[list[float]]


def study(
    arms: dict[str, Scores], base: Scores | None = None, hashes: dict[str, str] | None = None, **changes: Any
) -> StudyComparison:
    """Arms with scores a seed, [S][N]."""
    seeds = list(range(max(map(len, arms.values()))))
    spec = StudySpec(
        name="s",
        base_model="m",
        dataset="d",
        arms=[ArmSpec(method=FullSpec()), ArmSpec(method=LoraSpec()), ArmSpec(method=HeadOnlySpec())],
        seeds=seeds,
        **changes,
    )
    runs = [
        RunOutcome(
            run_id=place * 10 + seed,
            arm=arm,
            seed=seed,
            status=RunStatus.SUCCEEDED,
            result=result(),
            scores=np.asarray(scores),
            base_scores=np.asarray(base[seed]) if base else None,
            items_hash=(hashes or {}).get(arm, "h"),
        )
        for place, (arm, those) in enumerate(arms.items())
        for seed, scores in enumerate(those)
    ]
    return compare(spec, runs)


def which(flips: Flips, kind: FlipKind, arm: str) -> list[int] | None:
    """Positions of the items of a kind."""
    found = flips.mask(kind, arm)
    return None if found is None else np.flatnonzero(found).tolist()


def test_one_seed_sorts_items_by_who_is_right() -> None:
    found = study({FULL: [[1, 1, 0, 0]], LORA: [[1, 0, 1, 0]], HEAD: [[0, 0, 0, 0]]}, base=[[0, 1, 0, 0]])
    flips = Flips.of(found)
    assert which(flips, FlipKind.WORSE, LORA) == [1]
    assert which(flips, FlipKind.BETTER, LORA) == [2]
    assert which(flips, FlipKind.GAINED, LORA) == [0, 2]
    assert which(flips, FlipKind.LOST, LORA) == [1]
    assert which(flips, FlipKind.BOTH_WRONG, LORA) == [3]
    assert which(flips, FlipKind.BOTH_WRONG, HEAD) == [2, 3]
    assert which(flips, FlipKind.ALL_WRONG, FULL) == [3]
    assert which(flips, FlipKind.ANY, LORA) == [0, 1, 2, 3]


def test_the_majority_speaks_for_an_arm_and_half_is_none() -> None:
    full = [[1, 1, 1, 0], [1, 1, 0, 0]]
    lora = [[1, 0, 1, 1], [0, 0, 1, 1]]
    flips = Flips.of(study({FULL: full, LORA: lora}))
    assert which(flips, FlipKind.WORSE, LORA) == [0, 1]
    assert which(flips, FlipKind.BETTER, LORA) == [2, 3]
    assert which(flips, FlipKind.SEEDS_DIFFER, LORA) == [0]
    assert which(flips, FlipKind.SEEDS_DIFFER, FULL) == [2]


def test_a_seed_speaks_alone_where_it_is_asked_for() -> None:
    found = study({FULL: [[1, 1], [1, 0]], LORA: [[1, 0], [0, 1]]})
    assert which(Flips.of(found, 0), FlipKind.WORSE, LORA) == [1]
    assert which(Flips.of(found, 1), FlipKind.WORSE, LORA) == [0]
    assert Flips.of(found, 7).arms == {}


def test_a_question_that_makes_no_sense_has_no_answer() -> None:
    flips = Flips.of(study({FULL: [[1, 0]], LORA: [[0, 1]]}))
    for kind in (FlipKind.WORSE, FlipKind.BETTER, FlipKind.BOTH_WRONG):
        assert flips.count(kind, FULL) is None
    assert flips.count(FlipKind.SEEDS_DIFFER, LORA) is None
    assert flips.count(FlipKind.GAINED, LORA) is None, "no run has scores of the untouched model"
    assert flips.count(FlipKind.ANY, HEAD) is None, "the arm has no run"
    assert Flips.of(study({LORA: [[1, 0]]})).count(FlipKind.WORSE, LORA) is None, "the reference has no run"


def test_graded_scores_differ_by_more_than_a_step() -> None:
    found = study(
        {FULL: [[0.50, 0.50, 0.50, 0.2]], LORA: [[0.65, 0.35, 0.55, 0.5]]},
        base=[[0.5, 0.5, 0.5, 0.5]],
        task="causal-lm",
        metric="rouge_l",
    )
    flips = Flips.of(found)
    assert which(flips, FlipKind.BETTER, LORA) == [0, 3]
    assert which(flips, FlipKind.WORSE, LORA) == [1]
    assert which(flips, FlipKind.GAINED, LORA) == [0]
    assert which(flips, FlipKind.BOTH_WRONG, LORA) == [1, 3]
    assert flips.mcnemar(LORA) is None


def test_counts_are_the_two_cells_of_mcnemars_table() -> None:
    chance = np.random.default_rng(3)
    full, lora = ((chance.uniform(size=400) < share).astype(float) for share in (0.9, 0.8))
    flips = Flips.of(study({FULL: [full.tolist()], LORA: [lora.tolist()]}))
    worse, better = flips.count(FlipKind.WORSE, LORA), flips.count(FlipKind.BETTER, LORA)
    assert worse is not None
    assert better is not None
    assert better - worse == lora.sum() - full.sum()
    assert flips.mcnemar(LORA) == McNemar.of(lora > 0.5, full > 0.5)
    table = np.asarray([True] * worse + [False] * better)
    assert flips.mcnemar(LORA) == McNemar.of(~table, table)


def test_several_seeds_have_no_mcnemar() -> None:
    assert Flips.of(study({FULL: [[1, 0], [1, 0]], LORA: [[0, 1], [0, 1]]})).mcnemar(LORA) is None


def test_runs_over_other_items_are_left_out() -> None:
    found = study({FULL: [[1, 0]], LORA: [[0, 1]], HEAD: [[1, 1, 1]]}, hashes={HEAD: "other"})
    flips = Flips.of(found)
    assert list(flips.arms) == [FULL, LORA]
    assert flips.items == 2


def test_quarters_hold_as_equal_shares_as_lengths_allow() -> None:
    lengths = np.asarray([10, 20, 30, 40, 50, 60, 70, 80])
    edges = quarter_edges(lengths)
    assert edges == (20, 40, 60)
    assert np.bincount(quarters(lengths, edges)).tolist() == [2, 2, 2, 2]
    same = np.full(5, 7)
    assert set(quarters(same, quarter_edges(same)).tolist()) == {0}
    assert quarter_edges(np.asarray([], dtype=np.int64)) == (0, 0, 0)


@pytest.mark.parametrize(("sure", "band"), [(0.2, 0), (0.5, 1), (0.79, 1), (0.8, 2), (0.95, 3), (1.0, 3), (np.nan, -1)])
def test_confidence_falls_into_a_band(sure: float, band: int) -> None:
    assert bands(np.asarray([sure])).tolist() == [band]
