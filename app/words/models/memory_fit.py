"""Memory fit in words: states, bands and what they rest on, errors of estimates, memory savings."""

import json

from app.domain.resources.calibration import EstimateBand, Fit, relative_error
from app.domain.resources.ledger import Ledger, Moment
from app.domain.resources.memory_fit import DeviceFit, MemorySaving, RunFit
from app.domain.resources.memory_fit import Moment as StoredAt
from app.domain.resources.savings import SAVINGS
from app.words.format import GIB, MIB, NBSP, capitalized, count, decimal, duration, file_size, percent
from app.words.i18n import gettext as _
from app.words.i18n import localized, marked, ngettext

FITS: dict[Fit, str] = {
    "fits": marked("fits"),
    "tight": marked("tight"),
    "does_not_fit": marked("does not fit"),
    "unknown": marked("not known yet"),
}
MOMENTS: dict[Moment, str] = {
    "data": marked("while loading the batch"),
    "forward": marked("in the forward pass"),
    "backward": marked("in the backward pass"),
    "optimizer": marked("in the optimizer step"),
    "evaluate": marked("in evaluation"),
}
STORED_AT: dict[StoredAt, str] = {
    "submission": marked("Estimated range: %(band)s, stored before the run started."),
    "claim": marked("Estimated range: %(band)s, recalculated for the worker's device before training."),
    "running": marked("Estimated range: %(band)s, calculated after the run had started."),
    "ended": marked("Estimated range: %(band)s, recalculated after the run had ended."),
}
EQUAL = 0.0005
"""Errors below it count as none."""


def fit_words(fit: DeviceFit) -> str:
    """Whether an arm fits a device, in words."""
    if not fit.capable:
        return _("method not supported")
    if fit.peak and fit.fit == "unknown":
        return _("memory size not known") if fit.device.memory_bytes is None else _("not known")
    return _("no estimate") if fit.state == "failed" else _(FITS[fit.fit])


def fit_word(fit: Fit) -> str:
    return _(FITS[fit])


def basis(runs: int) -> str:
    """What a band rests on: `assumed`, `from 12 past runs`."""
    return ngettext("from %(num)s past run", "from %(num)s past runs", runs) if runs else _("assumed")


def band(estimate: EstimateBand) -> str:
    """Bytes as `382 to 414 MiB`."""
    size, unit = (GIB, "GiB") if estimate.high >= GIB else (MIB, "MiB")
    low, high = (decimal(end / size, unit == "GiB") for end in (estimate.low, estimate.high))
    if low == high:
        return f"{high}{NBSP}{unit}"
    return _("%(low)s to %(high)s", low=low, high=f"{high}{NBSP}{unit}")


def time_band(estimate: EstimateBand) -> str:
    """Seconds as `50 s to 1 min 4 s`; empty where the band has no width."""
    low, high = duration(estimate.low), duration(estimate.high)
    return "" if low == high else _("%(low)s to %(high)s", low=low, high=high)


def error_words(error: float) -> str:
    """The error of an estimate: `0.7 % too high`."""
    if abs(error) < EQUAL:
        return _("exact")
    size = percent(abs(error))
    return _("%(size)s too high", size=size) if error > 0 else _("%(size)s too low", size=size)


def estimate_error(estimated: str, measured: str, error: float) -> str:
    """`estimated 848 MiB, measured 842 MiB: 0.7 % too high`."""
    return _(
        "estimated %(estimated)s, measured %(measured)s: %(error)s",
        estimated=estimated,
        measured=measured,
        error=error_words(error),
    )


def memory_error(fit: RunFit) -> str:
    """A run's estimated peak beside the measured one; empty where either is missing."""
    if not fit.peak or not fit.measured_bytes or fit.bytes_error is None:
        return ""
    return capitalized(estimate_error(exact(fit.peak.value), exact(fit.measured_bytes), fit.bytes_error))


def time_error(fit: RunFit) -> str:
    """The same of its train time."""
    if not fit.train_seconds or not fit.measured_seconds or fit.seconds_error is None:
        return ""
    return estimate_error(duration(fit.train_seconds.value), duration(fit.measured_seconds), fit.seconds_error)


def stored_moment(fit: RunFit) -> str:
    """When a run's estimate was stored, with the band of its peak; empty without one."""
    if fit.shown is None:
        return ""
    return _(STORED_AT[fit.shown.moment], band=band(fit.shown.peak))


def time_moment(fit: RunFit) -> str:
    """The same of its train time."""
    if fit.shown is None or fit.shown.train_seconds is None:
        return ""
    seconds = fit.shown.train_seconds
    words = time_band(seconds) or duration(seconds.value)
    return _(STORED_AT[fit.shown.moment], band=words)


def file_error(fit: RunFit, measured: int) -> str:
    """The same of the weights' file, whose size is 0 if there is none."""
    estimated = fit.estimate.file_bytes if fit.estimate else None
    if not estimated or not measured:
        return ""
    return estimate_error(file_size(estimated), file_size(measured), relative_error(estimated, measured))


def exact(size: float) -> str:
    """Bytes, precise enough for two that are nearly the same: `848 MiB`, `9.42 GiB`."""
    return f"{decimal(size / GIB, 2)}{NBSP}GiB" if size >= 10 * GIB else f"{decimal(size / MIB, 0)}{NBSP}MiB"


def saving_title(saving: MemorySaving) -> str:
    return capitalized(localized(SAVINGS[saving.name]))


def saving_fields(saving: MemorySaving) -> str:
    """What it sets, as JSON: a button or an address carries it."""
    return json.dumps(saving.fields, separators=(",", ":"))


def peak_words(ledger: Ledger) -> str:
    """When a step reached its peak: `in the backward pass of step 4, with 16 rows of 64 tokens`."""
    rows = ngettext("%(num)s row", "%(num)s rows", ledger.rows)
    shape = _("%(rows)s of %(length)s tokens", rows=rows, length=count(ledger.length))
    moment = _(MOMENTS[ledger.moment])
    if ledger.step is None:
        return _("%(moment)s, with %(shape)s", moment=moment, shape=shape)
    return _("%(moment)s of step %(step)s, with %(shape)s", moment=moment, step=count(ledger.step), shape=shape)


FILTERS = (
    fit_words,
    fit_word,
    basis,
    band,
    time_band,
    relative_error,
    error_words,
    memory_error,
    time_error,
    stored_moment,
    time_moment,
    file_error,
    saving_title,
    saving_fields,
    peak_words,
)
