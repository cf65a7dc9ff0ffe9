"""The verdict: each arm compared with the reference arm, in one word that its interval alone implies.

    within      the interval lies inside ±margin: a difference, if there is one, is too small to matter
    better      it lies above 0, and not inside the margin
    worse       it lies below 0, and not inside the margin
    undecided   the rest, with the seeds or items that would decide
    hint        one seed, or no per-item scores: the items alone imply one of the first three; other seeds are unknown
    none        too few runs or items for an interval, or scores that cannot be compared; or not tested, because the
                reference does not beat every baseline (`learning.py`)

Several arms are several chances of a false positive. Holm 1979 ("A simple sequentially rejective multiple test
procedure") bounds at 5 % the chance that *any* arm without a true difference is called better or worse: of k arms, the
one with the smallest p-value gets an interval of confidence 1 − 0.05/k, the next 1 − 0.05/(k−1), and so on while they
exclude 0; from the first that does not, all have its confidence. Two seeds estimate their variance too poorly for that:
with thousands of items and four arms it is 8 % (docs/verdict.md), so compare several arms with three seeds or more.
"Within" is two one-sided tests at half of that level, so it is wrong in at most 2.5 % of the cases in which the true
difference is at the margin or beyond.

Interim looks are several chances too: adding seeds to an undecided study tests it again. Each further look has a fifth
of the error rate of the one before (`confidence_after`): 5 %, 1 %, 0.2 %, so that all of them together have 6.25 % at
most, however often a study is extended (simulated: docs/verdict.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from app.domain.comparison.clusters import Clusters
from app.domain.comparison.confounders import ConfounderKind
from app.domain.comparison.distributions import binomial_below
from app.domain.comparison.intervals import (
    CONFIDENCE,
    INTERIM_LOOK_FACTOR,
    Difference,
    Scores,
    difference,
)
from app.domain.comparison.proportions import UnpairedDifference
from app.domain.studies.power import RequiredSample, required_sample


class VerdictKind(StrEnum):
    """The word."""

    WITHIN = "within"
    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"
    HINT = "hint"
    NONE = "none"


class Basis(StrEnum):
    """What a difference is computed from."""

    ITEMS = "items"
    """Per-item scores: crossed random effects over items and seeds."""
    SHARES = "shares"
    """Two proportions of as many items, for imported results without per-item scores (Newcombe 1998)."""


class Reason(StrEnum):
    """Why a verdict is what it is."""

    INSIDE_MARGIN = "inside_margin"
    ABOVE_ZERO = "above_zero"
    BELOW_ZERO = "below_zero"
    CROSSES_MARGIN = "crosses_margin"
    ONE_SEED = "one_seed"
    NO_ITEM_SCORES = "no_item_scores"
    NO_RESULT = "no_result"
    NO_REFERENCE_RESULT = "no_reference_result"
    ONE_ITEM = "one_item"
    INCOMPARABLE = "incomparable"
    """`ArmVerdict.confounder` rules a verdict out."""
    NOT_TESTED = "not_tested"
    """Fine-tuning does not help, so the question whether another arm is enough does not arise."""


REASONS = {
    VerdictKind.WITHIN: Reason.INSIDE_MARGIN,
    VerdictKind.BETTER: Reason.ABOVE_ZERO,
    VerdictKind.WORSE: Reason.BELOW_ZERO,
    VerdictKind.UNDECIDED: Reason.CROSSES_MARGIN,
}


@dataclass(frozen=True)
class ArmVerdict:
    """An arm compared with the reference."""

    kind: VerdictKind
    reason: Reason
    difference: Difference | UnpairedDifference | None = None
    """At the confidence that the correction for several arms gives this one; None for `none`, unless it was not
    tested."""
    basis: Basis | None = None
    """None where `difference` is."""
    needs: RequiredSample | None = None
    """What would decide; for `undecided` and `hint` with per-item scores."""
    hint: VerdictKind | None = None
    """For `hint`: the word that the items alone imply."""
    confounder: ConfounderKind | None = None
    """For `none`: what rules a verdict out."""

    @property
    def not_tested(self) -> "ArmVerdict":
        """The same difference without a verdict; unchanged where there is none."""
        return (
            self
            if self.difference is None
            else ArmVerdict(VerdictKind.NONE, Reason.NOT_TESTED, self.difference, self.basis)
        )


def confidence_after(interim_looks: int) -> float:
    """The confidence of a study's verdicts after so many interim looks: 95 %, 99 %, 99.8 %."""
    return 1 - (1 - CONFIDENCE) * INTERIM_LOOK_FACTOR**interim_looks


def judge(
    arms: Mapping[str, Scores],
    reference: str,
    margin: float,
    *,
    further: int = 0,
    confidence: float = CONFIDENCE,
    clusters: Clusters | None = None,
) -> dict[str, ArmVerdict]:
    """A verdict for each arm but the reference, in the order given.

    `arms` holds [S, N] scores by arm, on the same items in the same order; an arm without finished runs is empty
    (shape [0, …]). `margin` is in the metric's unit (0.02 is 2 points) and above 0. ValueError if items do not match.
    Arms with one seed come last in Holm's order and never count as different. `further` is how many more arms are
    compared with the same reference by other means: the correction counts them too. `confidence` is that of all of
    them together. `clusters`: of the items, where they are not independent.
    """
    if not margin > 0:
        raise ValueError(f"the margin is {margin}: it must be above 0")
    others = [name for name in arms if name != reference]
    base = arms.get(reference)
    missing = {name: reason for name in others if (reason := _no_interval(arms[name], base, clusters))}
    plain = {
        name: difference(arms[name], base, confidence, clusters)
        for name in others
        if name not in missing and base is not None
    }
    corrected = holm(plain, further, confidence)
    return {
        name: ArmVerdict(VerdictKind.NONE, missing[name]) if name in missing else _verdict(corrected[name], margin)
        for name in others
    }


