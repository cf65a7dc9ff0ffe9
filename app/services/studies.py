"""Studies: submit, watch, weigh, add seeds and arms, stop an arm, cancel."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count as naturals
from itertools import islice

from sqlalchemy.orm import Session

from app.domain.comparison.model import RunOutcome
from app.domain.comparison.study import StudyComparison, compare
from app.domain.errors import Conflict, Invalid, NotFound
from app.domain.messages import _
from app.domain.runs.status import RunStatus
from app.domain.studies.spec import MOST_ARMS, ArmSpec, OwedRun, StudySpec, StudyStatus, status_of
from app.queue import Doorbell
from app.services import runs as run_service
from app.services import tuning
from app.services.compatibility import check_study
from app.services.queueing import enqueue_owed
from app.store.queries import datasets, evaluations, runs, studies
from app.store.tables import RunRow, StudyRow

MOST_SEEDS = 100


def submit(session: Session, bell: Doorbell, spec: StudySpec) -> StudyRow:
    """Accept a study and queue every run that it owes, or the trials that its tuning begins with. Raises Invalid; then
    nothing is queued."""
    model, dataset = check_study(session, spec)
    study = StudyRow(
        name=spec.name, base_model_id=model.id, dataset_id=dataset.id, spec_json=spec.model_dump(mode="json")
    )
    study.tuning = bool(spec.tuning.rounds)
    session.add(study)
    session.flush()
    enqueue_owed(session, bell, study, spec.first_trials() if study.tuning else spec.owed(), model, dataset)
    return study


def add_seeds(session: Session, bell: Doorbell, study_id: int, count: int) -> StudyRow:
    """Add `count` new seeds to every arm of a study that has not been stopped, and did not fail with each of those that
    it had. Raises NotFound, Invalid, and Conflict if no arm could take them.

    Arms whose rates are still being looked for get them with the others, once a rate is chosen. Where results could be
    seen already, the verdict that follows is another look.
    """
    study = _growing(session, study_id)
    spec = study.spec
    if count < 1 or len(spec.seeds) + count > MOST_SEEDS:
        raise Invalid.field(
            "count",
            _("The study cannot take %(count)s more seeds: it has %(seeds)s", count=count, seeds=len(spec.seeds)),
            _("Add 1 to %(most)s", most=MOST_SEEDS - len(spec.seeds)),
        )
    seeds = list(islice((seed for seed in naturals() if seed not in spec.seeds), count))
    more = StudySpec.model_validate(spec.model_dump() | {"seeds": seeds})
    model, dataset = check_study(session, as_begun(session, study, more))
    rates = _rates_in_use(session, study)
    if not rates and not study.tuning:
        raise Conflict(
            _(
                "No arm of study %(study_id)s can take more seeds: each was stopped, failed, or has no learning rate.",
                study_id=study_id,
            )
        )
    enqueue_owed(session, bell, study, more.owed(rates), model, dataset)
    whole = StudySpec.model_validate(spec.model_dump() | {"seeds": [*spec.seeds, *seeds]})
    study.spec_json = whole.model_dump(mode="json")
    if any(run.status == RunStatus.SUCCEEDED and run.trial_round is None for run in runs.of_study(session, study_id)):
        study.looks += 1
    session.flush()
    return study


def with_arm(spec: StudySpec, arm: ArmSpec) -> StudySpec:
    """A study with one more arm, whose reference stays what it was. Raises pydantic's ValidationError."""
    if len(spec.arms) >= MOST_ARMS:
        raise Invalid.field("", _("The study already has %(most)s arms", most=MOST_ARMS), _("Start another study"))
    more = {"arms": [*spec.arms, arm], "reference": spec.reference_arm}
    return StudySpec.model_validate(spec.model_dump() | more)


def as_begun(session: Session, study: StudyRow, spec: StudySpec) -> StudySpec:
    """A study's spec, grown, on the version of the data that it began with: a newer one would be another question."""
    dataset = datasets.by_id(session, study.dataset_id)
    return spec.model_copy(update={"dataset": dataset.reference}) if dataset else spec


def add_arm(session: Session, bell: Doorbell, study_id: int, arm: ArmSpec) -> StudyRow:
    """Add an arm to a study, on the seeds that it has; with tuning, its own trials come first. Raises NotFound,
    Invalid and pydantic's ValidationError."""
    study = _growing(session, study_id)
    whole = with_arm(study.spec, arm)
    model, dataset = check_study(session, as_begun(session, study, whole), since=len(whole.arms) - 1)
    owed: list[OwedRun]
    if whole.tuning.rounds:
        owed = whole.trials(arm, 0, whole.rates(arm))
        study.tuning = True
    else:
        owed = whole.owed({arm.title: arm.rate})
    enqueue_owed(session, bell, study, owed, model, dataset)
    study.spec_json = whole.model_dump(mode="json")
    session.flush()
    return study


