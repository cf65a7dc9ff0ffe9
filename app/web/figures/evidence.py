"""What figures are made of, read from the store: pages and chart files ask for it alike."""

from sqlalchemy.orm import Session

from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.runs.status import RunStatus
from app.services import studies as study_service
from app.services.resources import memory_fit
from app.settings import Settings
from app.store.queries import evaluations, runs, steps, weight_deltas
from app.web.figures import RunEvidence, StudyEvidence
from app.web.figures.owners import Foreseen
from app.web.figures.reports import Checkpoint
from app.web.figures.updates import ArmWeightDeltas


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
    return StudyEvidence(found, steps.read_many(session, ids), checkpoints, foreseen, _updates(session, found))


def _updates(session: Session, found: StudyComparison) -> dict[str, ArmWeightDeltas]:
    """Of each arm whose runs were looked at: the first seed's spectra, and every seed's summary."""
    summaries = weight_deltas.summaries(session, [run.run_id for run in found.runs])
    looked_at = {arm.title: [run for run in arm.succeeded if run.run_id in summaries] for arm in found.arms}
    first = {title: seen[0] for title, seen in looked_at.items() if seen}
    whole = weight_deltas.of_runs(session, [run.run_id for run in first.values()])
    return {
        title: ArmWeightDeltas(
            run_id=run.run_id,
            seed=run.seed,
            found=whole[run.run_id],
            effective_ranks=tuple(s.effective_rank for r in looked_at[title] if (s := summaries[r.run_id])),
        )
        for title, run in first.items()
    }


def _foreseen(session: Session, settings: Settings, arm: StudyArm) -> Foreseen | None:
    """Of an arm's first run that succeeded: its seeds need the same."""
    if not arm.succeeded:
        return None
    return Foreseen.of(memory_fit.of_submitted(session, None, settings, runs.get(session, arm.succeeded[0].run_id)))


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
        fit=memory_fit.of_submitted(session, None, settings, run),
        label=run.spec.method.label,
        updates=weight_deltas.of_runs(session, [run_id]).get(run_id),
    )
