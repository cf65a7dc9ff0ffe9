"""Why a run fails: a closed list of codes, each with a sentence that says what to do."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from app.domain.errors import VeznaError
from app.domain.messages import Message, _
from app.domain.resources.ledger import Ledger


class FailureCode(StrEnum):
    """Why a run failed: a closed list."""

    OUT_OF_MEMORY = "out_of_memory"
    HOST_OOM = "host_oom"
    KILLED = "killed"
    DEVICE_LOST = "device_lost"
    DIVERGED = "diverged"
    AUDIT = "audit"
    BAD_CONFIGURATION = "bad_configuration"
    MODEL_UNAVAILABLE = "model_unavailable"
    DATASET_UNAVAILABLE = "dataset_unavailable"
    DISK_FULL = "disk_full"
    STALLED = "stalled"
    LOST = "lost"
    ELSEWHERE = "elsewhere"
    INTERNAL = "internal"


FAILURES: dict[FailureCode, Message] = {
    FailureCode.OUT_OF_MEMORY: _(
        "The device ran out of memory. Use a smaller batch size with gradient accumulation, a shorter "
        "max_length, or LoRA."
    ),
    FailureCode.HOST_OOM: _(
        "The machine ran out of memory, so the kernel killed the trainer. Use a smaller batch size, or a "
        "machine with more memory."
    ),
    FailureCode.KILLED: _("The trainer was killed from outside. Check the worker's log, then submit the run again."),
    FailureCode.DEVICE_LOST: _(
        "The driver lost the GPU on which the run trained. Check the kernel's log of its host, reset the GPU, start "
        "the worker again, then submit the run again."
    ),
    FailureCode.DIVERGED: _("The loss became infinite or NaN. Lower the learning rate or lengthen the warm-up."),
    FailureCode.AUDIT: _(
        "The parameters that trained are not those of the method, so the result was discarded. This is a "
        "bug in Vezna: report it with the run's spec."
    ),
    FailureCode.BAD_CONFIGURATION: _(
        "The configuration does not suit this model or this task. Change the field that the message "
        "names, then submit the run again."
    ),
    FailureCode.MODEL_UNAVAILABLE: _(
        "The worker could not read the base model. Check its name and revision, and the worker's network or directory."
    ),
    FailureCode.DATASET_UNAVAILABLE: _(
        "The worker could not read the dataset's file. Check that the web server and the workers share VEZNA_FILES_URL."
    ),
    FailureCode.DISK_FULL: _("The worker's disk is full. Free some space, then submit the run again."),
    FailureCode.STALLED: _(
        "The trainer was alive but made no progress for VEZNA_STALL_SECONDS. Check the worker's log, "
        "then submit the run again."
    ),
    FailureCode.LOST: _(
        "The run lost its worker in all of its VEZNA_MAX_ATTEMPTS attempts. Check the worker's log, then "
        "submit the run again."
    ),
    FailureCode.ELSEWHERE: _(
        "The script that trained the run elsewhere reported a failure. Its own log has the cause; report the run again "
        "with another key."
    ),
    FailureCode.INTERNAL: _("An internal error ended the run. This is a bug in Vezna: report it with the run's log."),
}
"""A sentence for each code, with the next step."""


class Failure(BaseModel):
    model_config = ConfigDict(frozen=True)

    code: FailureCode
    message: str
    ledger: Ledger | None = None
    """Bytes by owner when memory ran out, where a step was being measured."""
    requested_bytes: int | None = None
    """Size of the allocation for which memory ran out, where the allocator names it."""

    @property
    def out_of_memory(self) -> bool:
        """The device or the machine ran out of memory."""
        return self.code in (FailureCode.OUT_OF_MEMORY, FailureCode.HOST_OOM)

    @property
    def detail(self) -> str:
        """What the worker reported beyond the code's own sentence."""
        return "" if self.message == FAILURES[self.code] else self.message


class RunFailed(VeznaError):
    """A run cannot go on. The message is kept with the run, in English, as its log is."""

    def __init__(self, code: FailureCode, message: Message) -> None:
        super().__init__(message)
        self.code = code
