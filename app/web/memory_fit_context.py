"""Will it fit, as a page shows it: what each arm needs, on which workers and cards it fits, and the ways out."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from app.domain.methods import Family
from app.domain.resources.calibration import EstimateBand, Fit, usable
from app.domain.resources.memory_fit import ArmFit, DeviceFit, FitReport, MemorySaving
from app.web.bars import Segment, segments
from app.web.figures.drawing.render import content_hash
from app.web.figures.figure import Key
from app.web.figures.resource_parts import LEDGER, estimated_sizes, legend
from app.web.format import file_size, join_names, memory
from app.web.i18n import gettext as _
from app.web.text import memory_fit as words

NEAR = 1.6
"""A worker's memory is drawn on the bars unless it is so many times the longest of them."""
MOST_NAMED = 3
"""Workers of one kind that are named."""


@dataclass(frozen=True)
class Way:
    """A way out, and the button that takes it."""

    words: str
    size: str
    """What it saves."""
    state: Fit
    fit: str
    fields: str
    """What it sets, as JSON."""
    shared: bool
    """It sets a field of the budget, which all arms share."""

    @property
    def saves(self) -> str:
        """The same in words."""
        return _("saves %(size)s", size=self.size)

    @classmethod
    def of(cls, found: MemorySaving) -> "Way":
        """From the service."""
        return cls(
            words=words.way(found.name),
            size=memory(found.saved_bytes),
            state=found.fit,
            fit=_(words.FITS[found.fit]),
            fields=json.dumps(found.fields, separators=(",", ":")),
            shared="method" not in found.fields,
        )


@dataclass(frozen=True)
class DeviceNeed:
    """What an arm needs on workers with one kind of device, and whether it fits there."""

    device: str
    workers: str
    state: Fit | None
    """None where there is no worker."""
    fit: str
    room: str
    """What a run may take of the device's memory."""
    message: str
    """Why it is not known."""
    peak: EstimateBand | None
    band: str
    basis: str
    phase: str
    """Of the peak, where it is not training."""
    split: tuple[Segment, ...]
    limit: float | None
    """Where on the bar the device's room ends, in hundredths; None where that is far away."""
    seconds: EstimateBand | None
    ways: tuple[Way, ...]
    savings_pending: int


@dataclass(frozen=True)
class ArmNeed:
    """An arm."""

    place: int
    title: str
    family: Family
    devices: tuple[DeviceNeed, ...]
    """Of live workers; where there are none, of a GPU, with neither workers nor state."""
    fits_nowhere: bool
    file: str
    """Size of the weights' file that one keeps; empty until it is foreseen."""


@dataclass(frozen=True)
class CardLine:
    """A well-known card: which arms fit it."""

    name: str
    memory: str
    lines: tuple[tuple[str, str], ...]
    """State, and the arms that are in it."""


@dataclass(frozen=True)
class StudyFits:
    """Every arm of a study that is planned."""

    arms: tuple[ArmNeed, ...]
    cards: tuple[CardLine, ...]
    smallest_card: str
    """On which every arm fits; empty where none is known."""
    pending: int
    key: tuple[Key, ...]

    @property
    def too_large(self) -> str:
        """The arms that fit no live worker; empty where there are none."""
        return join_names([arm.title for arm in self.arms if arm.fits_nowhere])

    @property
    def state(self) -> Fit:
        """The worst that is known of an arm on the worker that suits it best."""
        best = [min((ORDER.index(d.state) for d in arm.devices if d.state), default=0) for arm in self.arms]
        return ORDER[max(best, default=0)]

    @property
    def word(self) -> str:
        """The same in a word."""
        return words.said(self.state)

    @property
    def several(self) -> bool:
        """Workers differ, so each is named at its bar."""
        return any(len(arm.devices) > 1 for arm in self.arms)

    @property
    def seen(self) -> str:
        """What is shown, as a name: a page that shows the same need not be drawn again."""
        return content_hash(self)

    @classmethod
    def of(cls, report: FitReport, families: Sequence[Family]) -> "StudyFits":
        """From the service; arms in the order of the study."""
        longest = _scale(report)
        return cls(
            arms=tuple(
                _arm(place, arm, family, longest)
                for place, (arm, family) in enumerate(zip(report.arms, families, strict=True))
            ),
            cards=tuple(_cards(report)),
            smallest_card=_smallest(report),
            pending=report.pending,
            key=legend(),
        )


ORDER: tuple[Fit, ...] = ("fits", "unknown", "tight", "does_not_fit")


