"""The pooled results of a class's study, and when its verdict is taken.

The sweep takes the verdict once the planned number of seeds is complete: it stores which seeds give it. Before that no
page shows the verdict, nor the interval with that many seeds, which would be the verdict's. A seed of it that is
withdrawn later is not replaced by the next one: the verdict is taken back. When as many seeds are complete again,
another verdict is taken, which counts as an interim look, so that a class cannot choose seeds by their results and
keep the confidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.orm import Session

from app.domain.comparison.model import RunOutcome
from app.domain.comparison.statistics.verdict import confidence_after
from app.domain.comparison.study import StudyArm, StudyComparison, compare
from app.domain.runs.status import RunStatus
from app.domain.studies.plan import cluster_sizes
from app.domain.studies.power import EACH_ALONE
from app.domain.studies.spec import StudySpec
from app.features.lab.queries import classes as rows
from app.features.lab.rules.pooled import PooledStep, complete_seeds, steps
from app.features.lab.tables import LabClassStudyRow
from app.services.data import baselines
from app.services.studies import studies as study_service
from app.store.data import queries as datasets
from app.store.database.session import savepoint
from app.store.models import queries as base_models
from app.store.runs import evaluations
from app.store.runs import queries as runs
from app.store.tables import RunRow

log = structlog.get_logger()


@dataclass(frozen=True)
class Pool:
    """The results of a class's study so far."""

    study: LabClassStudyRow
    spec: StudySpec
    started: int
    """Seeds that learners have started."""
    complete: tuple[int, ...]
    """Seeds with a result of every arm, in the order in which they were complete."""
    failed: int
    """Seeds with an arm that has ended without a result."""
    withdrawn: int
    """Seeds whose study was deleted or made private, or whose learner has left."""
    steps: tuple[PooledStep, ...]
    """With fewer seeds than the verdict needs while none is in force."""
    comparison: StudyComparison | None
    """Of the seeds that give the verdict; None before it is taken, and after it was taken back."""

    @property
    def others(self) -> tuple[StudyArm, ...]:
        """Arms with a verdict; none until there is one."""
        return self.comparison.others if self.comparison else ()

    @property
    def planned(self) -> int:
        """Complete seeds that give the verdict."""
        return self.study.planned_seeds

    @property
    def interim_looks(self) -> int:
        """Verdicts that were taken back because a seed was withdrawn."""
        return _looks(self.study, self.comparison)

    @property
    def confidence(self) -> float:
        """Of the verdict, or of the next one; a fraction."""
        return confidence_after(self.interim_looks)


def _looks(chosen: LabClassStudyRow, comparison: StudyComparison | None) -> int:
    return len(chosen.verdicts_json) - (comparison is not None)


@dataclass(frozen=True)
class _Results:
    counting: Sequence[RunRow]
    outcomes: Sequence[RunOutcome]
    complete: tuple[int, ...]

    @property
    def owner_ids(self) -> list[int | None]:
        """Of the runs."""
        return list(dict.fromkeys(run.owner_id for run in self.counting))


def pool(session: Session, class_id: int) -> Pool | None:
    """The results so far, of studies that the session's user may see; None without a study."""
    chosen = rows.study(session, class_id)
    if chosen is None:
        return None
    spec, started = chosen.spec, rows.seeds(session, class_id)
    found = _results(session, chosen)
    ended = {run.seed for run in found.counting if run.status in (RunStatus.FAILED, RunStatus.CANCELLED)}
    verdict = chosen.verdicts_json[-1] if chosen.verdicts_json else []
    comparison = None
    if verdict and set(verdict) <= set(found.complete):
        counted = [outcome for outcome in found.outcomes if outcome.seed in set(verdict)]
        comparison = _compared(session, chosen, spec.model_copy(update={"seeds": verdict}), counted, found.owner_ids)
    shown = found.complete if comparison else found.complete[: chosen.planned_seeds - 1]
    confidence = confidence_after(_looks(chosen, comparison))
    return Pool(
        study=chosen,
        spec=spec,
        started=len(started),
        complete=found.complete,
        failed=len(ended - set(found.complete)),
        withdrawn=len(started) - len({run.seed for run in found.counting}),
        steps=tuple(steps(spec, found.outcomes, shown, confidence)),
        comparison=comparison,
    )


