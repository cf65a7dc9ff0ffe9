"""Bars of time by phase, and of memory as it was split before runs had ledgers: three owners computed, and what is
left."""

from collections.abc import Mapping

from app.domain.comparison.costs import Costs
from app.domain.resources.calibration import EstimateBand
from app.domain.runs.result import Memory
from app.web.figures.drawing.stacks import Bar, Part
from app.web.figures.figure import Key
from app.web.format import MIB, duration, mib
from app.web.i18n import gettext as _
from app.web.i18n import marked

OWNERS = (
    ("weights", marked("weights"), "var(--o-weights)"),
    ("gradients", marked("gradients"), "var(--o-gradients)"),
    ("optimizer", marked("optimizer state"), "var(--o-optimizer)"),
    ("activations", marked("activations and the rest"), "var(--o-activations)"),
)
"""Class, name, colour. The first three are computed; the last is what they leave of the measured peak."""

PHASES: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("idle", marked("set-up"), "var(--p-idle)", ("start", "load", "tokenize", "baseline", "cache")),
    ("forward", marked("forward"), "var(--p-forward)", ("forward",)),
    ("backward", marked("backward"), "var(--p-backward)", ("backward",)),
    ("step-time", marked("optimizer"), "var(--p-optimizer)", ("optimizer",)),
    ("idle", marked("batches"), "var(--p-idle)", ("data",)),
    (
        "idle",
        marked("evaluate, save, audit, weight updates"),
        "var(--p-idle)",
        ("evaluate", "save", "audit", "weight_delta"),
    ),
)
"""Class, name, colour, and the clocks that it sums."""

WIDTHS = (556, 356)


def owners(found: Costs | Memory) -> tuple[float, ...]:
    """Bytes of each of OWNERS."""
    return (found.weights_bytes, found.gradients_bytes, found.optimizer_bytes, found.rest_bytes)


def phases(clocks: Mapping[str, float]) -> tuple[float, ...]:
    """Seconds of each of PHASES."""
    return tuple(sum(clocks[name] for name in names) for _css, _name, _colour, names in PHASES)


def owner_bar(name: str, sizes: tuple[float, ...], peak: float) -> Bar:
    """A bar of memory."""
    parts = tuple(Part(_(word), colour, size / MIB) for (_c, word, colour), size in zip(OWNERS, sizes, strict=True))
    return Bar(name, parts, peak / MIB, mib(peak))


def phase_bar(name: str, seconds: tuple[float, ...], total: float) -> Bar:
    """A bar of time."""
    parts = tuple(Part(_(word), colour, size) for (_c, word, colour, _n), size in zip(PHASES, seconds, strict=True))
    return Bar(name, parts, total, duration(total))


def train_bar(before: float, seconds: EstimateBand) -> Bar:
    """A training as it was predicted; it begins `before` seconds after the claim, where the measured one does."""
    parts = (Part("", "transparent", before), Part(_("train"), "var(--p-backward)", seconds.value))
    band = (before + seconds.low, before + seconds.high)
    return Bar(_("predicted"), parts, before + seconds.value, duration(seconds.value), pale=True, band=band)


def before_training(clocks: Mapping[str, float]) -> float:
    """Seconds from the claim to the first step."""
    return sum(clocks[name] for name in PHASES[0][-1])


def owner_key() -> tuple[Key, ...]:
    """The legend of memory."""
    return tuple(Key(css, _(name)) for css, name, _colour in OWNERS)
