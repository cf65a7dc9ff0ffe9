"""Tuning while a study runs: the transaction that ends a trial also queues the next step of its arm.

    trial ends → hold(): the study's row is locked → its end is written → trial_ended() → advance()

The transaction locks the study before it ends a trial. Of two trials that end at the same time the second therefore
sees the first as ended, and nothing is queued twice. The sweep advances a study that is stuck nevertheless, because the
next step depends only on the trials in the database, never on earlier steps.
"""

from collections.abc import Mapping, Sequence

import structlog
from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.runs.status import RunStatus
from app.domain.studies.next_step import Chosen, Step, Suggest, Try, Wait, next_step
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.search_space import Configuration, SearchSpace
from app.domain.studies.tuning.tpe import suggest
from app.domain.studies.tuning.trials import Reached, Trial, Tried, reached, tried
from app.domain.studies.tuning.tuning import NoTuning, TpeTuning
from app.services.workers.queueing import enqueue_follow_up
from app.store.data import queries as datasets
from app.store.database.session import savepoint
from app.store.models import queries as base_models
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.tables import RunRow

log = structlog.get_logger()


def hold(session: Session, run: RunRow) -> None:
    """Lock the study of a trial until the transaction ends, before the trial's status changes; does nothing for other
    runs. A study is always locked before its runs, which prevents deadlocks."""
    if run.trial_round is not None and run.study_id is not None:
        studies.get(session, run.study_id, lock=True)


def trial_ended(session: Session, bell: Doorbell, run: RunRow) -> None:
    """Queue what follows the end of a trial; does nothing for other runs. The trial ends in any case: a failure is left
    to the sweep."""
    if run.trial_round is not None and run.study_id is not None:
        try_to_advance(session, bell, run.study_id)


def try_to_advance(session: Session, bell: Doorbell, study_id: int) -> None:
    """Advance a study; if that fails, log it and undo nothing else of the transaction."""
    try:
        with savepoint(session):
            advance(session, bell, study_id)
    except Exception:  # whatever it is, other studies must not wait for this one
        log.exception("tuning failed; the sweep tries again", study=study_id)


def advance(session: Session, bell: Doorbell, study_id: int) -> int:
    """Queue the next round, or the runs that count, of every arm whose trials have ended. Returns the number of queued
    runs.

    Arms without a usable configuration and stopped arms are skipped. Raises NotFound.
    """
    study = studies.get(session, study_id, lock=True)
    if not study.tuning:
        return 0
    spec, trials = study.spec, by_arm(runs.trials_of(session, study_id))
    done = {*runs.arms_with_runs(session, study_id), *study.stopped_json}
    steps = {arm.title: _step(spec, arm.title, trials) for arm in spec.arms if arm.title not in done}
    owed = spec.owed({title: step.configuration for title, step in steps.items() if isinstance(step, Chosen)})
    for title, step in steps.items():
        arm = spec.arm(title)
        if isinstance(step, Try):
            owed += spec.trials(arm, step.round, step.configurations)
        elif isinstance(step, Suggest) and isinstance(spec.tuning, TpeTuning):
            owed += spec.trials(arm, 0, [_suggested(spec.tuning, spec.space(arm), tried(trials[title], 0))])
    model, dataset = base_models.by_id(session, study.base_model_id), datasets.by_id(session, study.dataset_id)
    assert model is not None and dataset is not None  # noqa: S101 foreign keys hold them
    going_on = {title for title, step in steps.items() if isinstance(step, Wait | Try | Suggest)}
    enqueue_follow_up(session, bell, study, spec, owed, model, dataset, {arm.title for arm in spec.arms} - going_on)
    study.tuning = bool(going_on)
    session.flush()
    return len(owed)


def chosen_configurations(spec: StudySpec, trials: Mapping[str, Sequence[Trial]]) -> dict[str, Configuration]:
    """The configuration of every arm that has one; without tuning, every arm's own."""
    if isinstance(spec.tuning, NoTuning):
        return {arm.title: Configuration() for arm in spec.arms}
    steps = {arm.title: _step(spec, arm.title, trials) for arm in spec.arms}
    return {title: step.configuration for title, step in steps.items() if isinstance(step, Chosen)}


def by_arm(rows: Sequence[RunRow]) -> dict[str, list[Trial]]:
    """Trials by arm; other runs are left out."""
    trials_by_arm: dict[str, list[Trial]] = {}
    for row in rows:
        if row.trial_round is not None:
            trials_by_arm.setdefault(row.arm, []).append(_trial(row, row.trial_round))
    return trials_by_arm


def _suggested(tuning: TpeTuning, space: SearchSpace, entries: Sequence[Tried]) -> Configuration:
    """The sampler's suggestion; if it fails, a random configuration."""
    try:
        return suggest(space, tuning.seed, entries)
    except Exception:  # whatever it is, the search goes on
        log.exception("the TPE sampler failed; the next configuration is drawn at random")
        return space.draw(1, tuning.seed, [entry.configuration for entry in entries])[0]


def _step(spec: StudySpec, title: str, trials: Mapping[str, Sequence[Trial]]) -> Step:
    assert not isinstance(spec.tuning, NoTuning)  # noqa: S101 a study without tuning has no steps
    return next_step(spec.tuning, spec.space(spec.arm(title)), trials.get(title, ()))


def _trial(row: RunRow, round_: int) -> Trial:
    assert row.learning_rate is not None  # noqa: S101  (only an imported run may lack one)
    result = row.result
    kept = reached(result) if result else Reached()
    return Trial(
        run_id=row.id,
        arm=row.arm,
        configuration=row.configuration,
        rate=row.learning_rate,
        round=round_,
        seed=row.seed,
        status=RunStatus(row.status),
        score=kept.score,
        loss=kept.loss,
        items=kept.items,
        steps=result.steps if result else row.step,
        tokens=result.tokens if result else None,
        seconds=row.device_seconds,
        shared=row.shared_seconds is not None,
        failure=row.failure,
    )
