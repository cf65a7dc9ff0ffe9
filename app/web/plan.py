"""What a study would take, before it starts: runs, trainable parameters, what it can show, and time where it is known.

Parameters are computed; the smallest difference and the time are estimates. Nothing is said that is not known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean

from sqlalchemy.orm import Session

from app.domain.comparison import ASSUMED_ACCURACY, POINT
from app.domain.errors import FieldError, Invalid
from app.domain.methods import METHODS, Family
from app.domain.runs import RunSpec
from app.domain.studies import StudySpec
from app.domain.verdict import smallest_difference
from app.services.fit import check_study
from app.store.queries import past_runs
from app.store.queries.past_runs import PastRun
from app.store.tables import BaseModelRow, DatasetRow
from app.web.forms.study import StudyForm

MOST_SEEDS_OFFERED = 20


@dataclass(frozen=True)
class ArmPlan:
    """What an arm would take."""

    title: str
    family: Family
    trainable: int | None
    total: int | None
    seconds: float | None
    """Estimate for one run; None where no like run has ended yet."""
    device: str
    """Where those like runs were made."""


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
    accuracy: float = ASSUMED_ACCURACY
    accuracy_seen: bool = False
    """The accuracy is from past runs, not assumed."""
    enough_seeds: int | None = None
    """This many would show a difference as small as the margin."""
    spec: StudySpec | None = None
    most_seeds: int = MOST_SEEDS_OFFERED
    """Seeds up to which it was looked for."""

    @property
    def runs(self) -> int:
        """Arms × seeds."""
        return len(self.arms) * self.seeds

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
        """Where the past runs were made that the times are from."""
        return frozenset(arm.device for arm in self.arms if arm.device)

    @property
    def seconds(self) -> float | None:
        """All runs, one after the other; None where that is not known of each, and of one device."""
        return self._seconds(self.seeds)

    @property
    def more_seconds(self) -> float | None:
        """What the seeds would add that are needed to decide."""
        return self._seconds(self.enough_seeds - self.seeds) if self.enough_seeds else None

    def _seconds(self, seeds: int) -> float | None:
        each = [arm.seconds for arm in self.arms]
        known = [s for s in each if s is not None]
        return seeds * sum(known) if len(known) == len(each) and len(self.devices) == 1 else None


def plan(session: Session, form: StudyForm) -> Plan:
    """Work it out from what was typed so far."""
    try:
        spec = form.spec()
        model, dataset = check_study(session, spec)
    except Invalid as error:
        return Plan(errors=error.fields or (FieldError("", error.message),))
    return _plan(spec, model, dataset, past_runs.succeeded(session, model.id, dataset.id))


def _plan(spec: StudySpec, model: BaseModelRow, dataset: DatasetRow, past: Sequence[PastRun]) -> Plan:
    items, seeds = dataset.facts.counts["test"], len(spec.seeds)
    accuracy = max((run.accuracy for run in past), default=ASSUMED_ACCURACY)
    facts, labels = model.facts, len(dataset.facts.labels)
    owed = {run.arm: run.spec for run in spec.owed()}

    def shows(count: int) -> float:
        return smallest_difference(items, count, accuracy, comparisons=len(spec.arms) - 1)

    more = range(max(2, seeds + 1), MOST_SEEDS_OFFERED + 1)
    margin = spec.margin_points * POINT
    return Plan(
        arms=tuple(
            ArmPlan(
                arm.title,
                METHODS[arm.method.kind].family,
                facts.trainable_parameters(arm.method, labels) if facts else None,
                facts.parameters + facts.head_parameters(labels) if facts else None,
                *_seconds(owed[arm.title], past),
            )
            for arm in spec.arms
        ),
        seeds=seeds,
        items=items,
        margin=margin,
        shows=shows(seeds),
        accuracy=accuracy,
        accuracy_seen=bool(past),
        enough_seeds=next((count for count in more if shows(count) <= margin), None),
        spec=spec,
    )


def _seconds(spec: RunSpec, past: Sequence[PastRun]) -> tuple[float | None, str]:
    """Of a run, and where: from runs of the same method in batches of the same size and length on the newest device.

    The training grows with the epochs.
    """
    wanted = spec.training
    like = [
        run
        for run in past
        if run.spec.method.kind == spec.method.kind
        and run.spec.training.per_device_train_batch_size == wanted.per_device_train_batch_size
        and run.spec.training.max_length == wanted.max_length
        and run.spec.training.max_steps is None
    ]
    if not like or wanted.max_steps is not None:
        return None, ""
    device = like[0].device_name
    seconds = fmean(
        run.wall_seconds + run.train_seconds * (wanted.num_train_epochs / run.spec.training.num_train_epochs - 1)
        for run in like
        if run.device_name == device
    )
    return seconds, device
