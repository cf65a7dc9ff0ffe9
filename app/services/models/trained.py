"""What loads the model of a run again: the files that it saved, and its base model, task, method and labels, as a job
without an output."""

from sqlalchemy.orm import Session

from app.domain.runs.job import TrainJob
from app.services.models.models import reference_of
from app.store.runs import artifacts
from app.store.runs import queries as runs
from app.store.tables import ArtifactRow, BaseModelRow, DatasetRow, RunRow, now


def job_of(run: RunRow, model: BaseModelRow, dataset: DatasetRow) -> TrainJob:
    """The job. Its location is a reference (`reference_of`), its dataset's file a name in the files store."""
    return TrainJob(
        run_id=run.id,
        epoch=run.epoch,
        spec=run.spec,
        model_location=reference_of(model.source, model.location),
        model_fingerprint=model.pinned,
        model_files=model.facts.files if model.source == "hub" and model.facts else [],
        model_revision=model.pinned if model.source == "hub" else "",
        dataset_file=dataset.file,
        dataset_format=dataset.facts.format,
        labels=dataset.facts.labels,
        output="",
        device="cpu",
        claimed_at=now().timestamp(),
    )


def saved_weights(session: Session, run: RunRow) -> list[ArtifactRow]:
    """The files that hold what a run trained."""
    return [file for file in artifacts.of_run(session, run.id) if file.kind in runs.WEIGHTS]
