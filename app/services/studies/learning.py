"""Why nothing was learned in a study, and the study that would remove a cause."""

from sqlalchemy.orm import Session

from app.domain.comparison.learning.causes import NO_CAUSES, Causes, causes
from app.domain.comparison.learning.loss_trend import LossTrend, loss_trend
from app.domain.comparison.learning.run_learning import RunLearning
from app.domain.comparison.study import StudyComparison
from app.domain.studies.remedies import Remedy, remedied
from app.domain.studies.spec import StudySpec
from app.services.studies import studies
from app.store.data import queries as datasets
from app.store.models import queries as base_models
from app.store.runs import steps
from app.store.studies import queries as study_rows
from app.store.tables import RunRow


def loss_trends(session: Session, run_ids: list[int]) -> dict[int, LossTrend | None]:
    """The trend of each run's training loss; runs without a stored step are missing."""
    return {
        run_id: loss_trend(stored["loss"])
        for run_id, stored in steps.read_many(session, run_ids).items()
        if len(stored)
    }


def run_learning(session: Session, run: RunRow) -> RunLearning | None:
    """What a run learned; None without a result."""
    dataset = datasets.by_id(session, run.dataset_id)
    labels = dataset.facts.labels if dataset else []
    return RunLearning.of(run.result, steps.read(session, run.id), labels) if run.result else None


def causes_of(session: Session, study_id: int, study: StudyComparison) -> Causes:
    """What was measured in the reference arm; nothing where something was learned."""
    if not study.learning.nothing:
        return NO_CAUSES
    arm = study.reference
    trends = loss_trends(session, [run.run_id for run in arm.runs])
    return causes(arm, trends, study.spec.training.max_length, _most_tokens(session, study_id))


def remedied_study(session: Session, study_id: int, remedy: Remedy) -> StudySpec:
    """A study with the change that would remove a cause. Raises NotFound."""
    study = studies.comparison(session, study_id)
    data = next((run.result.data for run in study.reference.runs if run.result and run.result.data), None)
    return remedied(study.spec, remedy, data.long_tokens if data else None, _most_tokens(session, study_id))


def _most_tokens(session: Session, study_id: int) -> int | None:
    """Tokens of a text that the positions of the study's base model allow; None where there is no limit."""
    model = base_models.by_id(session, study_rows.get(session, study_id).base_model_id)
    return model.facts.max_positions if model and model.facts else None
