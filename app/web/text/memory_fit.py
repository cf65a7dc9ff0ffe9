"""Whether something fits, in words: states, bands and what they rest on, errors of estimates."""

from dataclasses import dataclass

from app.domain.resources.calibration import EstimateBand, Fit, relative_error
from app.domain.resources.ledger import Ledger, Moment
from app.domain.resources.memory_fit import RunFit
from app.domain.resources.savings import SAVINGS, SavingName
from app.web.format import GIB, MIB, NBSP, capitalized, count, decimal, duration, file_size, mib, percent
from app.web.i18n import gettext as _
from app.web.i18n import marked, ngettext

FITS: dict[Fit, str] = {
    "fits": marked("fits"),
    "tight": marked("tight"),
    "does_not_fit": marked("does not fit"),
    "unknown": marked("not known yet"),
}
MOMENTS: dict[Moment, str] = {
    "data": marked("while the batch was made"),
    "forward": marked("in the forward pass"),
    "backward": marked("in the backward pass"),
    "optimizer": marked("in the optimizer's step"),
    "evaluate": marked("while it was evaluated"),
}
NOTHING_OFF = 0.0005


def said(fit: Fit) -> str:
    """A fit in words."""
    return _(FITS[fit])


def basis(runs: int) -> str:
    """What a band rests on: `assumed`, `from 12 past runs`."""
    return ngettext("from %(num)s past run", "from %(num)s past runs", runs) if runs else _("assumed")


def band(found: EstimateBand) -> str:
    """Of bytes: `382 to 414 MiB`."""
    if found.high >= GIB:
        low, high, unit = decimal(found.low / GIB), decimal(found.high / GIB), "GiB"
    else:
        low, high, unit = mib(found.low), mib(found.high), "MiB"
    if low == high:
        return f"{high}{NBSP}{unit}"
    return _("%(low)s to %(high)s", low=low, high=f"{high}{NBSP}{unit}")


def time_band(found: EstimateBand) -> str:
    """Of seconds: `50 s to 1 min 4 s`; empty where it has no width."""
    low, high = duration(found.low), duration(found.high)
    return "" if low == high else _("%(low)s to %(high)s", low=low, high=high)


def off(error: float) -> str:
    """How far an estimate was off: `0.7 % too much`."""
    if abs(error) < NOTHING_OFF:
        return _("just as much")
    size = percent(abs(error))
    return _("%(size)s too much", size=size) if error > 0 else _("%(size)s too little", size=size)


def confronted(predicted: str, measured: str, error: float) -> str:
    """`predicted 848 MiB, measured 842 MiB: 0.7 % too much`."""
    return _(
        "predicted %(predicted)s, measured %(measured)s: %(off)s",
        predicted=predicted,
        measured=measured,
        off=off(error),
    )


@dataclass(frozen=True)
class Confronted:
    """What was predicted for a run beside what was measured; a sentence each, empty where one of the two is missing."""

    peak: float | None
    """Predicted."""
    memory: str
    time: str
    file: str
    basis: str
    """What the prediction's band rests on."""

    @classmethod
    def of(cls, fit: RunFit, file_bytes: int) -> "Confronted":
        """From the service; `file_bytes`: of the weights' file that the run left, 0 where it left none."""
        memory = time = ""
        if fit.peak and fit.measured_bytes and fit.bytes_error is not None:
            memory = confronted(exact(fit.peak.value), exact(fit.measured_bytes), fit.bytes_error)
        if fit.train_seconds and fit.measured_seconds and fit.seconds_error is not None:
            seconds, measured = duration(fit.train_seconds.value), duration(fit.measured_seconds)
            time = confronted(seconds, measured, fit.seconds_error)
        value = fit.peak.value if fit.peak else None
        return cls(value, capitalized(memory), time, _file(fit, file_bytes), basis(fit.peak.runs) if fit.peak else "")


def _file(fit: RunFit, measured: int) -> str:
    found = fit.need.prediction if fit.need else None
    if found is None or not found.file_bytes or not measured:
        return ""
    error = relative_error(found.file_bytes, measured)
    return confronted(file_size(found.file_bytes), file_size(measured), error)


def exact(size: float) -> str:
    """Bytes, precise enough for two that are nearly the same: `848 MiB`, `9.42 GiB`."""
    return f"{decimal(size / GIB, 2)}{NBSP}GiB" if size >= 10 * GIB else f"{decimal(size / MIB, 0)}{NBSP}MiB"


def way(name: SavingName) -> str:
    """What a way out does, as a sentence without its stop."""
    return capitalized(_(SAVINGS[name]))


def peak_words(found: Ledger) -> str:
    """When a step held most: `in the backward pass of step 4, with 16 rows of 64 tokens`."""
    rows = ngettext("%(num)s row", "%(num)s rows", found.rows)
    shape = _("%(rows)s of %(length)s tokens", rows=rows, length=count(found.length))
    moment = _(MOMENTS[found.moment])
    if found.step is None:
        return _("%(moment)s, with %(shape)s", moment=moment, shape=shape)
    return _("%(moment)s of step %(step)s, with %(shape)s", moment=moment, step=count(found.step), shape=shape)
