"""What a study would take, before it starts: runs, trainable parameters, what it can show, and time where it is known.

Parameters are computed; the smallest difference and the time are estimates. Nothing is said that is not known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean

from sqlalchemy.orm import Session

from app.domain.comparison import POINT
from app.domain.errors import FieldError, Invalid
from app.domain.methods import Family
from app.domain.planning import GRADED_SCORE, SCORE, seen_disagreement, smallest_difference
from app.domain.runs import RunSpec
from app.domain.studies import StudySpec
from app.domain.tasks import METRICS, MetricName
from app.services.fit import check_study
from app.store.queries import evaluations, past_runs
from app.store.queries.past_runs import PastRun
from app.store.tables import BaseModelRow, DatasetRow
from app.web.forms.study import StudyForm
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.numbers import percent
from app.web.refusals import told
from app.web.words.metrics import title

MOST_SEEDS_OFFERED = 20
MOST_HELD_AGAINST = 6
"""Past runs, of as many methods, whose items are held against each other."""


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
class Chance:
    """What is known of the metric beforehand: seen in past runs, else assumed."""

    metric: MetricName
    score: float
    disagreement: float | None = None
    """As `smallest_difference` takes it; None where it is assumed."""
    runs: int = 0
    """Past runs that these are from."""

    @classmethod
    def of(cls, session: Session, metric: MetricName, past: Sequence[PastRun]) -> "Chance":
        """From the newest runs of each method that were judged by the metric."""
        newest = {run.spec.method.label: run for run in reversed(past) if run.spec.verdict_metric == metric}
        if not newest:
            return cls(metric, GRADED_SCORE if METRICS[metric].graded else SCORE)
        ids = [run.id for run in newest.values()][-MOST_HELD_AGAINST:]
        scores = evaluations.test_scores(session, ids)
        found = [scores[run_id, "adapted"] for run_id in ids if (run_id, "adapted") in scores]
        alike = [one.scores[None, :] for one in found if one.items_hash == found[-1].items_hash and len(one.scores) > 1]
        return cls(metric, max(run.score for run in newest.values()), seen_disagreement(alike), len(alike))

    @property
    def words(self) -> str:
        """What a smallest difference is worked out from."""
        values = {"metric": title(self.metric), "score": percent(self.score, 0)}
        if self.disagreement is not None:
            return ngettext(
                "the difference from how items varied in %(num)s past run, and what seeds usually change;",
                "the difference from how items varied in %(num)s past runs, and what seeds usually change;",
                self.runs,
            )
        if METRICS[self.metric].graded:
            return _(
                "the difference from %(metric)s %(score)s, items that vary a third as much as right and wrong do, and "
                "what seeds usually change;",
                **values,
            )
        return _("the difference from %(metric)s %(score)s and usual variances;", **values)


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
        return Plan(errors=tuple(map(told, error.fields or (FieldError("", error.message),))))
    past = past_runs.succeeded(session, model.id, dataset.id)
    return _plan(spec, model, dataset, past, Chance.of(session, spec.verdict_metric, past))


def _plan(spec: StudySpec, model: BaseModelRow, dataset: DatasetRow, past: Sequence[PastRun], chance: Chance) -> Plan:
    items, seeds = dataset.facts.counts["test"], len(spec.seeds)
    facts, labels = model.facts, len(dataset.facts.labels)
    total = facts.task_model(spec.task, labels).total if facts else None
    owed = {run.arm: run.spec for run in spec.owed()}

    def shows(count: int) -> float:
        return smallest_difference(
            items,
            count,
            chance.score,
            graded=METRICS[chance.metric].graded,
            disagreement=chance.disagreement,
            comparisons=len(spec.arms) - 1,
        )

    more = range(max(2, seeds + 1), MOST_SEEDS_OFFERED + 1)
    margin = spec.margin_points * POINT
    return Plan(
        arms=tuple(
            ArmPlan(
                arm.title,
                arm.method.facts.family,
                facts.trainable_parameters(arm.method, spec.task, labels) if facts else None,
                total,
                *_seconds(owed[arm.title], past),
            )
            for arm in spec.arms
        ),
        seeds=seeds,
        items=items,
        margin=margin,
        shows=shows(seeds),
        basis=chance.words,
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
