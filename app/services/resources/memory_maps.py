"""Memory maps: one model on one device, method × length × batch size: what fits, and the largest batch that does."""

from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.errors import FieldError, Invalid
from app.domain.messages import _, at_most, choose_from
from app.domain.methods import METHODS, AnyMethod
from app.domain.models.adaptations import usual
from app.domain.models.base_model import ModelFacts
from app.domain.resources.calibration import memory_fit, peak
from app.domain.resources.devices import Device
from app.domain.resources.estimate import MapRequest, MemoryMap
from app.domain.resources.memory_map import MapCellFit, MapReport, MapSpec, MaxBatch
from app.domain.tasks import TASKS
from app.services.resources import estimates
from app.services.resources.calibration import Calibrations
from app.services.resources.devices import available
from app.services.resources.requests import model_fields
from app.settings import Settings
from app.store.models import queries as base_models


def map_report(session: Session, bell: Doorbell | None, settings: Settings, spec: MapSpec) -> MapReport:
    """Which cells fit. With `bell` the map is requested, in a transaction; without, it is only looked up.

    Raises NotFound for a base model that is not registered, Invalid for what it cannot do.
    """
    device = _device(session, settings, spec.device)
    request = _request(session, spec, device)
    if bell is None:
        row = estimates.known(session, [request.key]).get(request.key)
    else:
        row = estimates.wanted(session, bell, request)
    memory_map = row.map if row else None
    cells = _cells(memory_map, device, Calibrations(session), request) if memory_map else ()
    return MapReport(
        estimate_id=row.id if row else None,
        state=row.state if row else "working",
        message=row.message if row else "",
        device=device,
        bf16=request.bf16,
        methods=request.methods,
        lengths=request.lengths,
        batch_sizes=request.batch_sizes,
        cells=cells,
        boundaries=_boundaries(cells),
    )


def _device(session: Session, settings: Settings, name: str) -> Device:
    devices = available(session, settings)
    device = next((device for device in devices if not name or device.name == name), None)
    if device is None:
        names = ", ".join(device.name for device in devices)
        raise Invalid.field(
            "device",
            _("There is no live worker and no known GPU %(name)r", name=name),
            _("Choose from: %(names)s", names=names),
        )
    return device


def _request(session: Session, spec: MapSpec, device: Device) -> MapRequest:
    model = base_models.get(session, spec.base_model)
    if model.facts is None:
        why = model.message or _("it is still being inspected, so try again in a few seconds")
        raise Invalid.field("base_model", _("%(name)s cannot be used: %(why)s", name=model.name, why=why))
    return MapRequest(
        **model_fields(model),
        task=spec.task,
        labels=spec.labels,
        methods=_methods(model.facts, spec),
        training=spec.training,
        lengths=tuple(sorted(set(spec.lengths))),
        batch_sizes=tuple(sorted(set(spec.batch_sizes))),
        device=device.kind,
        bf16=device.bf16 if spec.bf16 is None else spec.bf16,
    )


def _methods(facts: ModelFacts, spec: MapSpec) -> tuple[AnyMethod, ...]:
    if spec.task not in facts.tasks:
        raise Invalid.field(
            "task",
            _("The model does not support %(task)s", task=spec.task),
            choose_from(facts.tasks),
        )
    if TASKS[spec.task].reads == "images":
        what = _("Images of one base model have one size, so there are no lengths to map the memory by")
        raise Invalid.field("task", what, _("Estimate a run or a study of it"))
    model, methods, problems = facts.task_model(spec.task, spec.labels), [], []
    for kind in dict.fromkeys(spec.methods):
        if kind not in METHODS:
            what = _("There is no method %(kind)r", kind=kind)
            problems.append(FieldError("methods", what, choose_from(METHODS)))
            continue
        method = usual(kind, model)
        for error in (method.incompatibility(model), method.clash(spec.training)):
            if error is not None:
                problems.append(FieldError("methods", error.message, error.remedy))
        methods.append(method)
    longest = max(spec.lengths, default=0)
    if facts.max_positions is not None and longest > facts.max_positions:
        what = _(
            "%(architecture)s has %(limit)s positions, so it cannot read %(max_length)s tokens",
            architecture=facts.architecture,
            limit=facts.max_positions,
            max_length=longest,
        )
        problems.append(FieldError("lengths", what, at_most(facts.max_positions)))
    if problems:
        raise Invalid.of(problems)
    return tuple(methods)


def _cells(
    memory_map: MemoryMap, device: Device, calibrations: Calibrations, request: MapRequest
) -> tuple[MapCellFit, ...]:
    by_method = [
        calibrations.of(device, request.bf16 or method.computes_in_bf16, request.task, method.kind)
        for method in request.methods
    ]
    cells = []
    for cell in memory_map.cells:
        need = peak(cell.ledger.total, by_method[cell.method])
        cells.append(MapCellFit(**dict(cell), peak=need, fit=memory_fit(need, device)))
    return tuple(cells)


def _boundaries(cells: tuple[MapCellFit, ...]) -> tuple[MaxBatch, ...]:
    largest: dict[tuple[int, int], int | None] = {}
    for cell in cells:
        rows = largest.setdefault((cell.method, cell.length), None)
        if cell.fit == "fits":
            largest[cell.method, cell.length] = max(cell.rows, rows or 0)
    return tuple(MaxBatch(method=method, length=length, rows=rows) for (method, length), rows in largest.items())