def train_times(report: FitReport) -> tuple[str, Mapping[str, EstimateBand]]:
    """A worker whose rate is known for every arm, and how long each would train there; one with room for all first."""
    known: dict[str, dict[str, EstimateBand]] = {}
    small: set[str] = set()
    for arm in report.arms:
        for found in arm.workers:
            if found.train_seconds:
                known.setdefault(found.machine.name, {})[arm.name] = found.train_seconds
            if found.fit == "does_not_fit":
                small.add(found.machine.name)
    whole = [name for name, times in known.items() if len(times) == len(report.arms)]
    best = min(whole, key=lambda name: name in small, default="")
    return best, known.get(best, {})


def _arm(place: int, arm: ArmFit, family: Family, longest: float) -> ArmNeed:
    groups = groupby(sorted(arm.workers, key=_alike), key=_alike)
    devices = tuple(_device(list(found), longest) for _key, found in groups)
    if not devices and arm.cards:
        devices = (replace(_device([arm.cards[-1]], longest), workers="", device=_("a GPU"), state=None, limit=None),)
    file = next((size for need in arm.needs if need.prediction and (size := need.prediction.file_bytes)), None)
    return ArmNeed(
        place=place,
        title=arm.name,
        family=family,
        devices=devices,
        fits_nowhere=arm.fits_nowhere,
        file=file_size(file) if file else "",
    )


def _alike(found: DeviceFit) -> tuple[str, int, bool, str, str]:
    """Workers with the same device say the same."""
    machine = found.machine
    return (machine.device_name, machine.memory_bytes or 0, machine.bf16, found.fit, found.message)


def _device(alike: list[DeviceFit], longest: float) -> DeviceNeed:
    found = alike[0]
    peak, prediction = found.peak, found.need.prediction
    room = _room(found)
    names = [one.machine.name for one in alike]
    more = len(names) - MOST_NAMED
    return DeviceNeed(
        device=found.machine.device_name or found.machine.kind,
        workers=", ".join(names[:MOST_NAMED]) + (_(" and %(num)s more", num=more) if more > 0 else ""),
        state=found.fit,
        fit=_fit(found),
        room=memory(room) if room is not None else "",
        message=found.message,
        peak=peak,
        band=words.band(peak) if peak else "",
        basis=words.basis(peak.runs) if peak else "",
        phase=prediction.phase if prediction and prediction.phase != "train" else "",
        split=_split(found, longest),
        limit=100 * room / longest if room is not None and room <= longest else None,
        seconds=found.train_seconds,
        ways=tuple(map(Way.of, found.memory_savings)),
        savings_pending=found.savings_pending,
    )


def _fit(found: DeviceFit) -> str:
    if not found.able:
        return _("cannot do it")
    if found.peak and found.machine.memory_bytes is None:
        return _("its memory is not known")
    return _("cannot be told") if found.state == "failed" else _(words.FITS[found.fit])


def _split(found: DeviceFit, longest: float) -> tuple[Segment, ...]:
    if found.peak is None or found.need.prediction is None:
        return ()
    sizes = estimated_sizes(found.need.prediction, found.peak.value)
    return segments(((css, size) for (css, _name), size in zip(LEDGER, sizes, strict=True)), longest)


def _room(found: DeviceFit) -> float | None:
    machine = found.machine
    return max(0.0, usable(machine.memory_bytes, machine.kind)) if machine.memory_bytes is not None else None


def _scale(report: FitReport) -> float:
    """What the whole width of a bar stands for: the longest of them, or a worker's room where that is not far away."""
    found = [one for arm in report.arms for one in arm.workers or arm.cards[-1:]]
    longest = max((one.peak.value for one in found if one.peak), default=1.0)
    rooms = [
        room for one in found if one.machine.worker and (room := _room(one)) is not None and room <= NEAR * longest
    ]
    return max([longest, *rooms])


def _cards(report: FitReport) -> Iterator[CardLine]:
    for place, card in enumerate(report.arms[0].cards if report.arms else ()):
        fits = {arm.name: arm.cards[place].fit for arm in report.arms}
        lines = [(fit, [arm for arm, its in fits.items() if its == fit]) for fit in words.FITS]
        yield CardLine(
            name=card.machine.name,
            memory=memory(card.machine.memory_bytes),
            lines=tuple((state, _arms(arms, len(fits), state)) for state, arms in lines if arms),
        )


def _arms(arms: Sequence[str], of: int, state: Fit) -> str:
    if len(arms) < of:
        return join_names(arms)
    if of == 1:
        return words.said(state)
    every: dict[Fit, str] = {
        "fits": _("every arm fits"),
        "tight": _("every arm is tight"),
        "does_not_fit": _("no arm fits"),
    }
    return every.get(state, words.said(state))


def _smallest(report: FitReport) -> str:
    def all_fit(place: int) -> bool:
        return all(arm.cards[place].fit == "fits" for arm in report.arms)

    cards = report.arms[0].cards if report.arms else ()
    return next((card.machine.name for place, card in enumerate(cards) if all_fit(place)), "")
