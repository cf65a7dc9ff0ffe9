"""Estimates of past runs beside their measurements: what calibration and accuracy rest on."""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from app.domain.resources.calibration import CalibrationRun, Precision
from app.domain.resources.speed import DeviceRates, Trained
from app.domain.resources.work import Work
from app.domain.runs.status import Phase, RunStatus
from app.store.tables import EstimateRow, RunRow

MOST = 200
"""The newest runs that are read."""


def _peak_in(phase: Phase) -> ColumnElement[float]:
    """Estimated bytes of a phase: exact as a float, where an INTEGER of PostgreSQL ends at 2 GiB."""
    peak: ColumnElement[float] = EstimateRow.result_json["phases"][phase.value].as_float()
    return peak


_MEASURED = (
    RunRow.estimate_id == EstimateRow.id,
    # An estimate in another precision than the run's says nothing.
    EstimateRow.request_json["bf16"].as_boolean() == (RunRow.precision == "bf16"),
    RunRow.status == RunStatus.SUCCEEDED.value,
    # A trial does not evaluate the test split, which the estimate includes: it counts where its estimated peak is not
    # there.
    or_(
        RunRow.trial_round.is_(None),
        *(RunRow.estimated_bytes == _peak_in(phase) for phase in (Phase.TRAIN, Phase.LOAD)),
    ),
    # Estimates are those of plain blocks, to whose speed that of compiled ones says nothing.
    RunRow.spec_json["training"]["compile_blocks"].as_boolean().is_not(True),
    RunRow.estimated_bytes.is_not(None),
    RunRow.peak_bytes > 0,
)


class Device(NamedTuple):
    """One that has runs in a precision."""

    name: str
    precision: Precision
    kind: str
    """`cpu` or `cuda`."""


def devices(session: Session) -> list[Device]:
    """Every device and precision that has a run with an estimate and a measurement."""
    present = RunRow.device_name.is_not(None), RunRow.precision.is_not(None)
    pairs = select(RunRow.device_name, RunRow.precision).where(*present).distinct()
    devices = []
    for name, precision in session.execute(pairs.order_by(RunRow.device_name, RunRow.precision)).all():
        # along the index of devices: the newest run is nearly always the one
        kind = select(EstimateRow.request_json["device"].as_string())
        own = kind.where(*_MEASURED, RunRow.device_name == name, RunRow.precision == precision)
        if (known := session.scalars(own.order_by(RunRow.id.desc()).limit(1)).first()) is not None:
            devices.append(Device(str(name), cast(Precision, precision), known))
    return devices


def _trained(row: Any) -> Trained | None:
    if not row.work or not row.train_seconds or not row.step:
        return None
    # One that stopped early has done a share of what was estimated.
    work = Work(*row.work) * (row.step / row.total_steps if row.total_steps else 1.0)
    threads = (row.environment or {}).get("threads", 1)
    return Trained(work, row.width or 0, row.train_seconds, row.waiting or 0.0, threads)


def _rates(environment: Mapping[str, Any]) -> DeviceRates:
    by_width = {int(width): rate for width, rate in environment.get("matmul_rates", {}).items()}
    return DeviceRates(
        environment.get("matmul_flops"), by_width, environment.get("call_rate"), environment.get("byte_rate")
    )


def on_device(
    session: Session, device_name: str, precision: Precision, *, without: int | None = None
) -> list[CalibrationRun]:
    """The newest runs on a device in a precision, newest first: those with the library versions of the newest one.

    `without` leaves a run out.
    """
    columns = (
        RunRow.id,
        EstimateRow.request_json["task"].as_string().label("task"),
        EstimateRow.result_json["width"].as_integer().label("width"),
        EstimateRow.result_json["train_work"].as_json().label("work"),
        RunRow.result_json["clocks"]["waiting"].as_float().label("waiting"),
        RunRow.result_json["environment"].as_json().label("environment"),
        RunRow.method_kind,
        RunRow.estimated_bytes,
        RunRow.peak_bytes,
        RunRow.train_seconds,
        RunRow.step,
        RunRow.total_steps,
        RunRow.libraries,
    )
    query = select(*columns).where(*_MEASURED, RunRow.device_name == device_name, RunRow.precision == precision)
    rows = session.execute(query.order_by(RunRow.id.desc()).limit(MOST)).all()
    return [
        CalibrationRun(
            row.id,
            row.task,
            row.method_kind,
            row.estimated_bytes or 0,
            row.peak_bytes or 0,
            _trained(row),
            _rates(row.environment or {}),
        )
        for row in rows
        if row.libraries == rows[0].libraries and row.id != without
    ]
