"""A second copy of the base model, from which the weight delta of full fine-tuning is computed."""

from functools import cached_property

from torch import nn

from app.domain.runs.job import TrainJob
from worker.engine.memory.mapped import MappedFiles
from worker.engine.memory.measured import tensor_bytes
from worker.engine.models.load import load


class BaseModelCopy:
    """Loads the base model on first use, from the same files and with the same new head."""

    def __init__(self, job: TrainJob, loaded: nn.Module) -> None:
        """`loaded`: the base model as it was just loaded. Weights mapped from their file take memory only where they
        are read."""
        self._job = job
        files = MappedFiles()
        self.held_bytes = tensor_bytes(p for p in loaded.parameters() if not files.hold(p))
        """Bytes of the copy beside the mapped pages: the head, or everything if the file has another dtype."""

    @cached_property
    def model(self) -> nn.Module:
        """In float32 on the CPU, in evaluation mode."""
        job = self._job
        return load(job.model_location, job.model_revision, job.spec.task, job.labels, job.spec.training.seed).model
