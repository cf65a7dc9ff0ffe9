"""Failures of runs in words."""

from app.domain.failures import FAILURES, Failure, FailureCode
from app.words.i18n import gettext as _
from app.words.i18n import marked

FAILURE_LABELS = {
    FailureCode.OUT_OF_MEMORY: marked("out of memory"),
    FailureCode.HOST_OOM: marked("host out of memory"),
    FailureCode.KILLED: marked("killed"),
    FailureCode.DEVICE_LOST: marked("GPU lost"),
    FailureCode.DIVERGED: marked("diverged"),
    FailureCode.AUDIT: marked("freeze audit failed"),
    FailureCode.BAD_CONFIGURATION: marked("configuration does not fit the model"),
    FailureCode.MODEL_UNAVAILABLE: marked("base model unavailable"),
    FailureCode.DATASET_UNAVAILABLE: marked("dataset unavailable"),
    FailureCode.DISK_FULL: marked("disk full"),
    FailureCode.STALLED: marked("stalled"),
    FailureCode.LOST: marked("worker lost"),
    FailureCode.ELSEWHERE: marked("failed elsewhere"),
    FailureCode.INTERNAL: marked("internal error"),
}
"""A failure in a few words, to follow a colon."""


def failure_label(failure: Failure) -> str:
    """A failure in a few words: `out of memory`."""
    return _(FAILURE_LABELS[failure.code])


def remedy(failure: Failure) -> str:
    """The sentence of a failure's code, with the next step."""
    return _(FAILURES[failure.code])


FILTERS = (failure_label, remedy)
