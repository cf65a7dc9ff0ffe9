"""What past runs have taught of each device, task and method, and what is assumed of devices without: for a page."""

from typing import NamedTuple

from sqlalchemy.orm import Session

from app.domain.resources.calibration import ASSUMED, Calibration, calibrate
from app.domain.resources.memory_fit import Machine
from app.domain.tasks import Task
from app.services.resources.devices import present
from app.services.resources.estimates import kind_of
from app.settings import Settings
from app.store.queries import past_estimates
from app.store.queries.past_estimates import Precision


class Known(NamedTuple):
    """Of one device in one precision."""

    device_name: str
    precision: Precision
    task: Task
    method: str
    """Kind."""
    calibration: Calibration


def known(session: Session) -> list[Known]:
    """Of every device, task and method that has a run with a prediction and a measurement."""
    found = []
    for device in past_estimates.devices(session):
        past = past_estimates.on_device(session, device.name, device.precision)
        for task, method in dict.fromkeys((run.task, run.method) for run in past):
            its = calibrate(kind_of(device.kind), device.precision == "bf16", past, task, method)
            found.append(Known(device.name, device.precision, task, method, its))
    return found


class Assumption(NamedTuple):
    """What is added to every prediction for a device that has made no run yet."""

    machine: Machine
    """The first live worker with that device."""
    constant_bytes: int
    band_bytes: int
    """Half the width of the band around it."""


def assumed(session: Session, settings: Settings) -> list[Assumption]:
    """Of each live worker's device that has made no run in the precision that it computes in unless told otherwise."""
    known = {(device.name, device.precision == "bf16") for device in past_estimates.devices(session)}
    found: dict[tuple[str, bool], Assumption] = {}
    for machine in present(session, settings):
        key = (machine.device_name, machine.bf16)
        if machine.worker and key not in known:
            found.setdefault(key, Assumption(machine, *ASSUMED[machine.kind, machine.bf16]))
    return list(found.values())
