"""What a search for hyperparameters does to the verdict: simulated studies of two arms that are the same method.

    python -m benchmarks.tuned_verdict [studies per cell, 10000] [kinds of search, such as grid,tpe]

Each arm searches on validation items, one seed a configuration, by `domain.studies.next_step` and Optuna's sampler, and
takes the configuration that is chosen; then its seeds run on the test items. Items, seeds and tosses are those of
benchmarks/verdict.py. The best learning rate is 1e-3 and the better rank 16; how much the others cost is the cell's.
Beside the verdict's interval stands one that is widened by the variance of the choice, with what either finds of a true
difference of 3 points.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import log10, nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain.comparison.statistics.intervals import difference
from app.domain.runs.status import RunStatus
from app.domain.studies.next_step import Chosen, Suggest, Try, next_step
from app.domain.studies.power import DISAGREEMENT, SEED_SD
from app.domain.studies.tuning.search_space import Configuration, DimensionSpec, SearchSpace
from app.domain.studies.tuning.tpe import suggest
from app.domain.studies.tuning.trials import Trial, tried
from app.domain.studies.tuning.tuning import FIRST_SEED, GridTuning, HalvingTuning, RandomTuning, Search, TpeTuning
from benchmarks.verdict import DIFFICULTY_SD, Design, logits, studies

BEST = 0.89
SHORT = 0.03
"""What a trial without training would lose; one of a share of the budget loses the rest of that share of it."""
RATES = SearchSpace(learning_rate=DimensionSpec(values=(3.33e-4, 1e-3, 3e-3)))
SPACE = SearchSpace(learning_rate=DimensionSpec(low=1e-4, high=1e-2), r=DimensionSpec(values=(4, 16)))
SEARCHES: dict[str, tuple[Search, SearchSpace]] = {
    "rates": (GridTuning(), RATES),
    "grid": (GridTuning(), SPACE),
    "random": (RandomTuning(budget=8), SPACE),
    "halving": (HalvingTuning(), SPACE),
    "tpe": (TpeTuning(budget=8), SPACE),
}
COSTS = (0.01, 0.04)
REPEATED = np.random.default_rng(0).standard_normal((256, 16))
"""Chance in the scores of up to 16 configurations, for searches that choose again."""
FINALS = tuple(Design(seeds, items, 0.004, lasting_sd=2.0) for seeds, items in ((3, 646), (5, 2000)))


@dataclass(frozen=True)
class Tuned:
    """A study whose arms are tuned."""

    kind: str = "grid"
    cost: float = 0.0
    """Accuracy lost at a learning rate ten times too high or too low; half of it at rank 4."""
    validation: int = 150
    """Items."""
    final: Design = Design()  # noqa: RUF009 a frozen value
    """The runs that count; its accuracies are those at the chosen configurations."""

    def accuracy(self, configuration: Configuration) -> float:
        """The true accuracy at a configuration, to a tenth of a point; the same for both arms."""
        away = abs(log10((configuration.learning_rate or 0) / 1e-3))
        lost = min(1.0, away**2) + (0.5 if configuration.r == 4 else 0.0)
        return round(BEST - self.cost * lost, 3)


class Validation:
    """What trials of one arm reach on the validation items of its study."""

    def __init__(self, truth: Tuned, items: NDArray[np.float64], rng: np.random.Generator) -> None:
        self.truth, self.rng = truth, rng
        self.items = items + truth.final.lasting_sd * rng.standard_normal(len(items))

    def trial(self, number: int, configuration: Configuration, round_: int, share: float) -> Trial:
        """One seed at a configuration, for a share of the budget."""
        accuracy = round(self.truth.accuracy(configuration) - SHORT * (1 - share), 3)
        ability, scale = logits(accuracy, self.truth.final.seed_sd, self.truth.final.lasting_sd)
        logit = ability + scale * self.rng.standard_normal() + self.items
        score = float((self.rng.random(len(logit)) * (1 + np.exp(-logit)) < 1).mean())
        rate = configuration.learning_rate or 0
        ended = RunStatus.SUCCEEDED
        return Trial(number, "arm", configuration, rate, round_, FIRST_SEED, ended, score=score, loss=1.0)


class Found(NamedTuple):
    """What an arm's search came to."""

    accuracy: float
    """The true one, at the configuration that was chosen."""
    variance: float
    """Of that accuracy over searches, as far as the arm's own trials show it."""


def search(truth: Tuned, validation: Validation, seed: int) -> Found:
    """Search the configuration of an arm."""
    tuning, space = SEARCHES[truth.kind]
    if not isinstance(tuning, GridTuning):
        tuning = tuning.model_copy(update={"seed": seed})
    trials: list[Trial] = []
    while True:
        step = next_step(tuning, space, trials)
        match step:
            case Try():
                more, place = step.configurations, step.round
            case Suggest():
                more, place = (suggest(space, seed, tried(trials, 0)),), 0
            case Chosen():
                latest = {trial.configuration: trial.score or 0.0 for trial in trials}
                return Found(truth.accuracy(step.configuration), choice_variance([*latest.values()], truth.validation))
            case _:
                raise AssertionError(step)
        share = tuning.rounds[place].share
        trials += [validation.trial(len(trials) + n, one, place, share) for n, one in enumerate(more)]


