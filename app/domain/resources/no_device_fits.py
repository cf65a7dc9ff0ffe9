"""The error about a run that is known to fit no live worker: what it needs, what there is, and what saves most."""

from app.domain.errors import FieldError, Invalid
from app.domain.messages import Message, _
from app.domain.resources.calibration import GIB, MIB, usable
from app.domain.resources.memory_fit import ArmFit, DeviceFit, FitReport


def refusal(report: FitReport, *, study: bool) -> Invalid | None:
    """The error of a run, or of a study with its arms' paths; None where every arm fits somewhere, or that is not known
    yet."""
    errors = [
        FieldError(f"arms.{place}.method" if study else "method", _what(arm), _remedy(arm))
        for place, arm in enumerate(report.arms)
        if arm.fits_nowhere
    ]
    return Invalid.of(errors) if errors else None


def size(number: float) -> str:
    """Bytes for a person: `12.3 GiB`, `850 MiB`."""
    return f"{number / GIB:.1f} GiB" if number >= GIB else f"{number / MIB:.0f} MiB"


def _what(arm: ArmFit) -> Message:
    able = [found for found in arm.workers if found.able]
    least = min((found.peak for found in able if found.peak), key=lambda peak: peak.value)
    return _(
        "%(arm)s is predicted to need %(peak)s, more than any live worker has: %(workers)s",
        arm=arm.name,
        peak=size(least.value),
        workers=Message.joined(map(_room, able), ", "),
    )


def _room(found: DeviceFit) -> Message:
    memory = found.machine.memory_bytes or 0
    return _(
        "%(worker)s has %(memory)s, of which a run may take %(usable)s",
        worker=found.machine.name,
        memory=size(memory),
        usable=size(max(0.0, usable(memory, found.machine.kind))),
    )


def _remedy(arm: ArmFit) -> Message:
    found = [way for machine in arm.workers for way in machine.memory_savings]
    enough = [way for way in found if way.fit == "fits"] or found
    if not enough:
        return _("Set insist=true to queue it anyway")
    best = max(enough, key=lambda way: way.saved_bytes)
    values = {"way": best.words, "saved": size(best.saved_bytes)}
    if best.fit == "fits":
        return _("Change this: %(way)s, which saves %(saved)s; or set insist=true to queue it anyway", **values)
    return _("%(way)s saves %(saved)s, which is not enough; set insist=true to queue it anyway", **values)
