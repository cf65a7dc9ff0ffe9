"""Scores of a judge model, as a metric of a study's comparison.

    x       of an answer: (s − 1) / 4, from the judge's score s between 1 and 5
    D, V    arm − reference and its variance, over items and seeds (`intervals.difference`)

Each answer is judged alone, so no order of two answers can sway the judge. Its error is measured where people have
rated a run of the arm and one of the reference blindly (`preference`):

    f       of an item: x of the arm's answer − x of the reference's
    h       the difference nearest to f that agrees with the rating: at least a step (¼) above 0 if people prefer the
            arm's answer, as far below if they prefer the reference's, 0 if both are equally good
    e       h − f, the mean over raters and pairs of runs; n items
    D'      D + mean of e
    V'      V + var(e)/n + 2·max(0, cov(f, e))/N

That is prediction-powered inference (Angelopoulos et al. 2023, Science 382, 669): rated items are a random sample of
all items, so what people contradict on average is corrected, and the interval is wider the more the judge errs and the
fewer items are rated.

An answer without a score leaves its item out. Such items may be anything: with a share q of them the interval becomes
(1 − q)·low − q to (1 − q)·high + q (Manski 1989, "Anatomy of the selection problem"), and that of an arm's own mean
(1 − q)·low to (1 − q)·high + q. Holm's correction takes D', moved towards 0 by q/(1 − q), which is as far as these
items could move it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.intervals import (
    CONFIDENCE,
    DIFFERENCES,
    Difference,
    ScoreInterval,
    difference,
    item_variance,
    satterthwaite,
    score_interval,
)
from app.domain.comparison.statistics.preference import BlindItem, Rating, counted, ordered
from app.domain.comparison.statistics.verdict import VerdictKind, holm, settled_below, word
from app.domain.studies.alternative import Alternative

LOWEST, HIGHEST = 1, 5
"""Scores of the judge."""
STEP = 1 / (HIGHEST - LOWEST)

Pair = tuple[int, int]
"""Ids of two runs, the lower one first."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class JudgedRun(_Value):
    """The scores of a run's answers, in the order of the items."""

    run: int
    scores: list[int | None]
    """None: the judge gave no score."""
    texts: list[int]
    """By item, equal numbers for equal answers of its runs."""


class Unscored(_Value):
    """An answer to which the judge gave no score."""

    item: str
    run: int
    said: str
    """What it wrote instead, or why its server refused, cut."""


class Judged(_Value):
    items: list[str]
    runs: list[JudgedRun]
    answers: int
    """Different answers, each judged once."""
    asked: int
    """Answers that this judgement asked for; the others were known from an earlier one of the study."""
    unscored: int
    """Answers without a score."""
    examples: list[Unscored]
    """The first answers without a score."""


@dataclass(frozen=True)
class JudgeError:
    """The judge's error on an arm's difference to the reference, on items that people rated or could not: an arm and
    the reference give them the same answer."""

    items: int
    """n."""
    rated: int
    """Items that people rated."""
    agreed: int
    """Rated items on which the judge's difference agrees with every rating."""
    mean: float
    variance: float
    """var(e)/n, with the covariance's part."""


@dataclass(frozen=True)
class JudgedArm:
    """An arm by the judge's scores."""

    title: str
    seeds: int
    score: ScoreInterval | None
    """The mean over items with a score; its interval allows any score for the others. None without a run, or before two
    items count."""
    alone: Difference | None
    """From the judge's scores, as though it never erred; None for the reference."""
    error: JudgeError | None
    """None: unknown, since fewer than two items were rated."""
    corrected: Difference | None
    """With the judge's error; `alone` where that is unknown."""
    left_out: float
    """q of the arm and the reference."""
    margin: float
    alternative: Alternative

    @property
    def limits(self) -> tuple[float, float]:
        """The interval whatever the items without a score are, before it is clipped."""
        low, high = self.corrected.limits if self.corrected else DIFFERENCES
        return (1 - self.left_out) * low - self.left_out, (1 - self.left_out) * high + self.left_out

    @property
    def low(self) -> float:
        """Lower end of the interval, clipped at the range of a difference."""
        return max(self.limits[0], DIFFERENCES[0])

    @property
    def high(self) -> float:
        """Upper end, clipped too."""
        return min(self.limits[1], DIFFERENCES[1])

    @property
    def verdict(self) -> VerdictKind:
        """What the interval implies; `hint` where it would be a word but covers no other seeds."""
        if self.corrected is None:
            return VerdictKind.NONE
        hinted = self.corrected.one_seed and self.implied is not VerdictKind.UNDECIDED
        return VerdictKind.HINT if hinted else self.implied

    @property
    def implied(self) -> VerdictKind:
        """The word that the interval alone implies, whatever the seeds."""
        if self.corrected is None:
            return VerdictKind.NONE
        return word(*self.limits, self.margin, self.alternative)[0]


