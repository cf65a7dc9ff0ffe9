"""What loads the model of a run again: its base model, task, method and labels, as a job without an output."""

from app.domain.runs.job import TrainJob
from app.services.models.models import reference_of
from app.store.tables import BaseModelRow, DatasetRow, RunRow, now


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
