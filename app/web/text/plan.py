"""What a study would take, before it starts: runs, trainable parameters, what it can show, and time where it is known.

Parameters are computed; the smallest difference and the time are estimates. Nothing is said that is not known.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

from sqlalchemy.orm import Session

from app.domain.comparison.model import POINT
from app.domain.comparison.verdict import confidence_after
from app.domain.errors import FieldError, Invalid
from app.domain.methods import Family
from app.domain.resources.calibration import EstimateBand
from app.domain.studies.power import detectable_difference, enough_items
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning import TuningSpec, budget, trials_owed
from app.domain.tasks import METRICS
from app.services.compatibility import check_study
from app.services.resources.past_times import train_seconds
from app.store.queries import past_runs
from app.store.queries.past_runs import PastRun
from app.store.tables import BaseModelRow, DatasetRow
from app.web.pages.new_study.form import StudyForm
from app.web.text.assumed_score import Chance
from app.web.text.memory_fit import time_band

MOST_SEEDS_OFFERED = 20


@dataclass(frozen=True)
class ArmPlan:
    """What an arm would take."""

    title: str
    family: Family
    trainable: int | None
    total: int | None
    seconds: float | None
    """Of one run's training; None where neither an estimate nor a like run tells."""
    device: str
    """Where the like runs were made, or the worker that it is estimated for."""
    estimate: EstimateBand | None = None
    """Of the same seconds, with a band; None where they are those of like runs."""

    @property
    def band(self) -> str:
        """Around the estimate; empty where there is none, or no width to it."""
        return time_band(self.estimate) if self.estimate else ""


@dataclass(frozen=True)
class Plan:
    """What a study would take, or why that cannot be told."""

    errors: tuple[FieldError, ...] = ()
    arms: tuple[ArmPlan, ...] = ()
    seeds: int = 0
    items: int = 0
    margin: float = 0.0
    """A fraction, as are the differences."""
    shows: float = 0.0
    """The smallest difference that the test set and the seeds can show."""
    basis: str = ""
    """What that difference was worked out from, as a part of a sentence."""
    enough_seeds: int | None = None
    """This many would show a difference as small as the margin."""
    enough_items: int | None = None
    """So would this many test items, to within 5 %, with …"""
    items_seeds: int = 0
    """… so many seeds: those that there are, or as few more as that takes."""
    tuning: TuningSpec | None = None
    """How learning rates are looked for; None where they are not."""
    spec: StudySpec | None = None
    most_seeds: int = MOST_SEEDS_OFFERED
    """Seeds up to which it was looked for."""

    @property
    def runs(self) -> int:
        """Arms × seeds."""
        return len(self.arms) * self.seeds

    @property
    def trials(self) -> int:
        """Runs that look for learning rates."""
        return len(self.arms) * trials_owed(self.tuning) if self.tuning else 0

    @property
    def undecided(self) -> bool:
        """It would probably end without a verdict."""
        return self.seeds > 1 and len(self.arms) > 1 and self.shows > self.margin

    @property
    def wider_margin(self) -> float:
        """The margin, in points, that it could decide on: up to the next tenth."""
        return ceil(round(self.shows / POINT * 10, 6)) / 10

    @property
    def devices(self) -> frozenset[str]:
        """Where the times are from, or for."""
        return frozenset(arm.device for arm in self.arms if arm.device)

    @property
    def estimated(self) -> bool:
        """The times are estimates with a band, not those of like runs."""
        return any(arm.estimate for arm in self.arms)

    @property
    def assumed(self) -> bool:
        """No past run on the worker has told how fast it trains: its share of the measured speed is assumed."""
        return any(arm.estimate and not arm.estimate.runs for arm in self.arms)

    @property
    def seconds(self) -> float | None:
        """Of all training, one run after the other; None where that is not known of each, and of one device."""
        return self._seconds(self.seeds + (budget(self.tuning) if self.tuning else 0.0))

    @property
    def trial_seconds(self) -> float | None:
        """Of that, what the trials take."""
        return self._seconds(budget(self.tuning)) if self.tuning else None

    @property
    def more_seconds(self) -> float | None:
        """What the seeds would add that are needed to decide."""
        return self._seconds(self.enough_seeds - self.seeds) if self.enough_seeds else None

    def timed(self, estimates: Mapping[str, EstimateBand], worker: str) -> "Plan":
        """With the estimates of a worker, by arm, in the place of what like runs took."""
        found = (
            replace(arm, seconds=estimate.value, device=worker, estimate=estimate)
            if (estimate := estimates.get(arm.title))
            else replace(arm, seconds=None, device="")
            for arm in self.arms
        )
        return replace(self, arms=tuple(found)) if estimates else self

    def _seconds(self, seeds: float) -> float | None:
        each = [arm.seconds for arm in self.arms]
        known = [s for s in each if s is not None]
        return seeds * sum(known) if len(known) == len(each) and len(self.devices) == 1 else None


def plan(session: Session, form: StudyForm) -> Plan:
    """Work it out from what was typed so far."""
    try:
        return plan_of(session, form.spec())
    except Invalid as error:
        return Plan(errors=error.at())


def plan_of(session: Session, spec: StudySpec, looks: int = 0, since: int = 0) -> Plan:
    """Work it out for a study, and how often its verdict was looked for already. Raises Invalid, where an arm from the
    place `since` on could not be queued."""
    model, dataset = check_study(session, spec, since=since)
    past = past_runs.succeeded(session, model.id, dataset.id)
    return _plan(spec, model, dataset, past, Chance.of(session, spec.verdict_metric, past), confidence_after(looks))


def _plan(
    spec: StudySpec,
    model: BaseModelRow,
    dataset: DatasetRow,
    past: Sequence[PastRun],
    chance: Chance,
    confidence: float,
) -> Plan:
    items, seeds = dataset.facts.counts["test"], len(spec.seeds)
    facts, labels = model.facts, len(dataset.facts.labels)
    total = facts.task_model(spec.task, labels).total if facts else None
    owed = {run.arm: run.spec for run in spec.owed()}

    def shows(count: int, test_items: int = items) -> float:
        return detectable_difference(
            test_items,
            count,
            chance.score,
            graded=METRICS[chance.metric].graded,
            disagreement=chance.disagreement,
            comparisons=len(spec.arms) - 1,
            confidence=confidence,
        )

    more = range(max(2, seeds + 1), MOST_SEEDS_OFFERED + 1)
    margin = spec.margin_points * POINT
    more_items, items_seeds = _items(items, max(2, seeds), lambda count, test_items: shows(count, test_items) <= margin)
    return Plan(
        arms=tuple(
            ArmPlan(
                arm.title,
                arm.method.facts.family,
                facts.trainable_parameters(arm.method, spec.task, labels) if facts else None,
                total,
                *train_seconds(owed[arm.title], past),
            )
            for arm in spec.arms
        ),
        seeds=seeds,
        items=items,
        margin=margin,
        shows=shows(seeds),
        basis=chance.words,
        enough_seeds=next((count for count in more if shows(count) <= margin), None),
        enough_items=more_items,
        items_seeds=items_seeds,
        tuning=spec.tuning if spec.tuning.rounds else None,
        spec=spec,
    )


def _items(items: int, seeds: int, decides: Callable[[int, int], bool]) -> tuple[int | None, int]:
    """The fewest items that decide with as few seeds as that takes, and how many those are; None and 0 if none do."""
    for count in range(seeds, MOST_SEEDS_OFFERED + 1):
        if found := enough_items(items, partial(decides, count)):
            return found, count
    return None, 0
