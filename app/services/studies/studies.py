"""Studies: submit, watch, compare, add seeds and arms, stop an arm, cancel."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count as naturals
from itertools import islice

from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.accounts.audit import Action
from app.domain.comparison.model import RunOutcome
from app.domain.comparison.study import StudyComparison, compare
from app.domain.errors import Conflict, Invalid, NotFound
from app.domain.messages import _
from app.domain.methods.lora import Ranked
from app.domain.models.base_model import ModelFacts
from app.domain.runs.status import RunStatus
from app.domain.studies.arms import ArmSpec
from app.domain.studies.plan import cluster_sizes
from app.domain.studies.power import EACH_ALONE
from app.domain.studies.spec import MOST_ARMS, OwedRun, StudySpec, StudyStatus, status_of
from app.domain.studies.tuning.search_space import Configuration
from app.domain.tasks import TASKS
from app.services.data import baselines
from app.services.models.compatibility import Compatible, check
from app.services.ownership import ownership
from app.services.runs import runs as run_service
from app.services.studies import interim_looks, tuning
from app.services.studies.defaults import with_defaults
from app.services.users import audit
from app.services.workers.queueing import enqueue_owed
from app.store.data import queries as datasets
from app.store.database.ownership import require_change
from app.store.models import queries as base_models
from app.store.runs import evaluations
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.tables import RunRow, StudyRow

MOST_SEEDS = 100


def submit(session: Session, bell: Doorbell, spec: StudySpec, compatible: Compatible | None = None) -> StudyRow:
    """Queue the runs of a study, or the first trials of its tuning. Raises Invalid, unless it is already checked;
    then nothing is queued."""
    model, dataset = compatible or check(session, spec)
    ownership.require_uses(session, spec, model, dataset)
    spec = with_defaults(session, spec, model, dataset)
    study = StudyRow(
        name=spec.name, base_model_id=model.id, dataset_id=dataset.id, spec_json=spec.model_dump(mode="json")
    )
    study.tuning = bool(spec.tuning.rounds)
    session.add(study)
    session.flush()
    owed = spec.first_trials() if study.tuning else spec.owed()
    enqueue_owed(session, bell, study, spec, owed, model, dataset)
    baselines.request(session, bell, study, spec, model, dataset)
    arms = [arm.title for arm in spec.arms]
    audit.record(session, Action.SUBMIT_STUDY, study.id, name=spec.name, base_model=model.name, arms=arms)
    return study


def add_seeds(session: Session, bell: Doorbell, study_id: int, count: int) -> StudyRow:
    """Add `count` new seeds to every arm of a study that was not stopped and did not fail with every seed. Raises
    NotFound, Invalid, and Conflict if no arm can take them.

    Arms that are still being tuned get the new seeds with the others, once a configuration is chosen. If results are
    already visible, this is an interim look: the next verdicts have a higher confidence.
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
    model, dataset = check(session, as_begun(session, study, more), owner_id=study.owner_id)
    configurations = _configurations_in_use(session, study)
    if not configurations and not study.tuning:
        raise Conflict(
            _(
                "No arm of study %(study_id)s can take more seeds: each was stopped, failed, or has no configuration.",
                study_id=study_id,
            )
        )
    owed = more.owed(configurations)
    enqueue_owed(session, bell, study, more, owed, model, dataset, more_seeds=count)
    baselines.request(session, bell, study, spec, model, dataset)  # again, where one could not be computed
    extended = StudySpec.model_validate(spec.model_dump() | {"seeds": [*spec.seeds, *seeds]})
    study.spec_json = extended.model_dump(mode="json")
    interim_looks.count_growth(session, study)
    session.flush()
    audit.record(session, Action.ADD_SEEDS, study_id, count=count)
    return study


def with_arm(session: Session, spec: StudySpec, arm: ArmSpec) -> StudySpec:
    """A study with one more arm and the same reference. Raises pydantic's ValidationError."""
    if len(spec.arms) >= MOST_ARMS:
        raise Invalid.field("", _("The study already has %(most)s arms", most=MOST_ARMS), _("Start another study"))
    model = base_models.by_name(session, spec.base_model)
    width = model.facts.width(spec.task) if model and model.facts else None
    arm = arm.with_default_rate(width, TASKS[spec.task].rate_factor)
    more = {"arms": [*spec.arms, arm], "reference": spec.reference_arm}
    return StudySpec.model_validate(spec.model_dump() | more)


