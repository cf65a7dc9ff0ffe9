"""What memory and time consist of: owners of bytes, phases of a run, and bars of them, measured or estimated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from app.domain.comparison.costs.costs import Costs
from app.domain.resources.calibration import EstimateBand, relative_error
from app.domain.resources.estimate import ResourceEstimate
from app.domain.resources.ledger import OWNERS, Owner
from app.domain.resources.memory_fit import RunFit
from app.domain.runs.result import Memory
from app.web.figures.drawing.stacks import Bar, Part, Stacks
from app.web.figures.figure import Cell, Column
from app.words.format import duration, memory, memory_unit, signed_percent
from app.words.i18n import gettext as _
from app.words.i18n import marked

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
    Holder("communication", marked("communication")),
    Holder("other", marked("other")),
    Holder("device", marked("device overhead")),
    Holder("phase", marked("another phase")),
)
"""Every owner of `app.domain.resources.ledger`; what training holds beyond the step's tensors; and what another phase
held more than training, where the peak is not in training."""
COMPUTED = (*LEDGER[:3], Holder("activations", marked("activations and rest")))
"""Parts of a run without a ledger: three owners are computed, the last is what they leave of the measured peak."""


class Phase(NamedTuple):
    column: str
    """In the CSV, before `_seconds`."""
    name: str
    legend: str
    colour: str
    clocks: tuple[str, ...]
    """Clocks that it sums."""


_REST = marked("everything else")
PHASES = (
    Phase(
        "setup",
        marked("setup"),
        _REST,
        "var(--p-idle)",
        ("start", "load", "tokenize", "baseline", "cache", "compile", "ledger"),
    ),
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
    "Everything else: setup (start, load, tokenize, evaluate the base model, cache, the first step and those whose "
    "memory is recorded), making batches, and evaluation, saving, audit, weight analysis."
)


def ledger_sizes(owners: Mapping[Owner, float], train_peak: float, peak: float) -> Sizes:
    """Bytes of each of LEDGER: by owner, up to the peak of training, and up to the peak of all phases."""
    known = tuple(float(owners.get(owner, 0)) for owner in OWNERS)
    return (*known, max(0.0, train_peak - sum(known)), max(0.0, peak - max(train_peak, sum(known))))


def memory_sizes(memory: Memory) -> Sizes:
    """Measured bytes of a run: each of LEDGER, or of COMPUTED where there is no ledger."""
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


def fit_sizes(fit: RunFit) -> Sizes:
    """Bytes of each of LEDGER as they were estimated for a run; empty without an estimate for its device."""
    return estimated_sizes(fit.estimate, fit.peak.value) if fit.estimate and fit.peak else ()


class MemoryUse(NamedTuple):
    """A measured peak, and what was estimated."""

    name: str
    sizes: Sizes
    peak: float
    estimated: RunFit | None = None

    @property
    def estimated_peak(self) -> EstimateBand | None:
        """None without an estimate for its device."""
        return self.estimated.peak if self.estimated else None


class TimeUse(NamedTuple):
    """The clocks of an attempt, and the estimated training."""

    name: str
    clocks: Mapping[str, float]
    wall: float
    train: EstimateBand | None = None


def memory_stacks(uses: Sequence[MemoryUse]) -> Stacks:
    """A bar by owner for each, the estimated one below it."""
    unit, name = memory_unit(largest_peak(uses))
    bars = []
    for use in uses:
        bars.append(_memory_bar(use.name, use.sizes, use.peak, unit))
        if use.estimated and (peak := use.estimated_peak):
            bar = _memory_bar(_("estimated"), fit_sizes(use.estimated), peak.value, unit)
            bars.append(replace(bar, pale=True, band=(peak.low / unit, peak.high / unit)))
    return Stacks(tuple(bars), _("%(unit)s above the idle process, at the peak →", unit=name))


def time_stacks(uses: Sequence[TimeUse]) -> Stacks:
    """A bar by phase for each; below it the estimated training, which begins after setup as the measured one does."""
    bars = []
    for use in uses:
        seconds = phase_seconds(use.clocks)
        parts = tuple(Part(_(phase.legend), phase.colour, size) for phase, size in zip(PHASES, seconds, strict=True))
        bars.append(Bar(use.name, parts, use.wall, duration(use.wall)))
        if train := use.train:
            before = seconds[0]
            training = (Part("", "transparent", before), Part("", "var(--p-backward)", train.value))
            bar = Bar(_("estimated"), training, before + train.value, duration(train.value), pale=True)
            bars.append(replace(bar, band=(before + train.low, before + train.high)))
    return Stacks(tuple(bars), _("seconds, from claim to result →"))


def largest_peak(uses: Sequence[MemoryUse]) -> float:
    """Measured or estimated: it decides the unit."""
    peaks = [use.peak for use in uses] + [peak.value for use in uses if (peak := use.estimated_peak)]
    return max(peaks, default=0.0)


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
    """Names of the holders, in the request's language."""
    return tuple(_(holder.name) for holder in holders)


def phase_seconds(clocks: Mapping[str, float]) -> tuple[float, ...]:
    """Seconds of each of PHASES."""
    return tuple(sum(clocks[name] for name in phase.clocks) for phase in PHASES)


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
