"""The devices that a run could be made on, and what past runs have taught of each."""

from sqlalchemy.orm import Session

from app.domain.resources.calibration import CARDS, Calibration, CalibrationRun, calibrate
from app.domain.resources.memory_fit import Machine
from app.domain.runs.capabilities import CAPABILITIES, Capability
from app.domain.tasks import Task
from app.services.resources.estimates import kind_of
from app.services.workers import WorkerView, live
from app.settings import Settings
from app.store.queries import past_estimates
from app.store.queries.past_estimates import Precision
from app.store.tables import WorkerRow

PRESENT = ("idle", "running")
"""States of a worker that takes runs: not one that is lost or about to stop."""


def present(session: Session, settings: Settings) -> tuple[Machine, ...]:
    """Live workers by name, then the well-known cards by memory."""
    workers = [of_worker(worker) for worker in live(session, settings) if worker.state in PRESENT]
    return (*workers, *cards())


def cards() -> tuple[Machine, ...]:
    """The well-known cards."""
    return tuple(
        Machine(
            name=card.name,
            worker=False,
            kind="cuda",
            device_name=card.name,
            memory_bytes=card.memory_bytes,
            bf16=card.bf16,
        )
        for card in CARDS
    )


def of_worker(worker: WorkerView | WorkerRow) -> Machine:
    """A worker's device."""
    return Machine(
        name=worker.name,
        worker=True,
        kind=kind_of(worker.device),
        device_name=worker.device_name,
        memory_bytes=worker.memory_bytes,
        bf16=worker.bf16,
        matmul_flops=worker.matmul_flops,
        capabilities=tuple(name for name in CAPABILITIES if name in worker.capabilities),
    )


def lacks(machine: Machine, needs: frozenset[Capability]) -> str:
    """What a worker lacks for a method, as a sentence; empty for a card, which has whatever its worker has."""
    missing = sorted(needs - set(machine.capabilities)) if machine.worker else []
    facts = [CAPABILITIES[name] for name in missing]
    return "; ".join(f"it takes a worker that {found.lacking}: {found.remedy}" for found in facts)


class Calibrations:
    """Of devices, whose past is looked up once. `without`: a run that is to be held against the others."""

    def __init__(self, session: Session, without: int | None = None) -> None:
        self._session, self._without = session, without
        self._past: dict[tuple[str, bool], list[CalibrationRun]] = {}

    def of(self, machine: Machine, bf16: bool, task: Task, method: str) -> Calibration:
        """A device's constants when it computes in bfloat16, or in float32; `method` is a kind."""
        key = (machine.device_name, bf16)
        if key not in self._past:
            precision: Precision = "bf16" if bf16 else "fp32"
            found = past_estimates.on_device(self._session, machine.device_name, precision, without=self._without)
            self._past[key] = found
        rate = machine.matmul_flops if bf16 is machine.bf16 else None
        return calibrate(machine.kind, bf16, self._past[key], task, method, rate)
