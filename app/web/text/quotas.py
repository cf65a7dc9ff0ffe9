"""Words for quotas: what is used of what is permitted."""

from app.domain.accounts.quotas import Limits, Usage
from app.web.format import NBSP, count, duration, file_size, typed
from app.web.i18n import gettext as _
from app.web.i18n import ngettext

HOUR, GIB = 3600, 2**30


def running_of(usage: Usage, limits: Limits) -> str:
    """`1 of 2`; `1` without a limit."""
    if limits.concurrent_runs is None:
        return count(usage.running)
    return _("%(used)s of %(limit)s", used=count(usage.running), limit=count(limits.concurrent_runs))


def waiting_runs(usage: Usage) -> str:
    """`3 runs wait`."""
    return ngettext("%(num)s run waits", "%(num)s runs wait", usage.waiting)


def device_time_of(usage: Usage, limits: Limits) -> str:
    """Used and reserved: `2 h 5 min of 40 h`; without a limit only the time."""
    used = duration(usage.committed_seconds)
    if limits.device_seconds is None:
        return used
    return _("%(used)s of %(limit)s", used=used, limit=hours(limits.device_seconds))


def device_time_parts(usage: Usage) -> str:
    """`1 h 5 min used, 1 h reserved`."""
    return _(
        "%(used)s used, %(reserved)s reserved",
        used=duration(usage.used_seconds),
        reserved=duration(usage.reserved_seconds),
    )


def storage_of(usage: Usage, limits: Limits) -> str:
    """Stored and expected: `3.1 GiB of 10 GiB`; without a limit only the size."""
    used = file_size(usage.committed_bytes)
    if limits.stored_bytes is None:
        return used
    return _("%(used)s of %(limit)s", used=used, limit=gibibytes(limits.stored_bytes))


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
