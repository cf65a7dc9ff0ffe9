"""The devices that a run could use: those of live workers, and well-known GPUs."""

from sqlalchemy.orm import Session

from app.domain.messages import Message, _
from app.domain.resources.devices import GPU_MODELS, Device, DeviceKind, WorkerDevice
from app.domain.runs.capabilities import CAPABILITIES, Capability
from app.services.workers.workers import WorkerView, live
from app.settings import Settings
from app.store.tables import WorkerRow

PRESENT = ("idle", "running")
"""States of workers that take runs: neither lost nor draining."""


def available(session: Session, settings: Settings) -> tuple[Device, ...]:
    """Live workers by name, then the well-known GPUs by memory."""
    workers = [of_worker(worker) for worker in live(session, settings) if worker.state in PRESENT]
    return (*workers, *GPU_MODELS)


def of_worker(worker: WorkerView | WorkerRow) -> WorkerDevice:
    return WorkerDevice(
        name=worker.name,
        kind=kind_of(worker.device),
        device_name=worker.device_name,
        memory_bytes=worker.memory_bytes,
        context_bytes=worker.context_bytes,
        bf16=worker.bf16,
        matmul_flops=worker.matmul_flops,
        matmul_rates={int(width): float(rate) for width, rate in worker.matmul_rates.items()},
        capabilities=tuple(name for name in CAPABILITIES if name in worker.capabilities),
    )


def kind_of(device: str) -> DeviceKind:
    """The kind of a worker's device: `cuda` for `cuda:0`."""
    return "cuda" if device.startswith("cuda") else "cpu"


def missing_capabilities(device: Device, required: frozenset[Capability]) -> Message:
    """What a worker lacks for a method, as a sentence; empty for a GPU model, whose worker may have anything."""
    missing = sorted(required - set(device.capabilities)) if device.worker else []
    facts = [CAPABILITIES[name] for name in missing]
    return Message.joined(
        (_("it takes a worker that %(has)s: %(remedy)s", has=fact.lacking, remedy=fact.remedy) for fact in facts), "; "
    )
