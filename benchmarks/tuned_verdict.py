"""What choosing learning rates does to the verdict: simulated studies of two arms that are the same method.

    python benchmarks/tuned_verdict.py [studies per row, 2000]

Each arm tries a grid on validation items, one seed a rate, and takes the rate that `domain.tuning.next_step` chooses;
then its seeds run on the test items. Items, seeds and tosses are those of benchmarks/verdict.py.
"""

import sys
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from verdict import Design, studies

from app.domain.comparison.intervals import difference
from app.domain.runs.status import RunStatus
from app.domain.studies.tuning import FIRST_SEED, Chosen, GridTuning, Trial, next_step

RATES = (1.0, 3.0, 9.0)
GRID = GridTuning(rates=len(RATES))


@dataclass(frozen=True)
class Tuned:
    """A study whose arms are tuned."""

    by_rate: tuple[float, ...] = (0.89, 0.89, 0.89)
    """True accuracy at each rate, the same for both arms."""
    validation: int = 150
    """Items."""
    final: Design = Design()  # noqa: RUF009 a frozen value
    """The runs that count; its accuracies are those at the chosen rates."""


def chosen(scores: NDArray[np.float64]) -> int:
    """Place of the rate that a grid's trials choose, from their scores on validation items, [rates, N]."""
    means = scores.mean(axis=1)
    trials = [
        Trial(place, "arm", rate, 0, FIRST_SEED, RunStatus.SUCCEEDED, score=float(mean), loss=1.0)
        for place, (rate, mean) in enumerate(zip(RATES, means, strict=True))
    ]
    step = next_step(GRID, RATES, trials)
    assert isinstance(step, Chosen)
    return RATES.index(step.rate)


@dataclass(frozen=True)
class Claims:
    """Shares of the studies."""

    any: float
    """Called better or worse."""
    false: float
    """Called so, and the arms are not so at the rates that they ran at."""
    unlike: float
    """The arms ran at rates that are not equally good."""


def claims(truth: Tuned, count: int, seed: int = 0) -> Claims:
    """Over simulated studies; both arms are the same method."""
    search = replace(truth.final, seeds=1, items=truth.validation, accuracies=2 * truth.by_rate)
    pairs: Counter[tuple[int, int]] = Counter()
    for study in studies(search, count, seed):
        one, other = study[:, 0, :].reshape(2, len(RATES), -1)
        pairs[chosen(one), chosen(other)] += 1
    called = wrong = unlike = 0
    for (a, b), times in pairs.items():
        accuracies = (truth.by_rate[a], truth.by_rate[b])
        unlike += times * (accuracies[0] != accuracies[1])
        for own, other in studies(replace(truth.final, accuracies=accuracies), times, seed + 1 + 10 * a + b):
            seen = difference(other, own)
            called += seen.excludes_zero
            wrong += seen.excludes_zero and (accuracies[1] - accuracies[0]) * seen.delta <= 0
    return Claims(called / count, wrong / count, unlike / count)


def main() -> None:
    """Print the table as Markdown."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print("| accuracy by rate | validation | seeds | test | unlike rates | any claim | false at their rates |")
    print("|---|---|---|---|---|---|---|")
    for by_rate in ((0.89, 0.89, 0.89), (0.88, 0.89, 0.88), (0.85, 0.89, 0.85)):
        for validation in (150, 1000):
            for seeds, items in ((3, 646), (5, 646), (5, 2000)):
                final = Design(seeds, items, 0.004, lasting_sd=2.0)
                found = claims(Tuned(by_rate, validation, final), count)
                rates = " / ".join(f"{100 * a:.0f}" for a in by_rate)
                shares = " | ".join(f"{share:.1%}" for share in (found.unlike, found.any, found.false))
                print(f"| {rates} | {validation} | {seeds} | {items} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
