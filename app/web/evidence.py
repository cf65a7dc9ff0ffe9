"""What figures are made of, read from the store: pages and chart files ask for it alike."""

from sqlalchemy.orm import Session

from app.domain.runs import RunStatus
from app.services import studies as study_service
from app.store.queries import evaluations, runs, steps
from app.web.figures import RunEvidence, StudyEvidence
from app.web.figures.curves import Checkpoint


def of_study(session: Session, study_id: int) -> StudyEvidence:
    """What a study's figures are made of. Raises NotFound."""
    found = study_service.comparison(session, study_id)
    ids = [run.run_id for run in found.runs]
    checkpoints: dict[int, list[Checkpoint]] = {}
    for row in evaluations.of_runs(session, ids, "validation"):
        checkpoints.setdefault(row.run_id, []).append(Checkpoint(row.step, row.epoch, row.n, row.loss, row.score))
    return StudyEvidence(found, steps.read_many(session, ids), checkpoints)


def of_run(session: Session, run_id: int) -> RunEvidence:
    """What a run's figures are made of. Raises NotFound."""
    run = runs.get(session, run_id)
    seen = evaluations.of_runs(session, [run_id], "validation")
    return RunEvidence(
        method_kind=run.method_kind,
        task=run.spec.task,
        status=RunStatus(run.status),
        total_steps=run.total_steps,
        steps=steps.read(session, run_id),
        validation=[(row.step, row.loss) for row in seen if row.subject == "adapted"],
        result=run.result,
    )