def stop_arm(session: Session, bell: Doorbell, study_id: int, title: str) -> StudyRow:
    """Cancel what an arm still has to do; the others go on, and what it has done stays. Raises NotFound, and Conflict
    if it has nothing left to do."""
    study = studies.get(session, study_id, lock=True)
    if title not in [arm.title for arm in study.spec.arms]:
        raise NotFound(
            _(
                "Study %(study_id)s has no arm %(title)r. Choose from: %(arms)s.",
                study_id=study_id,
                title=title,
                arms=", ".join(a.title for a in study.spec.arms),
            )
        )
    live = [run for run in _live(session, study_id) if run.arm == title]
    waits = study.tuning and title not in runs.arms_with_runs(session, study_id)
    if title in study.stopped_json or not (live or waits):
        raise Conflict(
            _("All runs of the arm %(title)r of study %(study_id)s have already ended.", title=title, study_id=study_id)
        )
    study.stopped_json = [*study.stopped_json, title]
    session.flush()
    _cancel(session, bell, live)
    tuning.advance(session, bell, study_id)
    return study


def _growing(session: Session, study_id: int) -> StudyRow:
    """A study that is to get more runs, locked. Raises NotFound, and Conflict while it is archived."""
    study = studies.get(session, study_id, lock=True)
    if study.archived:
        raise Conflict(_("Study %(study)s is archived: unarchive it first.", study=study_id))
    return study


def _rates_in_use(session: Session, study: StudyRow) -> dict[str, float]:
    """The rates of the arms that have runs which count, were not stopped, and did not fail each time."""
    rates = tuning.chosen_rates(study.spec, tuning.by_arm(runs.trials_of(session, study.id)))
    counting = [run for run in runs.of_study(session, study.id) if run.trial_round is None]
    going = {run.arm for run in counting if run.status != RunStatus.FAILED} - set(study.stopped_json)
    return {title: rate for title, rate in rates.items() if title in going}


def _live(session: Session, study_id: int) -> list[RunRow]:
    return [run for run in runs.of_study(session, study_id) if not RunStatus(run.status).terminal]


def _cancel(session: Session, bell: Doorbell, live: Sequence[RunRow]) -> None:
    for run in live:
        try:
            run_service.cancel(session, bell, run.id)
        except Conflict:
            continue  # it ended in the meantime


def cancel(session: Session, bell: Doorbell, study_id: int) -> StudyRow:
    """Cancel every run of a study that has not ended; no more will follow from its trials. Raises NotFound, and
    Conflict if all have."""
    study = studies.get(session, study_id, lock=True)
    live = _live(session, study_id)
    if not live:
        raise Conflict(_("All runs of study %(study_id)s have already ended.", study_id=study_id))
    if study.tuning:  # what an arm added later would set going again
        unsettled = {arm.title for arm in study.spec.arms} - runs.arms_with_runs(session, study_id)
        study.stopped_json = [*study.stopped_json, *sorted(unsettled - set(study.stopped_json))]
        study.tuning = False
    session.flush()
    _cancel(session, bell, live)
    return study


@dataclass(frozen=True)
class StudyProgress:
    """Where a study stands."""

    study: StudyRow
    status: StudyStatus
    runs: list[RunRow]
    """In the order in which the study owes them."""

    @property
    def done(self) -> int:
        """Runs that have ended, however."""
        return sum(RunStatus(run.status).terminal for run in self.runs)


def progress(session: Session, study_id: int) -> StudyProgress:
    """A study with its runs. Raises NotFound."""
    study = studies.get(session, study_id)
    rows = runs.of_study(session, study_id)
    return StudyProgress(study, status_of([RunStatus(run.status) for run in rows]), rows)


def comparison(session: Session, study_id: int) -> StudyComparison:
    """A study weighed by the runs that it has so far. Raises NotFound."""
    return comparisons(session, [studies.get(session, study_id)])[study_id]


def comparisons(session: Session, rows: Sequence[StudyRow]) -> dict[int, StudyComparison]:
    """Several studies weighed, by id."""
    of_study: dict[int, list[RunRow]] = {row.id: [] for row in rows}
    for run in runs.of_studies(session, list(of_study)):
        of_study[run.study_id or 0].append(run)
    counting = [run.id for found in of_study.values() for run in found if run.trial_round is None]
    scores = evaluations.test_scores(session, counting)
    found = {}
    for row in rows:
        dataset = datasets.by_id(session, row.dataset_id)
        found[row.id] = compare(
            row.spec,
            [_outcome(run, scores) for run in of_study[row.id] if run.trial_round is None],
            trials=[trial for those in tuning.by_arm(of_study[row.id]).values() for trial in those],
            stopped=row.stopped_json,
            interim_looks=row.looks,
            test_items=dataset.facts.counts["test"] if dataset else None,
        )
    return found


def _outcome(run: RunRow, scores: dict[tuple[int, str], evaluations.ItemScores]) -> RunOutcome:
    succeeded = run.status == RunStatus.SUCCEEDED
    adapted = scores.get((run.id, "adapted")) if succeeded else None
    base = scores.get((run.id, "base")) if succeeded else None
    return RunOutcome(
        run_id=run.id,
        arm=run.arm,
        seed=run.seed,
        status=RunStatus(run.status),
        result=run.result,
        failure=run.failure,
        scores=adapted.scores if adapted else None,
        base_scores=base.scores if base else None,
        items_hash=adapted.items_hash if adapted else None,
        worker=run.worker,
        started_at=run.started_at,
        finished_at=run.finished_at,
    )