def compare_judged(
    judged: Judged,
    arms: Mapping[str, Sequence[int]],
    reference: str,
    margin: float,
    ratings: Mapping[Pair, Sequence[Rating]],
    alternative: Alternative = Alternative.NON_INFERIORITY,
    confidence: float = CONFIDENCE,
) -> list[JudgedArm]:
    """The arms in the order given, by the ids of their runs. `ratings`: by pair of runs; `margin`: a fraction."""
    runs = {run.run: run for run in judged.runs}
    clusters = Clusters.of_items(judged.items)
    members = {title: [runs[run] for run in ids if run in runs] for title, ids in arms.items()}
    base = members.get(reference, [])
    alone: dict[str, Difference] = {}
    errors: dict[str, JudgeError | None] = {}
    for title, of_arm in members.items():
        if title == reference or not (of_arm and base):
            continue
        both = _scores([*of_arm, *base])
        scored = np.asarray(np.isfinite(both).all(axis=0))
        both, of_scored = both[:, scored], clusters and clusters.chosen(scored)
        if both.shape[1] > 1:
            alone[title] = difference(both[: len(of_arm)], both[len(of_arm) :], confidence, of_scored)
            errors[title] = _error(judged, of_arm, base, ratings, both.shape[1])
    left_out = {title: 1 - one.items / len(judged.items) for title, one in alone.items()}
    plain = {title: _corrected(one, errors[title]) for title, one in alone.items()}
    below = settled_below(margin, alternative)
    worst_cases = {title: _towards_range(one, left_out[title], below) for title, one in plain.items()}
    tested = holm(worst_cases, below, confidence=confidence)
    corrected = {title: one.at(tested[title].confidence) for title, one in plain.items()}
    return [
        JudgedArm(
            title=title,
            seeds=len(of_arm),
            score=_mean(of_arm, clusters),
            alone=alone[title].at(corrected[title].confidence) if title in alone else None,
            error=errors.get(title),
            corrected=corrected.get(title),
            left_out=left_out.get(title, 0.0),
            margin=margin,
            alternative=alternative,
        )
        for title, of_arm in members.items()
    ]


def _scores(runs: Sequence[JudgedRun]) -> NDArray[np.float64]:
    """x, [S, N]; NaN without a score."""
    given = [[np.nan if score is None else (score - LOWEST) * STEP for score in run.scores] for run in runs]
    return np.asarray(given, dtype=np.float64)


def _mean(runs: Sequence[JudgedRun], clusters: Clusters | None) -> ScoreInterval | None:
    if not runs:
        return None
    x = _scores(runs)
    scored = np.asarray(np.isfinite(x).all(axis=0))
    if scored.sum() < 2:
        return None
    score = score_interval(x[:, scored], clusters=clusters and clusters.chosen(scored))
    share = float(scored.mean())
    if share == 1:
        return score
    return replace(score, low=share * score.low, high=share * score.high + 1 - share)


def _towards_range(one: Difference, left_out: float, below: float) -> Difference:
    """Its interval lies above 0, or below `below`, just when that of the arm does, which allows any score for the items
    left out: (1 − q)·low − q > 0 is low > q/(1 − q), and (1 − q)·high + q < `below` is high < (below − q)/(1 − q)."""
    kept = 1 - left_out
    if one.delta > 0:
        return replace(one, delta=max(one.delta - left_out / kept, 0.0))
    return replace(one, delta=min(one.delta + left_out * (1 - below) / kept, 0.0))


def _corrected(alone: Difference, error: JudgeError | None) -> Difference:
    if error is None:
        return alone
    variance = alone.variance + error.variance
    df = satterthwaite(
        variance, (alone.variance, max(1, int(alone.degrees_of_freedom))), (error.variance, error.items - 1)
    )
    return replace(alone, delta=alone.delta + error.mean, variance=variance, degrees_of_freedom=df)


def _error(
    judged: Judged,
    arm: Sequence[JudgedRun],
    reference: Sequence[JudgedRun],
    ratings: Mapping[Pair, Sequence[Rating]],
    number: int,
) -> JudgeError | None:
    """None if fewer than two items with a score were rated. `number`: N."""
    values: dict[str, list[tuple[float, float]]] = {}
    agrees: dict[str, bool] = {}
    for one in arm:
        for other in reference:
            pair = (min(one.run, other.run), max(one.run, other.run))
            if given := ratings.get(pair):
                rated = {rating.item for rating in given}
                for item, f, nearest in _rated(judged.items, one, other, pair, given):
                    values.setdefault(item, []).append((f, sum(nearest) / len(nearest) - f))
                    if item in rated:
                        agrees[item] = agrees.get(item, True) and all(h == f for h in nearest)
    if len(agrees) < 2:
        return None
    f, e = np.array([np.mean(of_item, axis=0) for of_item in values.values()]).T
    shared = float(np.cov(f, e)[0, 1])
    return JudgeError(
        items=len(values),
        rated=len(agrees),
        agreed=sum(agrees.values()),
        mean=float(e.mean()),
        variance=item_variance(e, STEP, Clusters.of_items(values)) + 2 * max(0.0, shared) / number,
    )


def _rated(
    items: Sequence[str], one: JudgedRun, other: JudgedRun, pair: Pair, ratings: Iterable[Rating]
) -> list[tuple[str, float, list[float]]]:
    """Item, f, and h by each rating, of a pair of runs; `one` is the arm's."""
    first, second = (one, other) if one.run == pair[0] else (other, one)
    texts = zip(items, first.texts, second.texts, strict=True)
    shown = ordered((BlindItem(item, "", str(a), str(b)) for item, a, b in texts), pair)
    scores = dict(zip(items, zip(one.scores, other.scores, strict=True), strict=True))
    found = []
    for item, values in counted(shown, ratings).items():
        x, y = scores[item]
        if x is not None and y is not None:
            f = (x - y) * STEP
            found.append((item, f, [_agreeing(f, v if one is first else -v) for v in values]))
    return found


def _agreeing(f: float, v: float) -> float:
    """h of one rating: v is 1, −1 or 0."""
    if v == 0:
        return 0.0
    return max(f, STEP) if v > 0 else min(f, -STEP)
