"""A disk that is full: which one, what is left of it and what is needed."""

import errno
import shutil
from math import ceil
from pathlib import Path

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.resources.devices import MIB, size


def is_full(error: Exception) -> bool:
    """Whether a write failed because its disk is full. safetensors, written in Rust, raises its own exception for every
    I/O error."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)


def full(place: Path, needed: int | None = None) -> RunFailed:
    """The failure of a run whose disk is full. `place`: a directory on it; `needed`: bytes that were to be written."""
    free = shutil.disk_usage(next(p for p in (place, *place.absolute().parents) if p.exists())).free
    left = _("%(free)s are free", free=_amount(free))
    if needed is not None:
        left = _(
            "%(free)s are free, and this run needs at least %(needed)s", free=_amount(free), needed=_amount(needed)
        )
    text = _(
        "The worker's disk with %(place)s is full: %(left)s. Free some space there, then submit the run again.",
        place=place.absolute(),
        left=left,
    )
    return RunFailed(FailureCode.DISK_FULL, text)


def _amount(number: int) -> str:
    return size(number) if number >= MIB else f"{ceil(number / 1024)} KiB"
