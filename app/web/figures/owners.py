"""Memory by owner: what the parts of a ledger are called, their colours, and bars of them, measured or predicted."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from app.domain.resources.calibration import EstimateBand
from app.domain.resources.estimate import ResourceEstimate
from app.domain.resources.ledger import OWNERS, Owner
from app.domain.resources.memory_fit import RunFit
from app.domain.runs.result import Memory
from app.web.figures.drawing.stacks import Bar, Part
from app.web.figures.figure import Key
from app.web.format import MIB, mib
from app.web.i18n import gettext as _
from app.web.i18n import marked

LEDGER: tuple[tuple[str, str], ...] = (
    ("weights", marked("weights")),
    ("gradients", marked("gradients")),
    ("optimizer", marked("optimizer state")),
    ("activations", marked("activations")),
    ("temporaries", marked("temporaries")),
    ("other", marked("other")),
    ("device", marked("the device's own")),
    ("phase", marked("another phase")),
)
"""Class and name: every owner of `app.domain.resources.ledger`; what training holds beyond the step's tensors; and what
another phase held more than training, where the peak is not in training."""

Sizes = tuple[float, ...]
"""Bytes of each of LEDGER."""


def ledger_sizes(found: Mapping[Owner, float], train_peak: float, peak: float) -> Sizes:
    """Bytes of each of LEDGER: by owner, up to the peak of training, and up to the peak of all phases."""
    known = tuple(float(found.get(owner, 0)) for owner in OWNERS)
    return (*known, max(0.0, train_peak - sum(known)), max(0.0, peak - max(train_peak, sum(known))))


def foreseen_sizes(found: ResourceEstimate, peak: float) -> Sizes:
    """Of a prediction; what an estimated peak has beyond that of the largest phase is the device's constant."""
    constant = peak - found.peak_bytes
    return ledger_sizes(found.ledger.owners, found.ledger.total + constant, peak)


def memory_sizes(found: Memory) -> Sizes:
    """As it was measured; nothing by owner where there is no ledger."""
    return ledger_sizes(found.ledger.owners if found.ledger else {}, found.train_peak_bytes, found.peak_bytes)


@dataclass(frozen=True)
class Foreseen:
    """What was predicted for a run, on the device that it was made on."""

    sizes: Sizes
    peak: EstimateBand
    """Bytes: the prediction and the device's constant."""
    train: EstimateBand | None
    """Seconds; None where no run has told the device's rate."""

    @classmethod
    def of(cls, fit: RunFit | None) -> "Foreseen | None":
        """None where there is no prediction, or no device that it is for."""
        found = fit.need.prediction if fit and fit.need else None
        if fit is None or found is None or fit.peak is None:
            return None
        return cls(foreseen_sizes(found, fit.peak.value), fit.peak, fit.train_seconds)

    @property
    def bar(self) -> Bar:
        """Of memory, to stand below the one that was measured."""
        band = (self.peak.low / MIB, self.peak.high / MIB)
        return replace(ledger_bar(_("predicted"), self.sizes, self.peak.value), pale=True, band=band)


def colour(css: str) -> str:
    """The token of a part."""
    return f"var(--o-{css})"


def ledger_bar(name: str, sizes: Sizes, peak: float) -> Bar:
    """A bar of memory."""
    parts = tuple(Part(_(word), colour(css), size / MIB) for (css, word), size in zip(LEDGER, sizes, strict=True))
    return Bar(name, parts, peak / MIB, mib(peak))


def ledger_key() -> tuple[Key, ...]:
    """The legend."""
    return tuple(Key(css, _(name)) for css, name in LEDGER)


def names() -> tuple[str, ...]:
    """Of each of LEDGER, in the request's language."""
    return tuple(_(name) for _css, name in LEDGER)
