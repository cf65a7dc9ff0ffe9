"""Maps: one model on one device, method × sequence length × batch: what fits, and where the boundary runs."""

from sqlalchemy.orm import Session

from app.domain.errors import FieldError, Invalid, NotFound
from app.domain.messages import _, at_most, choose_from
from app.domain.methods import METHODS, AnyMethod
from app.domain.models.adaptations import usual
from app.domain.models.base_model import ModelFacts
from app.domain.resources.calibration import fit, peak
from app.domain.resources.estimate import MapRequest, MemoryMap
from app.domain.resources.memory_fit import Machine
from app.domain.resources.memory_map import Boundary, MapCellFit, MapReport, MapSpec
from app.queue import Doorbell
from app.services.models import reference_of
from app.services.resources import estimates
from app.services.resources.device_fit import state_of
from app.services.resources.devices import Calibrations, present
from app.settings import Settings
from app.store.queries import base_models
from app.store.queries import estimates as queries


def map_of(session: Session, bell: Doorbell | None, settings: Settings, question: MapSpec) -> MapReport:
    """What fits. With `bell` it is asked for, in a transaction; without, only looked for.

    Raises NotFound for a base model that is not registered, Invalid for what it cannot do.
    """
    machine = _machine(session, settings, question.machine)
    request = _request(session, question, machine)
    if bell is None:
        row = queries.by_keys(session, [request.key]).get(request.key)
    else:
        row = estimates.wanted(session, bell, request)
    found = row.map if row else None
    cells = _cells(found, machine, Calibrations(session), request) if found else ()
    return MapReport(
        estimate_id=row.id if row else None,
        state=state_of(row),
        message=row.message if row else "",
        machine=machine,
        bf16=request.bf16,
        methods=request.methods,
        lengths=request.lengths,
        batch_sizes=request.batch_sizes,
        cells=cells,
        boundaries=_boundaries(cells),
    )


def _machine(session: Session, settings: Settings, name: str) -> Machine:
    machines = present(session, settings)
    found = next((machine for machine in machines if not name or machine.name == name), None)
    if found is None:
        known = ", ".join(machine.name for machine in machines)
        raise Invalid.field(
            "device",
            _("There is no live worker and no known GPU %(name)r", name=name),
            _("Choose from: %(names)s", names=known),
        )
    return found


def _request(session: Session, question: MapSpec, machine: Machine) -> MapRequest:
    model = base_models.by_name(session, question.base_model)
    if model is None:
        raise NotFound(_("There is no base model %(name)r.", name=question.base_model))
    if model.facts is None:
        why = model.message or _("it is still being inspected, so try again in a few seconds")
        raise Invalid.field("base_model", _("%(name)s cannot be used: %(why)s", name=model.name, why=why))
    said = question.training.bf16
    return MapRequest(
        location=reference_of(model.source, model.location),
        revision=model.pinned if model.source == "hub" else "",
        fingerprint=model.pinned,
        task=question.task,
        labels=question.labels,
        methods=_methods(model.facts, question),
        training=question.training,
        lengths=tuple(sorted(set(question.lengths))),
        batch_sizes=tuple(sorted(set(question.batch_sizes))),
        device=machine.kind,
        bf16=machine.bf16 if said is None else said,
    )


def _methods(facts: ModelFacts, question: MapSpec) -> tuple[AnyMethod, ...]:
    if question.task not in facts.tasks:
        raise Invalid.field(
            "task",
            _("The model does not support %(task)s", task=question.task),
            choose_from(facts.tasks),
        )
    model, found, problems = facts.task_model(question.task, question.labels), [], []
    for kind in dict.fromkeys(question.methods):
        if kind not in METHODS:
            problems.append(
                FieldError(
                    "methods",
                    _("There is no method %(kind)r", kind=kind),
                    choose_from(METHODS),
                )
            )
            continue
        method = usual(kind, model)
        for error in (method.incompatibility(model), method.clash(question.training)):
            if error is not None:
                problems.append(FieldError("methods", error.message, error.remedy))
        found.append(method)
    longest = max(question.lengths, default=0)
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
    return tuple(found)


def _cells(
    found: MemoryMap, machine: Machine, calibrations: Calibrations, request: MapRequest
) -> tuple[MapCellFit, ...]:
    known = [calibrations.of(machine, request.bf16, request.task, method.kind) for method in request.methods]
    cells = []
    for cell in found.cells:
        need = peak(cell.ledger.total, known[cell.method])
        cells.append(
            MapCellFit(
                method=cell.method,
                length=cell.length,
                rows=cell.rows,
                ledger=cell.ledger,
                peak=need,
                fit=fit(need, machine.memory_bytes, machine.kind),
            )
        )
    return tuple(cells)


def _boundaries(cells: tuple[MapCellFit, ...]) -> tuple[Boundary, ...]:
    largest: dict[tuple[int, int], int | None] = {}
    for cell in cells:
        known = largest.setdefault((cell.method, cell.length), None)
        if cell.fit == "fits":
            largest[cell.method, cell.length] = max(cell.rows, known or 0)
    return tuple(Boundary(method=method, length=length, rows=rows) for (method, length), rows in largest.items())
