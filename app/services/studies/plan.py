"""Plan a study, or an arm for an existing one: what it would take, what it can show, and whether it fits."""

from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.comparison.statistics.verdict import confidence_after
from app.domain.errors import Invalid
from app.domain.resources.memory_fit import FitReport
from app.domain.studies.budget_checks import in_seconds, seconds_problem
from app.domain.studies.plan import ArmPlan, StudyPlan, power_of
from app.domain.studies.spec import StudySpec
from app.services.models.compatibility import Compatible, check
from app.services.resources import memory_fit
from app.services.resources.estimates import read_or_request
from app.services.resources.similar_runs import similar_train_seconds
from app.services.studies.defaults import metric_prior, with_defaults
from app.settings import Settings
from app.store.database.session import Database
from app.store.resources import past_runs


class PlannedStudy(NamedTuple):
    """A plan, the memory that it needs, and the time of its trials."""

    plan: StudyPlan
    memory: FitReport
    """With the largest rank of each search."""
    trials: FitReport
    """With the smallest, where the tuning budget is in seconds; otherwise the same as `memory`."""


def planned(
    db: Database,
    bell: Doorbell,
    settings: Settings,
    session: Session,
    spec: StudySpec,
    *,
    interim_looks: int = 0,
    since: int = 0,
    owner_id: int | None = None,
) -> PlannedStudy:
    """Plan a study, and estimate its memory and train times. Raises Invalid where an arm from the place `since` on
    could not be queued; then only the last arm is planned."""
    compatible = check(session, spec, since=since, owner_id=owner_id)
    spec = with_defaults(session, spec, *compatible)
    plan = plan_of(session, spec, compatible, interim_looks)
    if since:
        plan = plan.of_last_arm()

    def estimated(spec: StudySpec) -> FitReport:
        return read_or_request(
            db, bell, lambda reading, b: memory_fit.fit_report(reading, b, settings, spec, *compatible, owner_id)
        )

    report = estimated(plan.spec.largest)
    trials = trial_report(plan.spec, report, estimated)
    if not since:
        check_seconds(spec, compatible, trials)
    worker, times = report.train_times
    return PlannedStudy(plan.with_times(worker, times, report.reference_seconds(worker)), report, trials)


def trial_report(spec: StudySpec, largest: FitReport, estimated: Callable[[StudySpec], FitReport]) -> FitReport:
    """The estimates that a budget in seconds is checked against: `estimated` with the smallest rank of each search, or
    `largest`, those with the largest, where that is the same or no budget is in seconds."""
    same = not in_seconds(spec) or spec.smallest == spec.largest
    return largest if same else estimated(spec.smallest)


def check_seconds(spec: StudySpec, compatible: Compatible, trials: FitReport) -> None:
    """Raise Invalid for a tuning budget in seconds that by the estimates fits no two trials of an arm."""
    rows = compatible.dataset.facts.counts["train"]
    if problem := seconds_problem(spec, rows, trials.least_train_seconds):
        raise Invalid.of([problem])


def plan_of(session: Session, spec: StudySpec, compatible: Compatible, interim_looks: int = 0) -> StudyPlan:
    """Plan a validated study, with train times from similar runs.

    `interim_looks` is the number of interim looks already taken at its results.
    """
    model, dataset = compatible
    past = past_runs.succeeded(session, model.id, dataset.id)
    facts, labels = model.facts, len(dataset.facts.labels)
    total = facts.task_model(spec.task, labels).total if facts else None
    owed = {run.arm: run.spec for run in spec.owed()}
    arms = []
    for arm in spec.arms:
        seconds, device = similar_train_seconds(owed[arm.title], past)
        arms.append(
            ArmPlan(
                title=arm.title,
                family=arm.method.facts.family,
                trainable=facts.trainable_parameters(arm.method, spec.task, labels) if facts else None,
                total=total,
                train_seconds=seconds,
                device=device,
            )
        )
    prior = metric_prior(session, spec.verdict_metric, past)
    power = power_of(spec, dataset.facts, prior, confidence_after(interim_looks))
    return StudyPlan(spec=spec, arms=tuple(arms), power=power)
