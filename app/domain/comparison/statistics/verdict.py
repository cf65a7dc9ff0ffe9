"""The verdict: each arm compared with the reference arm, in one word that its interval alone implies.

The question is one-sided: may a cheaper method replace the reference? An arm may be better by any amount. So a study
tests non-inferiority (ICH E9, section 3.3.2; FDA 2016, "Non-Inferiority Clinical Trials to Establish Effectiveness"):

    enough      the interval's lower limit lies above −margin: a loss, if there is one, is too small to matter. If it
                lies above 0 too, the arm is also better: that hypothesis follows in fixed sequence, at the same level
    worse       the upper limit lies below 0, and the lower one not above −margin
    undecided   the rest, with the seeds or items that would decide

A study whose question is whether two arms are the same (`alternative: equivalence`) tests both sides:

    within      the interval lies inside ±margin: a difference, if there is one, is too small to matter
    better      it lies above 0, and not inside the margin
    worse       it lies below 0, and not inside the margin
    undecided   the rest

In either case:

    hint        one seed, or no per-item scores: the items alone imply one of the first three; other seeds are unknown
    none        too few runs or items for an interval, or scores that cannot be compared; or not tested, because the
                reference does not beat every baseline (`learning.py`)

Several arms are several chances of a false positive. The intervals follow Holm 1979 ("A simple sequentially rejective
multiple test procedure"), so that *any* arm gets a false verdict in about 5 % of studies: of k arms, the one with the
smallest p-value gets an interval of confidence 1 − 0.05/k, the next 1 − 0.05/(k−1), and so on while the arms are
settled; from the first that is not, all have its confidence. For equivalence an arm is settled if its interval excludes
0. For non-inferiority it is settled if it is better (above 0) or loses more than the margin (below −margin): nothing
further can be said of it then. An arm that is merely enough could still be called better or slightly worse, so it does
not relax the others. Two seeds estimate their variance too poorly for that: with thousands of items and four arms it is
8 % (docs/verdict.md), so compare several arms with three seeds or more. "Enough" is a one-sided test at half of that
level, and "within" two of them, so each is nominally wrong in at most 2.5 % of the cases in which the true loss is the
margin or more. That all of this holds with few seeds is simulated (docs/verdict.md), not proven.

Interim looks are several chances too: adding seeds or arms to a study with visible results tests it again. Each
further look has a fifth of the error rate of the one before (`confidence_after`): 5 %, 1 %, 0.2 %, so that all of
them together have 6.25 % at most, however often a study is extended (simulated: docs/verdict.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from app.domain.comparison.fairness.confounders import ConfounderKind
from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.distributions import binomial_below
from app.domain.comparison.statistics.intervals import CONFIDENCE, INTERIM_LOOK_FACTOR, Difference, Scores, difference
from app.domain.comparison.statistics.proportions import UnpairedDifference
from app.domain.studies.alternative import Alternative
from app.domain.studies.power import RequiredSample, required_sample


class VerdictKind(StrEnum):
    ENOUGH = "enough"
    WITHIN = "within"
    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"
    HINT = "hint"
    NONE = "none"

    @property
    def good_enough(self) -> bool:
        """The arm may replace the reference."""
        return self in (VerdictKind.ENOUGH, VerdictKind.WITHIN, VerdictKind.BETTER)


class Basis(StrEnum):
    """What a difference is computed from."""

    ITEMS = "items"
    """Per-item scores: crossed random effects over items and seeds."""
    SHARES = "shares"
    """Two proportions of as many items, for imported results without per-item scores (Newcombe 1998)."""


class Reason(StrEnum):
    """Why a verdict is what it is."""

    ABOVE_MARGIN = "above_margin"
    """A loss as large as the margin is excluded; a gain and a smaller loss are possible."""
    INSIDE_MARGIN = "inside_margin"
    ABOVE_ZERO = "above_zero"
    BELOW_ZERO = "below_zero"
    SLIGHTLY_BELOW_ZERO = "slightly_below_zero"
    """Worse by less than the margin: enough all the same."""
    CROSSES_MARGIN = "crosses_margin"
    ONE_SEED = "one_seed"
    NO_ITEM_SCORES = "no_item_scores"
    NO_RESULT = "no_result"
    NO_REFERENCE_RESULT = "no_reference_result"
    ONE_ITEM = "one_item"
    ONE_GROUP = "one_group"
    INCOMPARABLE = "incomparable"
    """`ArmVerdict.confounder` rules a verdict out."""
    NOT_TESTED = "not_tested"
    """Fine-tuning does not help, so the question whether another arm is enough does not arise."""


@dataclass(frozen=True)
class ArmVerdict:
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
    alternative: Alternative = Alternative.NON_INFERIORITY

    @property
    def better(self) -> bool:
        """Significantly better than the reference, whichever hypothesis was tested."""
        return self.kind.good_enough and self.reason is Reason.ABOVE_ZERO

    @property
    def not_tested(self) -> "ArmVerdict":
        """The same difference without a verdict; unchanged where there is none."""
        return (
            self
            if self.difference is None
            else replace(self, kind=VerdictKind.NONE, reason=Reason.NOT_TESTED, needs=None, hint=None)
        )


def confidence_after(interim_looks: int) -> float:
    """The confidence of a study's verdicts after so many interim looks: 95 %, 99 %, 99.8 %."""
    return 1 - (1 - CONFIDENCE) * INTERIM_LOOK_FACTOR**interim_looks


