"""Memory fit in words: states, bands and what they rest on, errors of estimates, memory savings."""

import json
from dataclasses import dataclass

from app.domain.resources.calibration import EstimateBand, Fit, relative_error
from app.domain.resources.ledger import Ledger, Moment
from app.domain.resources.memory_fit import DeviceFit, MemorySaving, RunFit
from app.domain.resources.savings import SAVINGS
from app.web.format import GIB, MIB, NBSP, capitalized, count, decimal, duration, file_size, mib, percent
from app.web.i18n import gettext as _
from app.web.i18n import localized, marked, ngettext

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
EQUAL = 0.0005
"""Errors below it count as none."""


def fit_words(fit: DeviceFit) -> str:
    """Whether an arm fits a device, in words."""
    if not fit.capable:
        return _("method not supported")
    if fit.peak and fit.device.memory_bytes is None:
        return _("memory size not known")
    return _("no estimate") if fit.state == "failed" else _(FITS[fit.fit])


def fit_word(fit: Fit) -> str:
    """A fit in words."""
    return _(FITS[fit])


def basis(runs: int) -> str:
    """What a band rests on: `assumed`, `from 12 past runs`."""
    return ngettext("from %(num)s past run", "from %(num)s past runs", runs) if runs else _("assumed")


def band(estimate: EstimateBand) -> str:
    """Of bytes: `382 to 414 MiB`."""
    if estimate.high >= GIB:
        low, high, unit = decimal(estimate.low / GIB), decimal(estimate.high / GIB), "GiB"
    else:
        low, high, unit = mib(estimate.low), mib(estimate.high), "MiB"
    if low == high:
        return f"{high}{NBSP}{unit}"
    return _("%(low)s to %(high)s", low=low, high=f"{high}{NBSP}{unit}")


def time_band(estimate: EstimateBand) -> str:
    """Of seconds: `50 s to 1 min 4 s`; empty where it has no width."""
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


@dataclass(frozen=True)
class EstimateErrors:
    """A run's estimates beside its measurements; a sentence each, empty where one of the two is missing."""

    peak: float | None
    """Estimated."""
    memory: str
    time: str
    file: str
    basis: str
    """What the band of the peak rests on."""

    @classmethod
    def of(cls, fit: RunFit, file_bytes: int) -> "EstimateErrors":
        """`file_bytes`: of the weights' file that the run left, 0 where it left none."""
        memory = time = file = ""
        if fit.peak and fit.measured_bytes and fit.bytes_error is not None:
            memory = estimate_error(exact(fit.peak.value), exact(fit.measured_bytes), fit.bytes_error)
        if fit.train_seconds and fit.measured_seconds and fit.seconds_error is not None:
            seconds, measured = duration(fit.train_seconds.value), duration(fit.measured_seconds)
            time = estimate_error(seconds, measured, fit.seconds_error)
        estimated_file = fit.estimate.file_bytes if fit.estimate else None
        if estimated_file and file_bytes:
            error = relative_error(estimated_file, file_bytes)
            file = estimate_error(file_size(estimated_file), file_size(file_bytes), error)
        value = fit.peak.value if fit.peak else None
        return cls(value, capitalized(memory), time, file, basis(fit.peak.runs) if fit.peak else "")


def exact(size: float) -> str:
    """Bytes, precise enough for two that are nearly the same: `848 MiB`, `9.42 GiB`."""
    return f"{decimal(size / GIB, 2)}{NBSP}GiB" if size >= 10 * GIB else f"{decimal(size / MIB, 0)}{NBSP}MiB"


def saving_title(saving: MemorySaving) -> str:
    """What a memory saving changes."""
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


FILTERS = (fit_words, fit_word, basis, band, time_band, saving_title, saving_fields)
