"""The states of a run, and the phases of an attempt."""

from enum import StrEnum


class RunStatus(StrEnum):
    """The state of a run. The last three are terminal."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        return self not in (RunStatus.QUEUED, RunStatus.RUNNING)


TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING, RunStatus.CANCELLED}),
    RunStatus.RUNNING: frozenset({RunStatus.QUEUED, RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED}),
    RunStatus.SUCCEEDED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
}
"""Legal changes. `running → queued` is a new attempt after a lost worker or a shutdown."""


class Phase(StrEnum):
    """The phases of an attempt; each has a clock."""

    DOWNLOAD = "download"
    """Only where the worker lacks files of the base model."""
    LOAD = "load"
    TOKENIZE = "tokenize"
    BASELINE = "baseline"
    TRAIN = "train"
    EVALUATE = "evaluate"
    SAVE = "save"
