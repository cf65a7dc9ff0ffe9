"""Flips: the test items of a study by which arms answer them correctly.

    v    an arm's score on each item, the mean over the seeds that count, [N]
    u    the same of the base model before training, r of the reference

                    an item is right or wrong        a graded score lies from 0 to 1
    gained          u ≤ ½ < v                        v − u > STEP
    lost            v ≤ ½ < u                        u − v > STEP
    better          r ≤ ½ < v                        v − r > STEP
    worse           v ≤ ½ < r                        r − v > STEP
    both-wrong      v ≤ ½ and r ≤ ½                  the same
    all-wrong       no arm above ½                   the same
    seeds-differ    some seeds right, some wrong     two seeds lie more than STEP apart

With several seeds the majority counts, and a half is no majority; with one seed `better` and `worse` are the two
off-diagonal cells of McNemar's table.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from app.domain.comparison.model import RunOutcome
from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.score_matrices import common_clusters
from app.domain.comparison.statistics.verdict import McNemar
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.tasks import METRICS

HALF = 0.5
"""Above it an item counts as right."""
STEP = 0.1
"""Two graded scores differ by more than this, as a fraction."""
SURE = (0.5, 0.8, 0.95)
"""Edges of the bands of a model's confidence in its own answer."""


class FlipKind(StrEnum):
    WORSE = "worse"
    BETTER = "better"
    GAINED = "gained"
    LOST = "lost"
    BOTH_WRONG = "both-wrong"
    ALL_WRONG = "all-wrong"
    SEEDS_DIFFER = "seeds-differ"
    ANY = "any"


AGAINST_REFERENCE = (FlipKind.WORSE, FlipKind.BETTER, FlipKind.BOTH_WRONG)
"""Kinds that compare an arm with the reference."""


@dataclass(frozen=True)
class JudgedArm:
    """An arm's runs that count, and their scores on the N items."""

    runs: tuple[RunOutcome, ...]
    scores: NDArray[np.float64]
    """[S, N]"""
    base: NDArray[np.float64] | None
    """Scores of the base model before training, [S, N]; None where a run has none."""

    @property
    def mean(self) -> NDArray[np.float64]:
        """Over the seeds, [N]."""
        return np.asarray(self.scores.mean(axis=0))


@dataclass(frozen=True)
class Flips:
    """A study's items, sorted by what happened to them."""

    kinds: ClassVar[tuple[FlipKind, ...]] = tuple(FlipKind)
    arms: Mapping[str, JudgedArm]
    """Those with a run that counts, in the study's order."""
    reference: str
    graded: bool
    items: int
    items_hash: str | None
    """Which items in which order: see `RunOutcome`."""
    clusters: Clusters | None = None
    """Clusters of items with equal inputs."""

    @classmethod
    def of(cls, study: StudyComparison, seed: int | None = None) -> "Flips":
        """By the majority of the seeds, or by one of them. Runs over other items than most are left out."""
        graded = METRICS[study.metric].graded
        scored = [run for arm in study.arms for run in arm.succeeded if run.scores is not None]
        hashes = [run.items_hash for run in scored]
        if not scored:
            return cls({}, study.reference.title, graded, 0, None)
        usual = max(dict.fromkeys(hashes), key=hashes.count)
        arms = {}
        for arm in study.arms:
            counting = [r for r in scored if r.arm == arm.title and r.items_hash == usual and seed in (None, r.seed)]
            if counting:
                arms[arm.title] = _judged(counting)
        items = next(len(run.scores) for run in scored if run.scores is not None and run.items_hash == usual)
        return cls(arms, study.reference.title, graded, items, usual, common_clusters(scored, usual))

    def default(self, focus: StudyArm | None) -> tuple[str, FlipKind]:
        """The arm and kind to show first: where the arm that the verdict is about loses against the reference."""
        arm = focus.title if focus and focus.title in self.arms else next(iter(self.arms), self.reference)
        return arm, FlipKind.WORSE if self.mask(FlipKind.WORSE, arm) is not None else FlipKind.GAINED

    def mask(self, kind: FlipKind, arm: str) -> NDArray[np.bool_] | None:
        """Which items are of that kind, [N]; None where the kind does not apply: the reference compared with itself,
        an arm without a run, seeds that differ where there is one."""
        own, reference = self.arms.get(arm), self.arms.get(self.reference)
        if own is None or (kind in AGAINST_REFERENCE and (arm == self.reference or reference is None)):
            return None
        match kind:
            case FlipKind.ANY:
                return np.ones(self.items, dtype=bool)
            case FlipKind.ALL_WRONG:
                return np.asarray(np.all([judged.mean <= HALF for judged in self.arms.values()], axis=0))
            case FlipKind.SEEDS_DIFFER:
                return self._rises(own.scores.min(axis=0), own.scores.max(axis=0)) if len(own.runs) > 1 else None
            case FlipKind.GAINED | FlipKind.LOST:
                if own.base is None:
                    return None
                other = own.base.mean(axis=0)
            case _:
                assert reference is not None  # noqa: S101 checked above
                other = reference.mean
        if kind is FlipKind.BOTH_WRONG:
            return np.asarray((own.mean <= HALF) & (other <= HALF))
        up = kind in (FlipKind.GAINED, FlipKind.BETTER)
        return self._rises(other, own.mean) if up else self._rises(own.mean, other)

    def count(self, kind: FlipKind, arm: str) -> int | None:
        """How many items are of that kind."""
        items = self.mask(kind, arm)
        return None if items is None else int(items.sum())

    def mcnemar(self, arm: str) -> McNemar | None:
        """McNemar's test of an arm against the reference; None unless both have one run, and items are right or
        wrong."""
        own, reference = self.arms.get(arm), self.arms.get(self.reference)
        if own is None or reference is None or arm == self.reference or self.graded:
            return None
        if len(own.runs) != 1 or len(reference.runs) != 1:
            return None
        return McNemar.of(own.mean > HALF, reference.mean > HALF, self.clusters)

    def _rises(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Where one is wrong and the other right, or graded lower by more than STEP."""
        return np.asarray(high - low > STEP if self.graded else (low <= HALF) & (high > HALF))


def _judged(runs: Iterable[RunOutcome]) -> JudgedArm:
    counted = tuple(runs)
    scores = np.stack([run.scores for run in counted if run.scores is not None])
    bases = [run.base_scores for run in counted if run.base_scores is not None]
    complete = len(bases) == len(counted) and all(base.shape == scores[0].shape for base in bases)
    return JudgedArm(runs=counted, scores=scores, base=np.stack(bases) if complete else None)


def quarter_edges(lengths: NDArray[np.int64]) -> tuple[int, int, int]:
    """The longest of the first, the second and the third quarter of items by length."""
    first, second, third = np.quantile(lengths, (0.25, 0.5, 0.75), method="inverted_cdf") if len(lengths) else (0, 0, 0)
    return int(first), int(second), int(third)


def quarters(lengths: NDArray[np.int64], edges: tuple[int, int, int]) -> NDArray[np.int64]:
    """Each item's quarter, 0 to 3, [N]. Items of one length lie in one quarter, so quarters need not be equal."""
    return np.searchsorted(np.asarray(edges), lengths, side="left")


def bands(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """Each item's band of SURE, 0 to 3, [N]; −1 where nothing is known."""
    known = np.isfinite(confidence)
    return np.where(known, np.digitize(np.where(known, confidence, 0.0), SURE), -1)