def judge(
    arms: Mapping[str, Scores],
    reference: str,
    margin: float,
    alternative: Alternative = Alternative.NON_INFERIORITY,
    *,
    further: int = 0,
    confidence: float = CONFIDENCE,
    clusters: Clusters | None = None,
) -> dict[str, ArmVerdict]:
    """A verdict for each arm but the reference, in the order given.

    `arms` holds [S, N] scores by arm, on the same items in the same order; an arm without finished runs is empty
    (shape [0, …]). `margin` is in the metric's unit (0.02 is 2 points) and above 0, and `alternative` is what is tested
    against it. ValueError if items do not match.
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
    corrected = holm(plain, settled_below(margin, alternative), further, confidence)
    return {
        name: ArmVerdict(VerdictKind.NONE, missing[name], alternative=alternative)
        if name in missing
        else _verdict(corrected[name], margin, alternative)
        for name in others
    }


def settled_below(margin: float, alternative: Alternative) -> float:
    """The difference below which an interval settles an arm: 0 for equivalence, where it is then worse; −margin for
    non-inferiority, where it is then not enough at any level."""
    return 0.0 if alternative.two_sided else -margin


def holm(
    differences: Mapping[str, Difference], below: float = 0.0, further: int = 0, confidence: float = CONFIDENCE
) -> dict[str, Difference]:
    """The differences, each at the confidence of its place in Holm's order, behind which `further` others stand. An arm
    is settled, and relaxes those after it, if its interval lies above 0 or below `below`."""
    order = sorted(differences, key=lambda name: (differences[name].one_seed, differences[name].p_value_outside(below)))
    corrected: dict[str, Difference] = {}
    left = len(order) + further
    for name in order:
        corrected[name] = differences[name].at(1 - (1 - confidence) / left)
        if (corrected[name].low > 0 or corrected[name].high < below) and not corrected[name].one_seed:
            left = max(left - 1, 1)
        else:
            return corrected | {n: differences[n].at(corrected[name].confidence) for n in order[order.index(name) :]}
    return corrected


def word(
    low: float, high: float, margin: float, alternative: Alternative = Alternative.NON_INFERIORITY
) -> tuple[VerdictKind, Reason]:
    """What an interval alone implies, and why: enough or within, better, worse, or undecided."""
    if alternative.two_sided:
        if -margin <= low and high <= margin:
            return VerdictKind.WITHIN, Reason.INSIDE_MARGIN
        if low > 0:
            return VerdictKind.BETTER, Reason.ABOVE_ZERO
    elif low > -margin:
        reason = Reason.ABOVE_ZERO if low > 0 else Reason.SLIGHTLY_BELOW_ZERO if high < 0 else Reason.ABOVE_MARGIN
        return VerdictKind.ENOUGH, reason
    if high < 0:
        return VerdictKind.WORSE, Reason.BELOW_ZERO
    return VerdictKind.UNDECIDED, Reason.CROSSES_MARGIN


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
    clustered: bool = False
    """It counts clusters, not items."""

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
        p_value = min(1.0, 2 * binomial_below(min(first, second), first + second, 0.5))
        return cls(first, second, p_value, clustered=clusters is not None)


def _verdict(difference: Difference, margin: float, alternative: Alternative) -> ArmVerdict:
    kind, reason = word(*difference.limits, margin, alternative)
    decided = kind is not VerdictKind.UNDECIDED and not difference.one_seed
    return ArmVerdict(
        kind=VerdictKind.HINT if difference.one_seed and kind is not VerdictKind.UNDECIDED else kind,
        reason=Reason.ONE_SEED if difference.one_seed else reason,
        difference=difference,
        basis=Basis.ITEMS,
        needs=None if decided else required_sample(difference, margin, alternative),
        hint=kind if difference.one_seed and kind is not VerdictKind.UNDECIDED else None,
        alternative=alternative,
    )


def verdict_of_shares(difference: UnpairedDifference, margin: float, alternative: Alternative) -> ArmVerdict:
    """A hint at best: without per-item scores nothing is known of seeds, nor of which items the two share."""
    kind, reason = word(difference.low, difference.high, margin, alternative)
    if kind is VerdictKind.UNDECIDED:
        return ArmVerdict(kind, reason, difference, Basis.SHARES, alternative=alternative)
    return ArmVerdict(
        VerdictKind.HINT, Reason.NO_ITEM_SCORES, difference, Basis.SHARES, hint=kind, alternative=alternative
    )


def _no_interval(arm: Scores, reference: Scores | None, clusters: Clusters | None) -> Reason | None:
    """Why there can be no interval, or None."""
    if reference is None or not len(reference):
        return Reason.NO_REFERENCE_RESULT
    if not len(arm):
        return Reason.NO_RESULT
    if np.shape(reference)[-1] < 2:
        return Reason.ONE_ITEM
    return Reason.ONE_GROUP if clusters and len(clusters) < 2 else None
