"""The reference against its baselines: who is beaten, and how often nothing is called something."""

import numpy as np
import pytest

from app.domain.comparison.baselines import StoredBaseline, baseline_results, has_zero_shot, unbeaten
from app.domain.comparison.statistics.intervals import Scores
from app.domain.data.baselines import Baseline, BaselineKind

N = 400


def stored(kind: BaselineKind, right: int, items_hash: str = "h") -> StoredBaseline:
    scores = [1.0] * right + [0.0] * (N - right)
    answer = Baseline(
        kind=kind,
        metrics={"accuracy": right / N},
        scores={"accuracy": scores},
        items_hash=items_hash,
        trained_rows=10,
        train_rows=10,
        seconds=0.1,
    )
    return StoredBaseline(kind, "ready", baseline=answer)


def reference(right: int, seeds: int = 3) -> Scores:
    """Right on the first items, but for a few that depend on the seed."""
    scores = np.zeros((seeds, N))
    scores[:, :right] = 1
    for seed in range(seeds):
        scores[seed] = np.roll(scores[seed], seed)
    return scores


def test_a_baseline_far_below_is_beaten_and_one_at_the_same_height_is_not() -> None:
    trivial, tfidf = baseline_results(
        [stored("most-frequent", 100), stored("tfidf", 318)], "accuracy", reference(320), "h", 0.95
    )
    assert trivial.score and trivial.score.mean == 0.25 and trivial.score.seeds == 1
    assert trivial.beaten and trivial.difference and trivial.difference.mean == pytest.approx(-0.55)
    assert not tfidf.beaten
    assert unbeaten([trivial, tfidf]) == [tfidf]


def test_of_several_that_are_not_beaten_the_strongest_comes_first() -> None:
    known = [stored("most-frequent", 310), stored("tfidf", 330), stored("embeddings", 320)]
    results = baseline_results(known, "accuracy", reference(300), "h", 0.95)
    assert [result.stored.kind for result in unbeaten(results)] == ["tfidf", "embeddings", "most-frequent"]


def test_what_cannot_be_compared_is_shown_and_not_counted() -> None:
    waiting = StoredBaseline("embeddings", "working")
    failed = StoredBaseline("tfidf", "failed", "Too large.")
    elsewhere = stored("most-frequent", 390, items_hash="other")
    results = baseline_results([waiting, failed, elsewhere], "accuracy", reference(300), "h", 0.95)
    assert [result.difference for result in results] == [None] * 3
    assert [result.score is None for result in results] == [True, True, False]
    assert unbeaten(results) == []
    assert baseline_results([elsewhere], "accuracy", None, None, 0.95)[0].difference is None


def test_a_language_model_before_training_is_the_zero_shot_baseline() -> None:
    base = np.zeros((3, N))
    base[:, :100] = 1
    [found] = baseline_results([], "rouge_l", reference(320), "h", 0.95, base)
    assert found.stored.kind == "zero-shot" and found.facts.trivial and has_zero_shot([found])
    assert found.score and found.score.mean == 0.25 and found.score.seeds == 1 and found.beaten
    [alone] = baseline_results([], "rouge_l", None, None, 0.95, base)
    assert alone.difference is None


def test_the_difference_is_that_of_the_items_and_covers_the_seeds() -> None:
    """Seeds that scatter widen the interval, though their mean and the items stay the same."""
    alike, apart = np.repeat(reference(300, 1), 4, axis=0), np.zeros((4, N))
    for seed, right in enumerate((260, 340, 280, 320)):
        apart[seed, :right] = 1
    [calm], [wild] = (
        baseline_results([stored("tfidf", 200)], "accuracy", scores, "h", 0.95) for scores in (alike, apart)
    )
    assert calm.difference and wild.difference
    assert calm.difference.mean == pytest.approx(wild.difference.mean) == pytest.approx(-0.25)
    widths = [found.difference.high - found.difference.low for found in (wild, calm) if found.difference]
    assert widths[0] > 1.5 * widths[1]


@pytest.mark.slow
@pytest.mark.parametrize("others", [1, 3])
def test_a_reference_no_better_than_a_baseline_seldom_beats_all(others: int) -> None:
    """One baseline is as good as the reference, the others are far worse: the intersection-union test needs no
    correction for their number (Berger 1982). Two-sided 95 %, so one side at 2.5 %."""
    rng = np.random.default_rng(7)
    claims, studies, items, seeds = 0, 1500, 200, 3
    for _ in range(studies):
        difficulty = rng.normal(size=items)
        right = (rng.normal(size=(seeds, items)) + difficulty + 0.2 * rng.normal(size=(seeds, 1)) > 0).astype(float)
        equal = (rng.normal(size=items) + difficulty > 0).astype(float)
        known = [_of(equal), *(_of(np.zeros(items)) for _ in range(others - 1))]
        results = baseline_results(known, "accuracy", right, "h", 0.95)
        claims += not unbeaten(results)
    assert claims / studies <= 0.035


def _of(scores: np.ndarray) -> StoredBaseline:
    values = {"metrics": {}, "items_hash": "h", "trained_rows": 1, "train_rows": 1, "seconds": 0.0}
    return StoredBaseline(
        "tfidf", "ready", baseline=Baseline(kind="tfidf", scores={"accuracy": scores.tolist()}, **values)
    )
