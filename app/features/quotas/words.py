"""Words for quotas: what is used of what is permitted."""

from collections.abc import Callable

from app.features.quotas.rules import Limits, Usage
from app.words.format import NBSP, count, duration, file_size, typed
from app.words.i18n import gettext as _
from app.words.i18n import ngettext

HOUR, GIB = 3600, 2**30


def running_of(usage: Usage, limits: Limits) -> str:
    """`1 of 2`; `1` without a limit."""
    return _of(count(usage.running), limits.concurrent_runs, count)


def waiting_runs(usage: Usage) -> str:
    """`3 runs wait`."""
    return ngettext("%(num)s run waits", "%(num)s runs wait", usage.waiting)


def device_time_of(usage: Usage, limits: Limits) -> str:
    """Used and reserved: `2 h 5 min of 40 h`; without a limit only the time."""
    return _of(duration(usage.committed_seconds), limits.device_seconds, hours)


def device_time_parts(usage: Usage) -> str:
    """`1 h 5 min used, 1 h reserved`."""
    return _(
        "%(used)s used, %(reserved)s reserved",
        used=duration(usage.used_seconds),
        reserved=duration(usage.reserved_seconds),
    )


def storage_of(usage: Usage, limits: Limits) -> str:
    """Stored and expected: `3.1 GiB of 10 GiB`; without a limit only the size."""
    return _of(file_size(usage.committed_bytes), limits.stored_bytes, gibibytes)


def _of(used: str, limit: int | None, written: Callable[[int], str]) -> str:
    return used if limit is None else _("%(used)s of %(limit)s", used=used, limit=written(limit))


def storage_parts(usage: Usage) -> str:
    """`3 GiB stored, 0.1 GiB expected`."""
    return _(
        "%(stored)s stored, %(expected)s expected",
        stored=file_size(usage.stored_bytes),
        expected=file_size(usage.expected_bytes),
    )


def gibibytes(size: float) -> str:
    """`10 GiB`, as limits are set."""
    return f"{typed(size / GIB)}{NBSP}GiB"


def gibibytes_or_none(size: int | None) -> str:
    """GiB as they are typed, or that there is no limit."""
    return _("unlimited") if size is None else typed(size / GIB)


def hours(seconds: float) -> str:
    """`40 h`, as limits are set: a day is not their unit."""
    return f"{typed(seconds / HOUR)}{NBSP}{_('h')}"


def limit_or_none(limit: int | None) -> str:
    """A number, or that there is none."""
    return _("unlimited") if limit is None else count(limit)


def hours_or_none(seconds: int | None) -> str:
    """Hours as they are typed, or that there is no limit."""
    return _("unlimited") if seconds is None else typed(seconds / HOUR)


FILTERS = (
    running_of,
    waiting_runs,
    device_time_of,
    device_time_parts,
    storage_of,
    storage_parts,
    limit_or_none,
    hours_or_none,
    gibibytes_or_none,
)
