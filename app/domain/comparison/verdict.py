"""The verdict: each arm of a study against the reference arm, in one word that its interval alone implies.

    within      the interval lies inside ±margin: a difference, if there is one, is too small to matter
    better      it lies above 0, and not inside the margin
    worse       it lies below 0, and not inside the margin
    undecided   the rest, with the seeds or items that would decide
    hint        one seed: would have been one of the first three, but says nothing of other seeds
    none        too few runs or items for an interval

Several arms are several chances to be fooled. Holm 1979 ("A simple sequentially rejective multiple test procedure")
holds the chance that *any* arm without a true difference is called better or worse at 5 %: of k arms, the one with the
smallest p-value gets an interval of confidence 1 − 0.05/k, the next 1 − 0.05/(k−1), and so on while they exclude 0;
from the first that does not, all have its confidence. Two seeds know their variance too badly for that: with thousands
of items and four arms it is 8 % (docs/measuring.md), so compare several arms with three seeds or more. "Within" is two
one-sided tests at half of that level, so each such word is wrong in at most 2.5 % of the cases in which the true
difference is at the margin or beyond.

Several looks are several chances too: who adds seeds to an undecided study looks again. Each further look has a fifth
of the chance of the one before (`confidence_after`): 5 %, 1 %, 0.2 %, so that all of them together have 6.25 % at most,
however often one looks (simulated: docs/measuring.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from app.domain.comparison.distributions import binomial_below
from app.domain.comparison.intervals import (
    CONFIDENCE,
    INTERIM_LOOK_FACTOR,
    Difference,
    ScoreInterval,
    Scores,
    difference,
    score_interval,
)
from app.domain.comparison.pareto import Better, pareto_front
from app.domain.studies.power import Needs, detectable_difference, needs, observed_disagreement

__all__ = [
    "ArmVerdict",
    "Better",
    "Difference",
    "Needs",
    "ScoreInterval",
    "Scores",
    "VerdictKind",
    "best_indistinguishable",
    "confidence_after",
    "detectable_difference",
    "difference",
    "judge",
    "mcnemar",
    "observed_disagreement",
    "pareto_front",
    "score_interval",
]


class VerdictKind(StrEnum):
    """The word."""

    WITHIN = "within"
    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"
    HINT = "hint"
    NONE = "none"


@dataclass(frozen=True)
class ArmVerdict:
    """An arm against the reference."""

    kind: VerdictKind
    difference: Difference | None
    """At the confidence that Holm's correction gives this arm; None for `none`."""
    margin: float
    needs: Needs | None
    """What would decide; for `undecided` and `hint`."""
    reason: str
    """A sentence: why this word."""
    hint: VerdictKind | None = None
    """For `hint`: the word that the items alone would give."""


REASONS = {
    VerdictKind.WITHIN: "The whole interval lies inside the margin.",
    VerdictKind.BETTER: "The whole interval lies above zero.",
    VerdictKind.WORSE: "The whole interval lies below zero.",
    VerdictKind.UNDECIDED: "The interval includes zero and reaches beyond the margin.",
}
ONE_SEED = "For this one seed only: an arm has a single seed, so what another seed would change is unknown."


def confidence_after(looks: int) -> float:
    """The confidence of a study's verdict that had so many before: 95 %, 99 %, 99.8 %."""
    return 1 - (1 - CONFIDENCE) * INTERIM_LOOK_FACTOR**looks


