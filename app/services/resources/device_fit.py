"""One arm on one device: its prediction as it stands, peak and time with bands, fits or not, and the ways out."""

from collections.abc import Iterable, Sequence

from sqlalchemy.orm import Session

from app.domain.resources.calibration import Fit, fit, peak, train_seconds
from app.domain.resources.estimate import EstimateRequest
from app.domain.resources.memory_fit import DeviceFit, Machine, MemorySaving, Need, State
from app.domain.resources.savings import SAVINGS, SavingOption
from app.queue import Doorbell
from app.services.resources import estimates
from app.services.resources.devices import Calibrations, lacks
from app.store.queries import estimates as queries
from app.store.tables import EstimateRow

TIGHT: tuple[Fit, ...] = ("tight", "does_not_fit")
"""Where ways out are looked for."""


class Board:
    """Estimates by what was asked. With a doorbell it asks for what is missing; without, it looks."""

    def __init__(self, session: Session, bell: Doorbell | None, rows: Iterable[EstimateRow] = ()) -> None:
        self._session, self._bell = session, bell
        self._rows = {row.key: row for row in rows}

    def ask(self, requests: Iterable[EstimateRequest]) -> None:
        """Look them up, or have them worked out."""
        wanted = {key: request for request in requests if (key := request.key) not in self._rows}
        if self._bell is None:
            self._rows |= queries.by_keys(self._session, wanted)
        else:
            self._rows |= estimates.all_wanted(self._session, self._bell, wanted.values())

    def need(self, request: EstimateRequest) -> Need:
        """How one stands."""
        row = self._rows.get(request.key)
        return Need(
            kind=request.device,
            bf16=request.bf16,
            estimate_id=row.id if row else None,
            state=state_of(row),
            message=row.message if row else "",
            prediction=row.prediction if row else None,
        )


def state_of(row: EstimateRow | None) -> State:
    """How an estimate stands; one that waits is being worked out, as far as anyone cares."""
    if row is not None and row.status == "ready":
        return "ready"
    return "failed" if row is not None and row.status == "failed" else "working"


def device_fit(machine: Machine, request: EstimateRequest, board: Board, calibrations: Calibrations) -> DeviceFit:
    """An arm on a device, without ways out."""
    need, lacking = board.need(request), lacks(machine, request.method.needs)
    found = need.prediction
    calibration = calibrations.of(machine, request.bf16, request.task, request.method.kind)
    estimate = peak(found.peak_bytes, calibration) if found else None
    return DeviceFit(
        machine=machine,
        need=need,
        estimate_id=need.estimate_id,
        state="failed" if lacking else need.state,
        message=lacking or need.message,
        able=not lacking,
        peak=estimate,
        train_seconds=train_seconds(found.train_flops, calibration) if found else None,
        fit=fit(estimate, machine.memory_bytes, machine.kind) if estimate and not lacking else "unknown",
    )


def wants_ways(found: DeviceFit) -> bool:
    """Ways out are looked for on a worker's device that is too small, or nearly so."""
    return found.machine.worker and found.fit in TIGHT


def with_ways(found: DeviceFit, ways: Sequence[SavingOption], board: Board, calibrations: Calibrations) -> DeviceFit:
    """The same with the ways out that save, the largest saving first; `board` has been asked for them."""
    machine, now = found.machine, found.peak
    possible = [way for way in ways if not lacks(machine, way.request.method.needs)]
    needs = [board.need(way.request) for way in possible]
    waits = [need for need in needs if need.state == "working"]
    better: list[MemorySaving] = []
    for way, need in zip(possible, needs, strict=True):
        if need.prediction is None or now is None:
            continue
        request = way.request
        known = calibrations.of(machine, request.bf16, request.task, request.method.kind)
        estimate = peak(need.prediction.peak_bytes, known)
        saved = int(now.value - estimate.value)
        if saved > 0:
            better.append(
                MemorySaving(
                    name=way.name,
                    words=SAVINGS[way.name],
                    fields=way.fields,
                    peak=estimate,
                    saved_bytes=saved,
                    fit=fit(estimate, machine.memory_bytes, machine.kind),
                    ledger=need.prediction.ledger,
                )
            )
    return found.model_copy(
        update={
            "memory_savings": tuple(sorted(better, key=lambda way: -way.saved_bytes)),
            "savings_pending": len(waits),
            "unrequested": sum(need.estimate_id is None for need in waits),
        }
    )