def as_begun(session: Session, study: StudyRow, spec: StudySpec) -> StudySpec:
    """An extended spec with the dataset version of the study's first runs: runs on another version are not
    comparable."""
    dataset = datasets.by_id(session, study.dataset_id)
    return spec.model_copy(update={"dataset": dataset.reference}) if dataset else spec


def add_arm(
    session: Session, bell: Doorbell, study_id: int, arm: ArmSpec, compatible: Compatible | None = None
) -> StudyRow:
    """Add an arm to a study, with the seeds of the others; with tuning, its own trials come first. If results are
    already visible, this is an interim look. Raises NotFound, Invalid and pydantic's ValidationError."""
    study = _growing(session, study_id)
    extended = with_arm(session, study.spec, arm)
    arm = extended.arms[-1]  # which has a name
    since, begun = len(extended.arms) - 1, as_begun(session, study, extended)
    model, dataset = compatible or check(session, begun, since=since, owner_id=study.owner_id)
    interim_looks.count_growth(session, study)
    owed: list[OwedRun]
    if extended.tuning.rounds:
        owed = [trial for trial in extended.first_trials() if trial.arm == arm.title]
        study.tuning = True
    else:
        owed = extended.owed({arm.title: Configuration()})
    enqueue_owed(session, bell, study, extended, owed, model, dataset)
    baselines.request(session, bell, study, extended, model, dataset)
    study.spec_json = extended.model_dump(mode="json")
    session.flush()
    audit.record(session, Action.ADD_ARM, study_id, arm=arm.title)
    return study


def stop_arm(session: Session, bell: Doorbell, study_id: int, title: str) -> StudyRow:
    """Cancel the remaining runs of an arm; its results stay. If results are visible and there is one other arm, this is
    an interim look. Raises NotFound, and Conflict if no run remains."""
    study = studies.get(session, study_id, lock=True)
    require_change(session, study)
    if title not in [arm.title for arm in study.spec.arms]:
        values = {"study_id": study_id, "title": title, "arms": ", ".join(a.title for a in study.spec.arms)}
        raise NotFound(_("Study %(study_id)s has no arm %(title)r. Choose from: %(arms)s.", **values))
    live = [run for run in _live(session, study_id) if run.arm == title]
    waits = study.tuning and title not in runs.arms_with_runs(session, study_id)
    if title in study.stopped_json or not (live or waits):
        raise Conflict(
            _("All runs of the arm %(title)r of study %(study_id)s have already ended.", title=title, study_id=study_id)
        )
    interim_looks.count_stopped_arm(session, study)
    study.stopped_json = [*study.stopped_json, title]
    session.flush()
    _cancel(session, bell, live)
    tuning.advance(session, bell, study_id)
    audit.record(session, Action.STOP_ARM, study_id, arm=title)
    return study


def _growing(session: Session, study_id: int) -> StudyRow:
    """A study to which runs are added, locked. Raises NotFound, and Conflict while it is archived."""
    study = studies.get(session, study_id, lock=True)
    require_change(session, study)
    if study.archived:
        raise Conflict(_("Study %(study)s is archived: unarchive it first.", study=study_id))
    return study


def _configurations_in_use(session: Session, study: StudyRow) -> dict[str, Configuration]:
    """Configurations of the arms that can take more seeds: not stopped, and not failed with every seed."""
    chosen = tuning.chosen_configurations(study.spec, tuning.by_arm(runs.trials_of(session, study.id)))
    counting = [run for run in runs.of_study(session, study.id) if run.trial_round is None]
    going = {run.arm for run in counting if run.status != RunStatus.FAILED} - set(study.stopped_json)
    return {title: configuration for title, configuration in chosen.items() if title in going}


def _live(session: Session, study_id: int) -> list[RunRow]:
    return [run for run in runs.of_study(session, study_id) if not RunStatus(run.status).terminal]


def _cancel(session: Session, bell: Doorbell, live: Sequence[RunRow]) -> None:
    for run in live:
        try:
            run_service.stop(session, bell, run.id)
        except Conflict:
            continue  # it has ended in the meantime


