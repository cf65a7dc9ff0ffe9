"""What figures are made of, read from the store: pages and chart files ask for it alike."""

from sqlalchemy.orm import Session

from app.domain.comparison import Arm
from app.domain.runs import RunStatus
from app.services import studies as study_service
from app.services import will_it_fit
from app.settings import Settings
from app.store.queries import evaluations, runs, steps
from app.web.figures import RunEvidence, StudyEvidence
from app.web.figures.curves import Checkpoint
from app.web.figures.owners import Foreseen


def of_study(session: Session, settings: Settings, study_id: int) -> StudyEvidence:
    """What a study's figures are made of. Raises NotFound."""
    found = study_service.comparison(session, study_id)
    ids = [run.run_id for run in found.runs]
    checkpoints: dict[int, list[Checkpoint]] = {}
    for row in evaluations.of_runs(session, ids, "validation"):
        if row.loss is None:
            continue  # imported
        checkpoints.setdefault(row.run_id, []).append(Checkpoint(row.step, row.epoch, row.n, row.loss, row.score))
    foreseen = {arm.title: seen for arm in found.arms if (seen := _foreseen(session, settings, arm))}
    return StudyEvidence(found, steps.read_many(session, ids), checkpoints, foreseen)


def _foreseen(session: Session, settings: Settings, arm: Arm) -> Foreseen | None:
    """Of an arm's first run that succeeded: its seeds need the same."""
    if not arm.succeeded:
        return None
    return Foreseen.of(will_it_fit.of_submitted(session, None, settings, runs.get(session, arm.succeeded[0].run_id)))


def of_run(session: Session, settings: Settings, run_id: int) -> RunEvidence:
    """What a run's figures are made of. Raises NotFound."""
    run = runs.get(session, run_id)
    seen = evaluations.of_runs(session, [run_id], "validation")
    return RunEvidence(
        method_kind=run.method_kind,
        task=run.spec.task,
        status=RunStatus(run.status),
        total_steps=run.total_steps,
        steps=steps.read(session, run_id),
        validation=[(row.step, row.loss) for row in seen if row.subject == "adapted" and row.loss is not None],
        result=run.result,
        failure=run.failure,
        fit=will_it_fit.of_submitted(session, None, settings, run),
    )
