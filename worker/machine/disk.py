"""A disk that is full: which one, what is left of it and what is needed."""

import errno
import shutil
from math import ceil
from pathlib import Path

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import Message, _
from app.domain.resources.devices import MIB, size

RUN_AGAIN = _("Free some space there, then submit the run again.")
READ_AGAIN = _("Free some space there, then add the data again.")
START_AGAIN = _("Free some space there, then start it again.")
EXPORT_AGAIN = _("Free some space there, then export the run's model again.")


def is_full(error: BaseException) -> bool:
    """Whether a write failed because its disk is full. safetensors, written in Rust, raises its own exception for every
    I/O error. An error of the database, whose text has the values of its statement too, is about another disk."""
    if type(error).__module__.startswith("sqlalchemy."):
        return False
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)


def place(error: Exception, otherwise: Path) -> Path:
    """What could not be written because its disk is full: of a copy its target, and `otherwise` if it is not known."""
    return Path(getattr(error, "filename2", None) or getattr(error, "filename", None) or otherwise)


def full(place: Path, needed: int | None = None, remedy: Message = RUN_AGAIN) -> RunFailed:
    """The failure of a run, or of an export, whose disk is full. `place`: a directory on it; `needed`: bytes that were
    to be written."""
    free = shutil.disk_usage(next(p for p in (place, *place.absolute().parents) if p.exists())).free
    left = _("%(free)s are free", free=_amount(free))
    if needed is not None:
        left = _("%(free)s are free, and at least %(needed)s are needed", free=_amount(free), needed=_amount(needed))
    text = _(
        "The worker's disk with %(place)s is full: %(left)s. %(remedy)s",
        place=place.absolute(),
        left=left,
        remedy=remedy,
    )
    return RunFailed(FailureCode.DISK_FULL, text)


def _amount(number: int) -> str:
    return size(number) if number >= MIB else f"{ceil(number / 1024)} KiB"
