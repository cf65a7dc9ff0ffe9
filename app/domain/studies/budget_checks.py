"""Tuning budgets in tokens or seconds that cannot fit two configurations of an arm, found before anything is queued.

A trial has at least a token per row, whatever the data. Its seconds are known only where an estimate says how fast a
live worker trains; without one, a budget in seconds is accepted, and the first trial of each arm shows what one costs.
"""

from collections.abc import Mapping
from math import ceil

from app.domain.data.dataset import fraction_of
from app.domain.errors import FieldError
from app.domain.messages import _
from app.domain.runs.training import TrainingBudget
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.search_space import Parameter, ends, finite_values, from_values
from app.domain.studies.tuning.tuning import RandomTuning, TpeTuning

LENGTHS: tuple[Parameter, ...] = ("batch_size", "num_train_epochs", "max_steps")
"""What a trial's number of rows depends on."""


def budget_problem(spec: StudySpec, rows: int) -> FieldError | None:
    """Why a budget of tokens is too small, on a dataset with this number of training rows; None if it may be enough.

    A row has at least one token. What it has beyond that is known after the first trial.
    """
    tuning = spec.tuning
    if not isinstance(tuning, RandomTuning | TpeTuning) or tuning.unit != "tokens":
        return None
    needs = {arm.title: 2 * tuning.seeds * least_rows(_shortest(spec, arm), rows) for arm in spec.arms}
    title = max(needs, key=lambda title: needs[title])
    if tuning.budget >= needs[title]:
        return None
    what = _(
        "Two configurations of the arm %(title)r train on at least %(least)s tokens (%(seeds)s seeds each), but the"
        " tuning budget is %(budget)g",
        title=title,
        least=needs[title],
        seeds=tuning.seeds,
        budget=tuning.budget,
    )
    return FieldError("tuning.budget", what, _("Raise it well above that, since most rows have many tokens"))


def seconds_problem(spec: StudySpec, rows: int, train_seconds: Mapping[str, float]) -> FieldError | None:
    """Why a budget of device-seconds is too small; None if it may be enough, or is not known to be too small.

    `train_seconds`: of a run at each arm's own settings but for the smallest rank of its search, by arm, the least that
    is plausible on any live worker. A shorter trial takes as much less as it trains on fewer rows. Loading and
    evaluating come on top. The arms in `unchecked_arms` are left out.
    """
    tuning = spec.tuning
    if not isinstance(tuning, RandomTuning | TpeTuning) or not in_seconds(spec):
        return None
    left_out = unchecked_arms(spec, train_seconds)
    needs = {
        arm.title: 2 * tuning.seeds * train_seconds[arm.title] * _shortening(spec, arm, rows)
        for arm in spec.arms
        if arm.title not in left_out
    }
    title = max(needs, key=lambda title: needs[title], default="")
    if not title or tuning.budget >= needs[title]:
        return None
    what = _(
        "Two configurations of the arm %(title)r train for at least %(least)s s (%(seeds)s seeds each) by the estimate"
        " for the fastest live worker, but the tuning budget is %(budget)g s",
        title=title,
        least=ceil(needs[title]),
        seeds=tuning.seeds,
        budget=tuning.budget,
    )
    return FieldError("tuning.budget", what, _("Raise it above that, or search fewer epochs or steps"))


def in_seconds(spec: StudySpec) -> bool:
    """Whether the tuning budget is one of device-seconds."""
    return isinstance(spec.tuning, RandomTuning | TpeTuning) and spec.tuning.unit == "seconds"


def unchecked_arms(spec: StudySpec, train_seconds: Mapping[str, float]) -> list[str]:
    """Titles of the arms that `seconds_problem` leaves out: those without an estimate, or all of them with early
    stopping, since a trial may then end after any evaluation. None for a budget in another unit."""
    if not in_seconds(spec):
        return []
    early = spec.training.early_stopping_patience is not None
    return [arm.title for arm in spec.arms if early or arm.title not in train_seconds]


def _shortening(spec: StudySpec, arm: ArmSpec, rows: int) -> float:
    """Rows of the arm's shortest trial, as a share of those of a run at its own settings."""
    return min(1.0, least_rows(_shortest(spec, arm), rows) / least_rows(spec.training_of(arm), rows))


def least_rows(training: TrainingBudget, rows: int) -> int:
    """Rows that a run trains on, at least; of packed rows, sequences where the budget is in steps."""
    if training.early_stopping_patience is not None:
        return 1
    used = fraction_of(rows, training.train_fraction)
    if training.max_steps is None:
        return max(1, int(training.num_train_epochs * used))
    if training.packing:
        return training.max_steps
    steps_per_epoch = ceil(ceil(used / training.per_device_train_batch_size) / training.gradient_accumulation_steps)
    return training.max_steps * used // steps_per_epoch


def _shortest(spec: StudySpec, arm: ArmSpec) -> TrainingBudget:
    """The training arguments of the arm's shortest trial."""
    searched = {name: one for name, one in spec.space(arm).dimensions.items() if name in LENGTHS}
    least = {name: (finite_values(name, one) or ends(name, one))[0] for name, one in searched.items()}
    return spec.training_of(arm.at(from_values(least), spec.training))
