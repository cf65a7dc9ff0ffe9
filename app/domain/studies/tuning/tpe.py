"""The tree-structured Parzen estimator of Optuna (Bergstra et al. 2011, NeurIPS 24): the sampler, and nothing else.

Optuna keeps no study of its own: for each suggestion the sampler is made anew from the trials, with a seed that follows
from their number, so that the same trials always give the same suggestion. A trial without a usable result counts as
worse than all others. Optuna is loaded on first use: only a study that is tuned by TPE needs it.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from app.domain.studies.tuning.search_space import (
    WHOLE,
    Configuration,
    DimensionSpec,
    Parameter,
    SearchSpace,
    ends,
    finite_values,
    from_values,
    is_log,
)
from app.domain.studies.tuning.trials import Tried

ATTEMPTS = 16
"""Suggestions of configurations that were tried already, before one is drawn at random."""


def suggest(space: SearchSpace, seed: int, entries: Sequence[Tried]) -> Configuration:
    """The next configuration to try, of a space that has one left. `entries`: what was tried, with its results."""
    tried = {entry.configuration for entry in entries}
    for attempt in range(ATTEMPTS):
        configuration = _ask(space, seed + ATTEMPTS * len(entries) + attempt, entries)
        if configuration not in tried:
            return configuration
    return space.draw(1, seed, tried)[0]


def _ask(space: SearchSpace, seed: int, entries: Sequence[Tried]) -> Configuration:
    optuna = _optuna()
    by_loss = all(entry.score is None for entry in entries)
    sampler = optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=1, multivariate=True)
    study = optuna.create_study(direction="minimize" if by_loss else "maximize", sampler=sampler)
    distributions = {name: _distribution(name, dimension) for name, dimension in space.dimensions.items()}
    for entry in sorted(entries, key=lambda entry: min(trial.run_id for trial in entry.trials)):
        value = entry.loss if by_loss else entry.score
        usable = value is not None and not entry.lost
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.COMPLETE if usable else optuna.trial.TrialState.PRUNED,
                value=value if usable else None,
                params={name: _encoded(name, space, entry.configuration.values[name]) for name in distributions},
                distributions=distributions,
            )
        )
    values = study.ask(distributions).params
    return from_values({name: _decoded(name, space, values[name]) for name in space.dimensions})


def _distribution(name: Parameter, dimension: DimensionSpec) -> Any:
    """For a list it is over the places of its values: they are ordered, so neighbours are alike."""
    optuna = _optuna()
    values = finite_values(name, dimension)
    if values is not None:
        return optuna.distributions.IntDistribution(0, len(values) - 1)
    low, high = ends(name, dimension)
    if name in WHOLE:
        return optuna.distributions.IntDistribution(low, high, log=is_log(name, dimension))
    return optuna.distributions.FloatDistribution(low, high, log=is_log(name, dimension))


def _encoded(name: Parameter, space: SearchSpace, value: float) -> float:
    values = finite_values(name, space.dimensions[name])
    if values is not None:
        return values.index(value)
    low, high = ends(name, space.dimensions[name])
    return min(max(int(value), low), high) if name in WHOLE else value


def _decoded(name: Parameter, space: SearchSpace, value: float) -> float:
    dimension = space.dimensions[name]
    values = finite_values(name, dimension)
    if values is not None:
        return values[int(value)]
    low, high = ends(name, dimension)
    return min(max(float(f"{value:.3g}"), low), high) if name not in WHOLE else value


@cache
def _optuna() -> Any:
    import optuna  # noqa: PLC0415

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
