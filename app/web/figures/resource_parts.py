"""What memory and time consist of: owners of bytes, phases of a run, and bars of them, measured or estimated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from app.domain.comparison.costs import Costs
from app.domain.resources.calibration import EstimateBand, relative_error
from app.domain.resources.estimate import ResourceEstimate
from app.domain.resources.ledger import OWNERS, Owner
from app.domain.resources.memory_fit import RunFit
from app.domain.runs.result import Memory
from app.web.figures.drawing.stacks import Bar, Part, Stacks
from app.web.figures.figure import Cell, Column, Key
from app.web.format import duration, memory, memory_unit, signed_percent
from app.web.i18n import gettext as _
from app.web.i18n import marked

Sizes = tuple[float, ...]
"""Bytes of each holder."""


class Holder(NamedTuple):
    """What holds memory: the class that colours it, and its name."""

    css: str
    name: str


LEDGER = (
    Holder("weights", marked("weights")),
    Holder("gradients", marked("gradients")),
    Holder("optimizer", marked("optimizer state")),
    Holder("activations", marked("activations")),
    Holder("temporaries", marked("temporaries")),
    Holder("other", marked("other")),
    Holder("device", marked("device overhead")),
    Holder("phase", marked("another phase")),
)
"""Every owner of `app.domain.resources.ledger`; what training holds beyond the step's tensors; and what another phase
held more than training, where the peak is not in training."""
COMPUTED = (*LEDGER[:3], Holder("activations", marked("activations and rest")))
"""Of a run without a ledger: three owners are computed, the last is what they leave of the measured peak."""


class Phase(NamedTuple):
    """A part of a run's time."""

    column: str
    """In the CSV, before `_seconds`."""
    name: str
    legend: str
    colour: str
    clocks: tuple[str, ...]
    """Those that it sums."""


_REST = marked("everything else")
PHASES = (
    Phase("setup", marked("setup"), _REST, "var(--p-idle)", ("start", "load", "tokenize", "baseline", "cache")),
    Phase("forward", marked("forward"), marked("forward"), "var(--p-forward)", ("forward",)),
    Phase("backward", marked("backward"), marked("backward"), "var(--p-backward)", ("backward",)),
    Phase("optimizer", marked("optimizer"), marked("optimizer"), "var(--p-optimizer)", ("optimizer",)),
    Phase("batches", marked("batches"), _REST, "var(--p-idle)", ("data",)),
    Phase(
        "evaluate_save_audit",
        marked("evaluation, saving, audit, weight analysis"),
        _REST,
        "var(--p-idle)",
        ("evaluate", "save", "audit", "weight_delta"),
    ),
)
REST_NOTE = marked(
    "Everything else: setup (start, load, tokenize, evaluate the base model, cache), making batches, and evaluation, "
    "saving, audit, weight analysis."
)


def ledger_sizes(owners: Mapping[Owner, float], train_peak: float, peak: float) -> Sizes:
    """Bytes of each of LEDGER: by owner, up to the peak of training, and up to the peak of all phases."""
    known = tuple(float(owners.get(owner, 0)) for owner in OWNERS)
    return (*known, max(0.0, train_peak - sum(known)), max(0.0, peak - max(train_peak, sum(known))))


def memory_sizes(memory: Memory) -> Sizes:
    """Of a run, as it was measured: each of LEDGER, or of COMPUTED where there is no ledger."""
    if memory.ledger is None:
        return computed_sizes(memory)
    return ledger_sizes(memory.ledger.owners, memory.train_peak_bytes, memory.peak_bytes)


def computed_sizes(memory: Costs | Memory) -> Sizes:
    """Bytes of each of COMPUTED."""
    return (memory.weights_bytes, memory.gradients_bytes, memory.optimizer_bytes, memory.rest_bytes)


def estimated_sizes(estimate: ResourceEstimate, peak: float) -> Sizes:
    """Bytes of each of LEDGER; what an estimated peak has beyond that of the largest phase is the device's constant."""
    constant = peak - estimate.peak_bytes
    return ledger_sizes(estimate.ledger.owners, estimate.ledger.total + constant, peak)