def take_verdicts(session: Session) -> int:
    """Store the seeds of each verdict that is due, and return how many. One class that fails does not stop the others;
    of two sweeps at once the second finds the verdict taken."""
    taken = 0
    for class_id in _due(session):
        try:
            with savepoint(session):
                taken += _take(session, class_id)
        except Exception:  # whatever it is, other classes must not wait for this one
            log.exception("the verdict of a class failed; the next sweep tries again", lab_class=class_id)
    return taken


def _due(session: Session, class_id: int | None = None) -> list[int]:
    """Classes that seem to need a verdict, by id, found without a lock and without reading scores; with `class_id`
    this one at most."""
    stored = rows.with_enough_seeds(session, class_id)
    arms = rows.arms_of_seeds(session, [one.class_id for one in stored])
    due = []
    for one in stored:
        ended = {seed for seed, number in arms[one.class_id].items() if number >= one.arms}
        in_force = one.verdicts and set(one.verdicts[-1]) <= ended
        if len(ended) >= one.planned_seeds and not in_force:
            due.append(one.class_id)
    return due


def _take(session: Session, class_id: int) -> bool:
    chosen = rows.study(session, class_id, lock=True)
    if chosen is None or not _due(session, class_id):  # another sweep may have taken it before the lock
        return False
    complete = _results(session, chosen).complete
    if len(complete) < chosen.planned_seeds:
        return False
    chosen.verdicts_json = [*chosen.verdicts_json, list(complete[: chosen.planned_seeds])]
    session.flush()
    return True


def _results(session: Session, chosen: LabClassStudyRow) -> _Results:
    """The runs of the seeds that are not withdrawn."""
    spec = chosen.spec
    seed_of = {row.study_id: row.seed for row in rows.seeds(session, chosen.class_id) if row.study_id is not None}
    titles, used = {arm.title for arm in spec.arms}, (chosen.base_model_id, chosen.dataset_id)
    counting = [
        run
        for run in runs.of_studies(session, list(seed_of))
        if run.trial_round is None
        and run.private_to is None
        and run.seed == seed_of.get(run.study_id or 0)
        and (run.base_model_id, run.dataset_id) == used
        and run.arm in titles
    ]
    scores = evaluations.test_scores(session, [run.id for run in counting])
    outcomes = [study_service.outcome(run, scores) for run in counting]
    return _Results(counting, outcomes, tuple(complete_seeds(spec, outcomes)))


def _compared(
    session: Session,
    chosen: LabClassStudyRow,
    spec: StudySpec,
    outcomes: Sequence[RunOutcome],
    owner_ids: Sequence[int | None],
) -> StudyComparison:
    """The baselines are those of one learner: where the base model needs a hub token, each learner has their own."""
    model = base_models.by_id(session, chosen.base_model_id)
    dataset = datasets.by_id(session, chosen.dataset_id)
    asking = owner_ids if model and model.restricted else owner_ids[:1]
    requested = [baselines.requests(spec, model, dataset, owner) for owner in asking] if model and dataset else []
    of_each = baselines.stored(session, requested)
    known = max(of_each, key=lambda found: sum(one.status == "ready" for one in found), default=[])
    return compare(
        spec,
        outcomes,
        interim_looks=len(chosen.verdicts_json) - 1,
        test_items=dataset.facts.test_items if dataset else None,
        sizes=cluster_sizes(dataset.facts) if dataset else EACH_ALONE,
        baselines=[*known, *(baselines.not_applicable(spec, dataset) if dataset else ())],
        labels=dataset.facts.labels if dataset else (),
        attention_only=study_service.attention_only(spec, model.facts if model else None),
    )
