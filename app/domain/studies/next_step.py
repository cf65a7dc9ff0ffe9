"""What an arm's tuning does next, from its trials so far. Pure functions: trials in, the next step out.

A grid, and a round of halving, are queued at once. A random search whose budget is a number of trials is too. Otherwise
trials follow while another is expected to fit: the budget that is left, divided by the mean cost of the trials so far;
of those half are queued at a time, so that a wave of expensive ones does not exceed the budget. The sampler of TPE sees
every result before it suggests the next configuration.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from app.domain.studies.tuning.search_space import Configuration, SearchSpace
from app.domain.studies.tuning.trials import Trial, Tried, cost, tried
from app.domain.studies.tuning.tuning import MOST_TRIALS, GridTuning, HalvingTuning, RandomTuning, Search, TpeTuning

RANDOM_FIRST = 5
"""Configurations that TPE draws at random before it suggests; at most half of a budget of trials."""
MOST_FAILED = 5
"""An arm whose first trials all failed has no configuration, where a budget does not count trials."""


@dataclass(frozen=True)
class Wait:
    """Trials have not ended."""


@dataclass(frozen=True)
class Try:
    """Trials to queue."""

    round: int
    configurations: tuple[Configuration, ...]


@dataclass(frozen=True)
class Suggest:
    """The sampler suggests the next configuration to try."""


@dataclass(frozen=True)
class Chosen:
    """The configuration of the arm's runs."""

    configuration: Configuration


@dataclass(frozen=True)
class AllFailed:
    """Every trial of a round failed, so the arm has no configuration to run at."""


Step = Wait | Try | Suggest | Chosen | AllFailed


def next_step(tuning: Search, space: SearchSpace, trials: Sequence[Trial]) -> Step:
    """The next step of an arm from its trials so far.

    A failed or cancelled trial counts as the worst of its round and blocks nothing. A single remaining configuration is
    chosen.
    """
    if isinstance(tuning, GridTuning | HalvingTuning):
        return _by_rounds(tuning, first_round(tuning, space), trials)
    return _by_budget(tuning, space, trials)


def first_round(tuning: GridTuning | HalvingTuning, space: SearchSpace) -> tuple[Configuration, ...]:
    """The configurations that it begins with, the smallest learning rate first."""
    if isinstance(tuning, GridTuning) or space.only_rates:
        return space.grid(tuning.rates)
    return tuple(sorted(space.draw(tuning.rates, tuning.seed), key=lambda one: one.order))


def _by_rounds(
    tuning: GridTuning | HalvingTuning, candidates: tuple[Configuration, ...], trials: Sequence[Trial], place: int = 0
) -> Step:
    """From the round at a place on."""
    entries = tried(trials, place)
    known = {entry.configuration for entry in entries}
    if missing := tuple(one for one in candidates if one not in known):
        return Try(place, missing)
    if not all(entry.ended for entry in entries):
        return Wait()
    ranked = _ranked(entries)
    if not ranked:
        return AllFailed()
    if place + 1 == len(tuning.rounds) or len(ranked) == 1:
        return Chosen(ranked[0].configuration)
    best = tuple(entry.configuration for entry in ranked[: tuning.rounds[place + 1].rates])
    return _by_rounds(tuning, best, trials, place + 1)


def _by_budget(tuning: RandomTuning | TpeTuning, space: SearchSpace, trials: Sequence[Trial]) -> Step:
    entries = tried(trials, 0)
    if not all(entry.ended for entry in entries):
        return Wait()
    more = min(_more(tuning, entries, trials), space.size - len(entries), MOST_TRIALS - len(entries))
    if tuning.unit != "trials" and len(entries) >= MOST_FAILED and not _ranked(entries):
        more = 0
    known = [entry.configuration for entry in entries]
    if more < 1 or not space.draw(1, tuning.seed, known):
        ranked = _ranked(entries)
        return Chosen(ranked[0].configuration) if ranked else AllFailed()
    if isinstance(tuning, TpeTuning):
        first = min(RANDOM_FIRST, tuning.configurations // 2) if tuning.configurations else RANDOM_FIRST
        if len(entries) >= first:
            return Suggest()
        more = min(more, first - len(entries))
    return Try(0, space.draw(int(more), tuning.seed, known))


def _more(tuning: RandomTuning | TpeTuning, entries: Sequence[Tried], trials: Sequence[Trial]) -> float:
    """How many configurations to queue now, if there were no other limit."""
    if tuning.configurations is not None:
        return tuning.configurations - len(entries)
    if not entries:
        return 1
    used = cost(tuning.unit, trials)
    each = used / len(entries)
    fits = (tuning.budget - used) / each if each else inf
    return max(1, fits // 2) if fits >= 1 else 0


def _ranked(entries: Sequence[Tried]) -> list[Tried]:
    return sorted((entry for entry in entries if entry.loss is not None), key=lambda entry: entry.order)
