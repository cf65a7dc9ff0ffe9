"""Make a run's base model available on this machine: download a hub model's files, or check the inspected directory."""

from pathlib import Path

from app.domain.failures import FailureCode, RunFailed
from app.domain.runs.job import TrainJob
from app.domain.runs.status import Phase
from worker.engine.models import hub
from worker.engine.models.weights import fingerprint
from worker.engine.progress import Instruments


def fetch_model(job: TrainJob, instruments: Instruments) -> TrainJob:
    """The job with a local directory for its model. Missing files of a hub model are downloaded, in a phase of their
    own.

    Raises `RunFailed` with `model_unavailable`, also for a directory that has changed since it was inspected, because
    its runs would be compared with runs on other weights; with `disk_full` before a download without room; and
    `Stopped`.
    """
    location = job.model_location
    if Path(location).is_absolute():
        _refuse_changed(Path(location), job.model_fingerprint)
        return job
    commit, files = job.model_revision, job.model_files
    if not files:
        _folder, commit, files = hub.look(location, commit)
    if hub.missing(location, commit, files):
        instruments.enter(Phase.DOWNLOAD)

        def report(done_bytes: int, total_bytes: int) -> None:
            instruments.sink.download(done_bytes, total_bytes)
            instruments.sink.raise_if_stopped()

        hub.download(location, commit, files, report)
    folder = hub.cached(location, commit)
    return job.model_copy(update={"model_location": str(folder), "model_revision": ""})


def _refuse_changed(directory: Path, known: str) -> None:
    if known and directory.is_dir() and fingerprint(directory) != known:
        raise RunFailed(
            FailureCode.MODEL_UNAVAILABLE,
            "The files in the base model's directory have changed since it was inspected, and runs on other weights "
            "cannot be compared. Restore the former files, or register the directory under another name.",
        )