def holm(
    differences: Mapping[str, Difference], further: int = 0, confidence: float = CONFIDENCE
) -> dict[str, Difference]:
    """The differences, each at the confidence of its place in Holm's order, behind which `further` others stand."""
    order = sorted(differences, key=lambda name: (differences[name].one_seed, differences[name].p_value))
    corrected: dict[str, Difference] = {}
    left = len(order) + further
    for name in order:
        corrected[name] = differences[name].at(1 - (1 - confidence) / left)
        if corrected[name].excludes_zero and not corrected[name].one_seed:
            left = max(left - 1, 1)
        else:
            return corrected | {n: differences[n].at(corrected[name].confidence) for n in order[order.index(name) :]}
    return corrected


def word(low: float, high: float, margin: float) -> VerdictKind:
    """What an interval alone implies: within, better, worse or undecided."""
    if -margin <= low and high <= margin:
        return VerdictKind.WITHIN
    if low > 0:
        return VerdictKind.BETTER
    if high < 0:
        return VerdictKind.WORSE
    return VerdictKind.UNDECIDED


def best_indistinguishable(
    arms: Mapping[str, Scores], confidence: float = CONFIDENCE, clusters: Clusters | None = None
) -> list[str]:
    """The arm with the highest mean and all that are not significantly different from it, in the order given.

    The best is chosen from the same data, so every other gets the same confidence, 1 − 0.05/(k−1), and the arm that is
    truly best is left out of at most 2.5 % of such sets (multiple comparisons with the best, Hsu 1984). An arm with one
    seed is never significantly different. Arms without runs are left out.
    """
    scored = {name: np.asarray(scores, dtype=np.float64) for name, scores in arms.items() if len(scores)}
    if not scored:
        return []
    best = max(scored, key=lambda name: float(scored[name].mean()))
    each = 1 - (1 - confidence) / max(len(scored) - 1, 1)

    def differs(name: str) -> bool:
        from_best = difference(scored[name], scored[best], each, clusters)
        return from_best.excludes_zero and not from_best.one_seed

    return [name for name in scored if name == best or not differs(name)]


@dataclass(frozen=True)
class McNemar:
    """McNemar's exact test of two single runs on the same items, each right or wrong. Other seeds are not covered.

    Where items form clusters it is the sign test over clusters, by which of the two gets more of a cluster's items
    right."""

    only_arm: int
    """Items that only the arm gets right; clusters of which it gets more right."""
    only_reference: int
    p_value: float
    """Two-sided, that both are equally often right. Of the items that only one of the two gets right, each is a fair
    coin toss if there is no difference (McNemar 1947): the binomial tail, doubled. 1 if they never differ."""

    @classmethod
    def of(
        cls, arm_right: NDArray[np.bool_], reference_right: NDArray[np.bool_], clusters: Clusters | None = None
    ) -> "McNemar":
        """From [N] booleans. ValueError if they are not of the same items."""
        if arm_right.shape != reference_right.shape or arm_right.ndim != 1:
            shapes = f"{arm_right.shape} and {reference_right.shape}"
            raise ValueError(f"two runs on the same items are needed; these have the shapes {shapes}")
        ahead = arm_right.astype(np.float64) - reference_right
        ahead = clusters.sums(ahead) if clusters else ahead
        first, second = int((ahead > 0).sum()), int((ahead < 0).sum())
        return cls(first, second, min(1.0, 2 * binomial_below(min(first, second), first + second, 0.5)))


def _verdict(difference: Difference, margin: float) -> ArmVerdict:
    kind = word(difference.low, difference.high, margin)
    reason = Reason.ONE_SEED if difference.one_seed else REASONS[kind]
    if kind is VerdictKind.UNDECIDED:
        return ArmVerdict(kind, reason, difference, Basis.ITEMS, required_sample(difference, margin))
    if difference.one_seed:
        return ArmVerdict(
            VerdictKind.HINT, reason, difference, Basis.ITEMS, required_sample(difference, margin), hint=kind
        )
    return ArmVerdict(kind, reason, difference, Basis.ITEMS)


def verdict_of_shares(difference: UnpairedDifference, margin: float) -> ArmVerdict:
    """A hint at best: without per-item scores nothing is known of seeds, nor of which items the two share."""
    kind = word(difference.low, difference.high, margin)
    if kind is VerdictKind.UNDECIDED:
        return ArmVerdict(kind, Reason.CROSSES_MARGIN, difference, Basis.SHARES)
    return ArmVerdict(VerdictKind.HINT, Reason.NO_ITEM_SCORES, difference, Basis.SHARES, hint=kind)


def _no_interval(arm: Scores, reference: Scores | None, clusters: Clusters | None) -> Reason | None:
    """Why there can be no interval, or None."""
    if reference is None or not len(reference):
        return Reason.NO_REFERENCE_RESULT
    if not len(arm):
        return Reason.NO_RESULT
    return Reason.ONE_ITEM if (len(clusters) if clusters else np.shape(reference)[-1]) < 2 else None