@dataclass(frozen=True)
class EstimatedCosts:
    """What was estimated for a run, on the device that it ran on."""

    sizes: Sizes
    """Bytes of each of LEDGER."""
    peak: EstimateBand
    """Bytes: the estimate and the device's constant."""
    train: EstimateBand | None
    """Seconds; None where no run has shown the device's rate."""

    @classmethod
    def of(cls, fit: RunFit | None) -> "EstimatedCosts | None":
        """None where there is no estimate, or no device that it is for."""
        estimate = fit.estimate if fit else None
        if fit is None or estimate is None or fit.peak is None:
            return None
        return cls(estimated_sizes(estimate, fit.peak.value), fit.peak, fit.train_seconds)


@dataclass(frozen=True)
class MemoryUse:
    """A measured bar of memory, and what was estimated."""

    name: str
    sizes: Sizes
    peak: float
    estimated: EstimatedCosts | None = None


def memory_stacks(uses: Sequence[MemoryUse]) -> Stacks:
    """A bar by owner for each, the estimated one below it."""
    unit, name = memory_unit(largest_peak(uses))
    bars = []
    for use in uses:
        bars.append(_memory_bar(use.name, use.sizes, use.peak, unit))
        if estimated := use.estimated:
            bar = _memory_bar(_("estimated"), estimated.sizes, estimated.peak.value, unit)
            bars.append(replace(bar, pale=True, band=(estimated.peak.low / unit, estimated.peak.high / unit)))
    return Stacks(tuple(bars), _("%(unit)s above the idle process, at the peak →", unit=name))


def largest_peak(uses: Sequence[MemoryUse]) -> float:
    """Measured or estimated: it decides the unit."""
    return max((max(use.peak, use.estimated.peak.value if use.estimated else 0.0) for use in uses), default=0.0)


def holders_of(sizes: Sizes) -> Sequence[Holder]:
    """LEDGER or COMPUTED."""
    return LEDGER if len(sizes) == len(LEDGER) else COMPUTED


def _memory_bar(name: str, sizes: Sizes, peak: float, unit: float) -> Bar:
    parts = tuple(
        Part(_(holder.name), f"var(--o-{holder.css})", size / unit)
        for holder, size in zip(holders_of(sizes), sizes, strict=True)
    )
    return Bar(name, parts, peak / unit, memory(peak))


def names(holders: Sequence[Holder] = LEDGER) -> tuple[str, ...]:
    """Of each holder, in the request's language."""
    return tuple(_(holder.name) for holder in holders)


def legend(holders: Sequence[Holder] = LEDGER) -> tuple[Key, ...]:
    """The legend of bars in HTML."""
    return tuple(Key(holder.css, _(holder.name)) for holder in holders)


def phase_seconds(clocks: Mapping[str, float]) -> tuple[float, ...]:
    """Seconds of each of PHASES."""
    return tuple(sum(clocks[name] for name in phase.clocks) for phase in PHASES)


def time_bar(name: str, seconds: Sequence[float], total: float) -> Bar:
    """A bar of time, from the seconds of each of PHASES."""
    parts = tuple(Part(_(phase.legend), phase.colour, size) for phase, size in zip(PHASES, seconds, strict=True))
    return Bar(name, parts, total, duration(total))


def train_bar(clocks: Mapping[str, float], seconds: EstimateBand) -> Bar:
    """A training as it was estimated; it begins after setup, where the measured one does."""
    before = phase_seconds(clocks)[0]
    parts = (Part("", "transparent", before), Part("", "var(--p-backward)", seconds.value))
    band = (before + seconds.low, before + seconds.high)
    return Bar(_("estimated"), parts, before + seconds.value, duration(seconds.value), pale=True, band=band)


def estimated_columns(title: str, unit: str, show: Callable[[float | None], str]) -> tuple[Column, ...]:
    """The estimate, the ends of its band, and its error; `unit` ends the names: `bytes`."""
    return (
        Column(f"estimated_{unit}", title, show),
        Column(f"estimated_low_{unit}", _("from"), show),
        Column(f"estimated_high_{unit}", _("to"), show),
        Column("error", _("error"), signed_percent),
    )


def estimated_cells(estimated: EstimateBand | None, measured: float) -> tuple[Cell, ...]:
    """The cells of these columns; empty ones without an estimate."""
    if estimated is None:
        return (None,) * 4
    error = relative_error(estimated.value, measured) if measured else None
    return (estimated.value, estimated.low, estimated.high, error)
