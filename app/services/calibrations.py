"""What past runs have taught of each device and method: for a page."""

from typing import NamedTuple

from sqlalchemy.orm import Session

from app.domain.calibration import Calibration, alike, calibrate
from app.services.estimates import kind_of
from app.store.queries import past_needs
from app.store.queries.past_needs import Precision


class Known(NamedTuple):
    """Of one device in one precision."""

    device_name: str
    precision: Precision
    method: str
    """Kind."""
    calibration: Calibration


def known(session: Session) -> list[Known]:
    """Of every device and method that has a run with a prediction and a measurement."""
    found = []
    for device in past_needs.devices(session):
        past = past_needs.on_device(session, device.name, device.precision)
        for method in dict.fromkeys(run.method for run in past):
            its = calibrate(kind_of(device.kind), device.precision == "bf16", alike(past, method))
            found.append(Known(device.name, device.precision, method, its))
    return found