def judge(
    arms: Mapping[str, Scores],
    reference: str,
    margin: float,
    *,
    further: int = 0,
    confidence: float = CONFIDENCE,
) -> dict[str, ArmVerdict]:
    """A verdict for each arm but the reference, in the order given.

    `arms` holds [S, N] scores by arm, on the same items in the same order; an arm without finished runs is empty
    (shape [0, …]). `margin` is in the metric's unit (0.02 is 2 points) and above 0. ValueError if items do not match.
    Arms with one seed stand last in Holm's order and never count as different. `further` is how many more arms are held
    against the same reference by other means: they count among the chances to be fooled. `confidence` is that of all
    of them together.
    """
    if not margin > 0:
        raise ValueError(f"the margin is {margin}: it must be above 0")
    others = [name for name in arms if name != reference]
    base = arms.get(reference)
    missing = {name: why for name in others if (why := _too_few(arms[name], base, name, reference))}
    plain = {
        name: difference(arms[name], base, confidence) for name in others if name not in missing and base is not None
    }
    corrected = holm(plain, further, confidence)
    return {
        name: ArmVerdict(VerdictKind.NONE, None, margin, None, missing[name])
        if name in missing
        else _verdict(corrected[name], margin)
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
    """What an interval alone says: within, better, worse or undecided."""
    if -margin <= low and high <= margin:
        return VerdictKind.WITHIN
    if low > 0:
        return VerdictKind.BETTER
    if high < 0:
        return VerdictKind.WORSE
    return VerdictKind.UNDECIDED


def best_indistinguishable(arms: Mapping[str, Scores], confidence: float = CONFIDENCE) -> list[str]:
    """The arm with the highest mean and all that cannot be told apart from it, in the order given.

    The best is found in the same data, so every other gets the same confidence, 1 − 0.05/(k−1), and the arm that is
    truly best is left out of at most 2.5 % of such sets (multiple comparisons with the best, Hsu 1984). An arm with one
    seed cannot be told apart from any. Arms without runs are left out.
    """
    scored = {name: np.asarray(scores, dtype=np.float64) for name, scores in arms.items() if len(scores)}
    if not scored:
        return []
    best = max(scored, key=lambda name: float(scored[name].mean()))
    each = 1 - (1 - confidence) / max(len(scored) - 1, 1)

    def told_apart(name: str) -> bool:
        seen = difference(scored[name], scored[best], each)
        return seen.excludes_zero and not seen.one_seed

    return [name for name in scored if name == best or not told_apart(name)]


def mcnemar(arm_right: NDArray[np.bool_], reference_right: NDArray[np.bool_]) -> float:
    """Exact two-sided p-value that two single runs are equally often right, from [N] booleans on the same items.

    Of the items that just one of the two gets right, each is a fair coin's throw if there is no difference (McNemar
    1947): the binomial tail, doubled. 1 if they never differ. It says nothing of other seeds.
    """
    arm, other = np.asarray(arm_right, dtype=bool), np.asarray(reference_right, dtype=bool)
    if arm.shape != other.shape or arm.ndim != 1:
        raise ValueError(f"two runs on the same items are needed; these have the shapes {arm.shape} and {other.shape}")
    only_arm, only_other = int((arm & ~other).sum()), int((other & ~arm).sum())
    return min(1.0, 2 * binomial_below(min(only_arm, only_other), only_arm + only_other, 0.5))


def _verdict(seen: Difference, margin: float) -> ArmVerdict:
    kind = word(seen.low, seen.high, margin)
    if kind is VerdictKind.UNDECIDED:
        reason = ONE_SEED if seen.one_seed else REASONS[kind]
        return ArmVerdict(kind, seen, margin, needs(seen, margin), reason)
    if seen.one_seed:
        return ArmVerdict(VerdictKind.HINT, seen, margin, needs(seen, margin), ONE_SEED, hint=kind)
    return ArmVerdict(kind, seen, margin, None, REASONS[kind])


def _too_few(arm: Scores, reference_scores: Scores | None, name: str, reference: str) -> str:
    """Why there can be no interval, or nothing."""
    if reference_scores is None or not len(reference_scores):
        return f"The reference {reference} has no finished run yet."
    if not len(arm):
        return f"{name} has no finished run yet."
    if np.shape(reference_scores)[-1] < 2:
        return "The test split has a single item, which says nothing of other items."
    return ""