def cancel(session: Session, bell: Doorbell, study_id: int) -> StudyRow:
    """Cancel every run of a study that has not ended, and its tuning, also one that fails again and again. If results
    are visible, this is an interim look. Raises NotFound, and Conflict if there is neither."""
    study = studies.get(session, study_id, lock=True)
    require_change(session, study)
    live = _live(session, study_id)
    if not live and not study.tuning:
        raise Conflict(_("All runs of study %(study_id)s have already ended.", study_id=study_id))
    interim_looks.count_cancelled(session, study)
    if study.tuning:  # what an arm added later would set going again
        unsettled = {arm.title for arm in study.spec.arms} - runs.arms_with_runs(session, study_id)
        study.stopped_json = [*study.stopped_json, *sorted(unsettled - set(study.stopped_json))]
        study.tuning, study.reserved_json = False, {}
    study.paused = False  # what is added later is not to wait for what was cancelled
    session.flush()
    _cancel(session, bell, live)
    audit.record(session, Action.CANCEL_STUDY, study_id, runs=len(live))
    return study


@dataclass(frozen=True)
class StudyProgress:
    study: StudyRow
    status: StudyStatus
    runs: list[RunRow]
    """In the order in which the study queues them."""

    @property
    def done(self) -> int:
        """Runs that have ended, in any way."""
        return sum(RunStatus(run.status).terminal for run in self.runs)


def progress(session: Session, study_id: int) -> StudyProgress:
    """A study with its runs. Raises NotFound."""
    study = studies.get(session, study_id)
    rows = runs.of_study(session, study_id)
    return StudyProgress(study, status_of([RunStatus(run.status) for run in rows]), rows)


def comparison(session: Session, study_id: int) -> StudyComparison:
    """The comparison of a study by its runs so far. Raises NotFound."""
    return comparisons(session, [studies.get(session, study_id)])[study_id]


def comparisons(session: Session, rows: Sequence[StudyRow]) -> dict[int, StudyComparison]:
    runs_by_study: dict[int, list[RunRow]] = {row.id: [] for row in rows}
    for run in runs.of_studies(session, list(runs_by_study)):
        runs_by_study[run.study_id or 0].append(run)
    counting = [run.id for study_runs in runs_by_study.values() for run in study_runs if run.trial_round is None]
    scores = evaluations.test_scores(session, counting)
    used = [(base_models.by_id(session, row.base_model_id), datasets.by_id(session, row.dataset_id)) for row in rows]
    requested = [
        baselines.requests(row.spec, model, dataset, row.owner_id) if model and dataset else []
        for row, (model, dataset) in zip(rows, used, strict=True)
    ]
    by_id = {}
    for row, (model, dataset), known in zip(rows, used, baselines.stored(session, requested), strict=True):
        by_id[row.id] = compare(
            row.spec,
            [outcome(run, scores) for run in runs_by_study[row.id] if run.trial_round is None],
            trials=[trial for trials in tuning.by_arm(runs_by_study[row.id]).values() for trial in trials],
            stopped=row.stopped_json,
            interim_looks=row.interim_looks,
            test_items=dataset.facts.test_items if dataset else None,
            sizes=cluster_sizes(dataset.facts) if dataset else EACH_ALONE,
            baselines=[*known, *(baselines.not_applicable(row.spec, dataset) if dataset else ())],
            labels=dataset.facts.labels if dataset else (),
            attention_only=attention_only(row.spec, model.facts if model else None),
        )
    return by_id


def attention_only(spec: StudySpec, facts: ModelFacts | None) -> list[str]:
    """Arms with a low-rank update of attention layers alone; none of a model that is not known."""
    model = facts.tasks.get(spec.task) if facts else None
    if model is None:
        return []
    return [a.title for a in spec.arms if isinstance(a.method, Ranked) and a.method.attention_only(model)]


def outcome(run: RunRow, scores: dict[tuple[int, str], evaluations.ItemScores]) -> RunOutcome:
    """A run as a comparison sees it; `scores` are those of its test items, by run and subject."""
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
        clusters=adapted.clusters if adapted else None,
        worker=run.worker,
        started_at=run.started_at,
        finished_at=run.finished_at,
    )
