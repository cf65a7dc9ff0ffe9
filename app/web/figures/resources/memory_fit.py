"""Estimated peak memory of a planned study: a bar by owner for each arm and kind of device, and the GPUs that fit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from app.domain.methods import Family
from app.domain.resources.calibration import Fit
from app.domain.resources.devices import Device
from app.domain.resources.memory_fit import ArmFit, DeviceFit, FitReport
from app.web.bars import Segment, segments
from app.web.figures.resources.parts import LEDGER, Holder, estimated_sizes
from app.words.format import join_names
from app.words.i18n import gettext as _
from app.words.models.memory_fit import FITS

NEAR = 1.6
"""A worker's usable memory is drawn on the bars unless it is this many times the longest of them."""
MAX_NAMED = 3
"""Workers of one kind that are named."""
BEST_FIRST: tuple[Fit, ...] = ("fits", "unknown", "tight", "does_not_fit")


@dataclass(frozen=True)
class DeviceBar:
    """An arm on workers with the same device."""

    fit: DeviceFit
    """On the first of them."""
    workers: str
    """Empty of a GPU that no worker has."""
    segments: tuple[Segment, ...]
    limit: float | None
    """Where on the bar the usable memory ends, in hundredths; None where that is far away."""


@dataclass(frozen=True)
class ArmBars:
    """An arm on live workers; where there are none, on the largest GPU."""

    place: int
    fit: ArmFit
    family: Family
    bars: tuple[DeviceBar, ...]

    @property
    def best(self) -> Fit:
        """On the worker that suits it best."""
        fits = [bar.fit.fit for bar in self.bars if bar.workers]
        return min(fits, key=BEST_FIRST.index, default="fits")


@dataclass(frozen=True)
class MemoryFitFigure:
    """Every arm of a planned study."""

    report: FitReport
    arms: tuple[ArmBars, ...]

    @classmethod
    def of(cls, report: FitReport, families: Sequence[Family]) -> "MemoryFitFigure":
        """Arms in the order of the study."""
        longest = _longest(report)
        arms = (
            ArmBars(place, arm, family, _bars(arm, longest))
            for place, (arm, family) in enumerate(zip(report.arms, families, strict=True))
        )
        return cls(report, tuple(arms))

    @property
    def too_large(self) -> str:
        """The arms that fit no live worker; empty where there are none."""
        return join_names([arm.name for arm in self.report.arms if arm.fits_nowhere])

    @property
    def fit(self) -> Fit:
        """The worst of the arms, each on the worker that suits it best."""
        return max((arm.best for arm in self.arms), key=BEST_FIRST.index, default="fits")

    @property
    def several(self) -> bool:
        """Workers differ, so each is named at its bar."""
        return any(len(arm.bars) > 1 for arm in self.arms)

    @property
    def key(self) -> tuple[Holder, ...]:
        return LEDGER

    @property
    def gpus(self) -> Iterator[tuple[Device, list[tuple[Fit, str]]]]:
        """The well-known GPUs, by memory: the arms that fit it, those that are tight, and so on."""
        for place, gpu in enumerate(self.report.arms[0].gpu_models if self.report.arms else ()):
            by_arm = {arm.name: arm.gpu_models[place].fit for arm in self.report.arms}
            names: dict[Fit, list[str]] = {fit: [arm for arm, own in by_arm.items() if own == fit] for fit in FITS}
            yield gpu.device, [(fit, _arms(arms, len(by_arm), fit)) for fit, arms in names.items() if arms]

    @property
    def smallest_gpu(self) -> str:
        """The first GPU that fits every arm; empty where none is known to."""
        gpus = zip(*(arm.gpu_models for arm in self.report.arms), strict=True)
        return next((fits[0].device.name for fits in gpus if all(fit.fit == "fits" for fit in fits)), "")


def _bars(arm: ArmFit, longest: float) -> tuple[DeviceBar, ...]:
    groups = (list(group) for _key, group in groupby(sorted(arm.workers, key=_same_device), key=_same_device))
    bars = tuple(DeviceBar(g[0], _names(g), _segments(g[0], longest), _limit(g[0], longest)) for g in groups)
    if bars or not arm.gpu_models:
        return bars
    largest = arm.gpu_models[-1]
    return (DeviceBar(largest, "", _segments(largest, longest), None),)


def _same_device(fit: DeviceFit) -> tuple[str, int, bool, Fit, str]:
    """Workers with the same device show the same."""
    return (fit.device.device_name, fit.device.memory_bytes or 0, fit.device.bf16, fit.fit, fit.message)


def _names(group: Sequence[DeviceFit]) -> str:
    names, more = [fit.device.name for fit in group[:MAX_NAMED]], len(group) - MAX_NAMED
    return ", ".join(names) + (_(" and %(num)s more", num=more) if more > 0 else "")


def _segments(fit: DeviceFit, longest: float) -> tuple[Segment, ...]:
    estimate = fit.arm_estimate.estimate
    if fit.peak is None or estimate is None:
        return ()
    sizes = estimated_sizes(estimate, fit.peak.value)
    return segments(((holder.css, size) for holder, size in zip(LEDGER, sizes, strict=True)), longest)


def _limit(fit: DeviceFit, longest: float) -> float | None:
    usable = fit.device.usable_bytes
    return 100 * usable / longest if usable is not None and usable <= longest else None


def _longest(report: FitReport) -> float:
    """Bytes of a whole bar: the largest peak, or a worker's usable memory where that is not far away."""
    fits = [fit for arm in report.arms for fit in arm.workers or arm.gpu_models[-1:]]
    longest = max((fit.peak.value for fit in fits if fit.peak), default=1.0)
    limits = [usable for fit in fits if fit.device.worker and (usable := fit.device.usable_bytes) is not None]
    return max([longest, *(limit for limit in limits if limit <= NEAR * longest)])


def _arms(arms: Sequence[str], count: int, fit: Fit) -> str:
    if len(arms) < count:
        return join_names(arms)
    every: dict[Fit, str] = {
        "fits": _("every arm fits"),
        "tight": _("every arm is tight"),
        "does_not_fit": _("no arm fits"),
    }
    return _(FITS[fit]) if count == 1 else every.get(fit, _(FITS[fit]))
