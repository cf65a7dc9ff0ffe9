"""The base model once more, beside the one that trained in its place: what full fine-tuning's ΔW is taken against."""

from functools import cached_property

from torch import nn

from app.domain.runs.job import TrainJob
from worker.engine.memory.mapped import MappedFiles
from worker.engine.memory.measured import tensor_bytes
from worker.engine.models.load import load


class Untouched:
    """Loads it when it is first asked for: from the same files, with the same new head."""

    def __init__(self, job: TrainJob, loaded: nn.Module) -> None:
        """`loaded`: the base model as it was just loaded. Weights that lie mapped in their file cost memory only where
        they are read."""
        self._job = job
        files = MappedFiles()
        self.held_bytes = tensor_bytes(p for p in loaded.parameters() if not files.hold(p))
        """What it takes beside the pages of its file: the head; or all of it, where the file has another type."""

    @cached_property
    def model(self) -> nn.Module:
        """In float32 on the CPU, in evaluation mode."""
        job = self._job
        return load(job.model_location, job.model_revision, job.spec.task, job.labels, job.spec.training.seed).model
