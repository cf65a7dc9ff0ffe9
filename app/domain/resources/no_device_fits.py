"""The sentence for what is known to fit no live worker: what it would need, what there is, and the best way out."""

from app.domain.errors import FieldError, Invalid
from app.domain.resources.calibration import GIB, MIB, usable
from app.domain.resources.memory_fit import ArmFit, DeviceFit, FitReport

INSIST = "insist=true queues it all the same"


def refusal(report: FitReport, *, study: bool) -> Invalid | None:
    """The error of a run, or of a study with its arms' paths; None where every arm fits somewhere, or that is not known
    yet."""
    errors = [
        FieldError(f"arms.{place}.method" if study else "method", _what(arm), _remedy(arm))
        for place, arm in enumerate(report.arms)
        if arm.fits_nowhere
    ]
    if not errors:
        return None
    message = "; ".join(error.message for error in errors)
    return Invalid(f"{message}. {INSIST[0].upper()}{INSIST[1:]}.", errors)


def size(number: float) -> str:
    """Bytes for a person: `12.3 GiB`, `850 MiB`."""
    return f"{number / GIB:.1f} GiB" if number >= GIB else f"{number / MIB:.0f} MiB"


def _what(arm: ArmFit) -> str:
    able = [found for found in arm.workers if found.able]
    least = min((found.peak for found in able if found.peak), key=lambda peak: peak.value)
    rooms = ", ".join(f"{found.machine.name} has {_room(found)}" for found in able)
    return f"{arm.name} is predicted to need {size(least.value)}, and no live worker has room for it: {rooms}"


def _room(found: DeviceFit) -> str:
    memory = found.machine.memory_bytes or 0
    return f"{size(memory)}, of which a run may take {size(max(0.0, usable(memory, found.machine.kind)))}"


def _remedy(arm: ArmFit) -> str:
    found = [way for machine in arm.workers for way in machine.memory_savings]
    enough = [way for way in found if way.fit == "fits"] or found
    if not enough:
        return INSIST
    best = max(enough, key=lambda way: way.saved_bytes)
    end = "" if best.fit == "fits" else ", which is not enough"
    return f"{best.words} would save {size(best.saved_bytes)}{end}; or {INSIST}"