def choice_variance(scores: Sequence[float], items: int) -> float:
    """How much the accuracy at the chosen configuration would vary if the search chose again: a parametric bootstrap.

    The true accuracies are taken to be the scores, shrunk towards their mean by as much as chance explains of their
    spread (James & Stein 1961; for more than three); chance is that of a planned study (`power`)."""
    seen = np.array(scores)
    chance = DISAGREEMENT / 2 * (1 - seen.max()) / items + SEED_SD**2
    away = seen - seen.mean()
    total = float(away @ away)
    kept = max(0.0, 1 - (len(seen) - 3) * chance / total) if len(seen) > 3 and total else 1.0
    true = seen.mean() + kept * away
    picks = np.argmax(true + np.sqrt(chance) * REPEATED[:, : len(true)], axis=1)
    return float(true[picks].var())


def searched(truth: Tuned, count: int, seed: int) -> Iterator[tuple[Found, Found]]:
    """What the searches of the two arms of each study came to."""
    rng = np.random.default_rng([seed, truth.validation, round(1000 * truth.cost), len(truth.kind)])
    for number in range(count):
        items = DIFFICULTY_SD * rng.standard_normal(truth.validation)
        # Both arms draw from the same seed, as those of a study do.
        first, second = (search(truth, Validation(truth, items, rng), 1000 * number) for _arm in range(2))
        yield first, second


@dataclass(frozen=True)
class Claims:
    """Shares of the studies."""

    any: float
    """Called better or worse."""
    false: float
    """Called so, and the arms are not so at the configurations that they ran at."""
    equal: float
    """Called so, of the studies whose arms ran at equally good configurations."""
    unlike: float
    """The arms ran at configurations that are not equally good."""
    widened: float
    """Called better or worse by an interval that is widened by the variance of both choices."""
    width: float
    """Mean half-width, points."""
    wider: float
    """Of the widened intervals."""


def claims(truth: Tuned, count: int, seed: int = 0) -> Claims:
    """Over simulated studies; both arms are the same method."""
    return judged(truth.final, [*searched(truth, count, seed)], seed)


def judged(final: Design, pairs: Sequence[tuple[Found, Found]], seed: int = 0, ahead: float = 0.0) -> Claims:
    """Over studies whose arms run at pairs of accuracies; the second is better by `ahead`."""
    by_pair: dict[tuple[float, float], list[float]] = {}
    for first, second in pairs:
        at = first.accuracy, round(second.accuracy + ahead, 3)
        by_pair.setdefault(at, []).append(first.variance + second.variance)
    totals, alike, called = np.zeros(5), 0, 0
    for (a, b), variances in by_pair.items():
        own_seed = seed + 1 + round(1000 * a) * 1000 + round(1000 * b)
        all_studies = studies(replace(final, accuracies=(a, b)), len(variances), own_seed)
        for (own, other), variance in zip(all_studies, variances, strict=True):
            seen = difference(other, own)
            wider = replace(seen, variance=seen.variance + variance)
            false = seen.excludes_zero and (b - a) * seen.delta <= 0
            alike, called = alike + (a == b), called + (a == b and seen.excludes_zero)
            totals += (seen.excludes_zero, false, wider.excludes_zero, seen.half_width, wider.half_width)
    any_, false, widened, width, wider_width = totals / len(pairs)
    unlike = sum(len(some) for (a, b), some in by_pair.items() if round(b - ahead, 3) != a) / len(pairs)
    return Claims(any_, false, called / alike if alike else nan, unlike, widened, 100 * width, 100 * wider_width)


def main() -> None:
    """Print the table as Markdown."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    kinds = sys.argv[2].split(",") if len(sys.argv) > 2 else list(SEARCHES)
    print(
        "| search | cost | validation | seeds, test items | unlike | any claim | false at the chosen | if alike |",
        end="",
    )
    print(" widened | half-width | widened | 3 points better, found | widened |")
    print("|" + "---|" * 13)
    if "rates" in kinds:
        for final in FINALS:  # without a cost the search chooses among equals
            _row("any", 0.0, "any", final, [(Found(BEST, 0.0), Found(BEST, 0.0))] * count)
    for kind, validation, cost in product(kinds, (150, 1000), COSTS):
        pairs = [*searched(Tuned(kind, cost, validation, FINALS[0]), count, 0)]
        for final in FINALS:
            _row(kind, cost, str(validation), final, pairs)


def _row(kind: str, cost: float, validation: str, final: Design, pairs: Sequence[tuple[Found, Found]]) -> None:
    found, ahead = judged(final, pairs), judged(final, pairs[: len(pairs) // 5], ahead=0.03)
    shares = " | ".join(f"{share:.2%}" for share in (found.unlike, found.any, found.false, found.equal, found.widened))
    power = " | ".join(f"{share:.0%}" for share in (ahead.any, ahead.widened))
    widths = f"{found.width:.2f} | {found.wider:.2f}"
    place = f"{100 * cost:g} | {validation} | {final.seeds}, {final.items}"
    print(f"| {kind} | {place} | {shares} | {widths} | {power} |", flush=True)


if __name__ == "__main__":
    main()
