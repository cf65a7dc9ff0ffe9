"""Queueing checked runs: single ones, and those of a study. Nothing else inserts runs to execute, so here each run
reserves its device time, and its owner's quota is held: an excess raises before the commit, and nothing is queued."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy.orm import Session

from app.broker.queue import TRAIN, Doorbell
from app.domain.runs.listing.queue import first_precedence
from app.domain.runs.spec import RunSpec
from app.domain.runs.status import RunStatus
from app.domain.studies.spec import OwedRun, StudySpec
from app.domain.studies.tuning.search_space import Configuration
from app.services.resources import estimates
from app.services.users import limits
from app.services.workers.reservations import Predictor, owed_later
from app.store.database.owned import inherited
from app.store.database.ownership import viewer_of
from app.store.database.queued import as_its_study
from app.store.database.session import after_commit
from app.store.runs import events
from app.store.runs import queries as runs
from app.store.tables import BaseModelRow, DatasetRow, RunRow, StudyRow
from app.store.workers import clock


def enqueue_owed(
    session: Session,
    bell: Doorbell,
    study: StudyRow,
    spec: StudySpec,
    owed: Sequence[OwedRun],
    model: BaseModelRow,
    dataset: DatasetRow,
    *,
    more_seeds: int = 0,
) -> None:
    """Queue runs that a study is asked for, in their order, and reserve what its tuning will queue after them. `spec`:
    with these runs. `more_seeds`: arms that are still being tuned get as many more. Raises OverQuota."""
    first = first_precedence(viewer_of(session))
    if study.owner_id is None:
        _insert_owed(session, bell, study, [(run, 0.0) for run in owed], model, dataset, first)
        return
    predictor = Predictor(session, model, dataset, study.owner_id)
    now = [(run, predictor.of_owed(spec, run)) for run in owed]
    added = sum(seconds for _run, seconds in now)
    later = dict(study.reserved_json) if study.tuning else {}
    if study.tuning:
        fresh = owed_later(predictor, spec, [pair for pair in now if pair[0].trial_round is not None])
        tuned = _tuned_arms(session, study, spec) if more_seeds else set()  # also those that reserve nothing yet
        more = {title: more_seeds * predictor.of_arm(spec, spec.arm(title)).device_seconds for title in tuned}
        added += sum(fresh.values()) + sum(more.values())
        later = {title: later.get(title, 0.0) + more.get(title, 0.0) for title in later | more} | fresh
    study.reserved_json = later
    _insert_owed(session, bell, study, now, model, dataset, first)
    limits.require_room(session, study.owner_id, added, predictor.basis)


def _tuned_arms(session: Session, study: StudyRow, spec: StudySpec) -> set[str]:
    """The arms that are still being tuned."""
    done = {*runs.arms_with_runs(session, study.id), *study.stopped_json}
    return {arm.title for arm in spec.arms} - done


def enqueue_follow_up(
    session: Session,
    bell: Doorbell,
    study: StudyRow,
    spec: StudySpec,
    owed: Sequence[OwedRun],
    model: BaseModelRow,
    dataset: DatasetRow,
    settled: Collection[str],
) -> None:
    """Queue what follows from the tuning of an accepted study, out of what is reserved for it. It is never refused.
    `settled`: arms that queue nothing after this."""
    if study.owner_id is None or not owed:
        now = [(run, 0.0) for run in owed]
    else:
        predictor = Predictor(session, model, dataset, study.owner_id)
        now = [(run, predictor.of_owed(spec, run)) for run in owed]
    later = dict(study.reserved_json)
    for run, seconds in now:
        later[run.arm] = max(0.0, later.get(run.arm, 0.0) - seconds)
    study.reserved_json = {title: seconds for title, seconds in later.items() if title not in settled}
    _insert_owed(session, bell, study, now, model, dataset)


def _insert_owed(
    session: Session,
    bell: Doorbell,
    study: StudyRow,
    owed: Iterable[tuple[OwedRun, float]],
    model: BaseModelRow,
    dataset: DatasetRow,
    first: int = 0,
) -> None:
    """`first`: the earliest precedence that they may have."""
    for run, seconds in owed:
        trial = (run.trial_round, run.configuration) if run.trial_round is not None and run.configuration else None
        place = as_its_study(study, first)
        _insert(session, bell, run.spec, model, dataset, place, study=study, arm=run.arm, trial=trial, seconds=seconds)


def enqueue(session: Session, bell: Doorbell, spec: RunSpec, model: BaseModelRow, dataset: DatasetRow) -> RunRow:
    """Queue a run that belongs to no study. Raises OverQuota."""
    run = _insert(session, bell, spec, model, dataset, {})
    if run.owner_id is not None:
        predictor = Predictor(session, model, dataset, run.owner_id)
        run.reserved_seconds = predictor.of_run(run.spec).device_seconds
        session.flush()
        limits.require_room(session, run.owner_id, run.reserved_seconds, predictor.basis)
    return run


def _insert(
    session: Session,
    bell: Doorbell,
    spec: RunSpec,
    model: BaseModelRow,
    dataset: DatasetRow,
    place: Mapping[str, int | bool],
    *,
    study: StudyRow | None = None,
    arm: str = "",
    trial: tuple[int, Configuration] | None = None,
    seconds: float = 0.0,
) -> RunRow:
    """Insert a checked run as `queued`, request its estimate, and ring once it is committed. `place`: its priority and
    pause, if not the usual ones; `trial`: its round of tuning, and what it is a trial of; `seconds`: the device time
    that it reserves."""
    spec = spec.with_default_rate(model.facts.width(spec.task) if model.facts else None)
    run = RunRow(
        study_id=study.id if study else None,
        **(inherited(study) if study else {}),
        **place,
        arm=arm or spec.method.label,
        seed=spec.training.seed,
        trial_round=trial[0] if trial else None,
        trial_json=trial[1].model_dump(exclude_none=True) if trial else None,
        method_kind=spec.method.kind,
        metric=spec.verdict_metric,
        base_model_id=model.id,
        dataset_id=dataset.id,
        learning_rate=spec.learning_rate,
        spec_json=spec.model_dump(mode="json"),
        status=RunStatus.QUEUED.value,
        rung_at=clock.now(session),
        reserved_seconds=seconds,
    )
    session.add(run)
    session.flush()
    run.place = run.id
    events.add(session, run.id, "status", "queued")
    if not run.paused:
        after_commit(session, lambda: bell.ring(TRAIN, run.id))
    estimates.for_submitted(session, bell, run, model, dataset)
    return run
