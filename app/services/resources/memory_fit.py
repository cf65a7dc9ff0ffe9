"""Will it fit? Each arm's predicted need against each live worker and the well-known cards.

A page or a route asks with one of

    of_study(session, bell, settings, spec)       -> FitReport   arms of a study
    of_run(session, bell, settings, spec)         -> FitReport   one arm
    of_request(session, bell, settings, request)  -> FitReport   methods on a registered model or a pasted config
    of_submitted(session, bell, settings, run)    -> RunFit      a run's prediction beside its measurement, ways out
    accuracy(session)                             -> list[Accuracy]
    require_memory_fit(db, bell, settings, spec)       raises Invalid where no live worker has room; before a submit

and for a map with `app.services.resources.memory_maps.map_of(session, bell, settings, question) -> MapReport`.

`bell` given: what is missing is asked for, so the session must be a transaction. `bell` None: a look, which writes
nothing; what nobody has asked for is `working` without an `estimate_id`. Ask once, then look until `settled`; ways out
are asked for once it is known that something does not fit, so ask again when a look finds `unrequested`.

The answers are in `app.domain.resources.memory_fit`. Each raises Invalid as a submit would, for what does not fit what
is registered; not for what a worker lacks, which a card's worker may have.
"""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.domain.failures import Failure, FailureCode
from app.domain.resources.calibration import missed, relative_error
from app.domain.resources.estimate import EstimateRequest
from app.domain.resources.memory_fit import (
    Accuracy,
    ArmFit,
    DeviceFit,
    Error,
    EstimateSpec,
    FitReport,
    Machine,
    Need,
    RunFit,
)
from app.domain.resources.no_device_fits import refusal
from app.domain.resources.savings import SavingOption, saving_options
from app.domain.runs.spec import RunSpec
from app.domain.runs.status import RunStatus
from app.domain.studies.spec import StudySpec
from app.queue import Doorbell
from app.services.resources import estimates, requests
from app.services.resources.device_fit import Board, device_fit, wants_ways, with_ways
from app.services.resources.devices import Calibrations, of_worker, present
from app.services.resources.requests import AskedArm
from app.settings import Settings
from app.store.queries import base_models, past_estimates, workers
from app.store.queries import estimates as estimate_queries
from app.store.session import Database
from app.store.tables import RunRow

NO_MEMORY = (FailureCode.OUT_OF_MEMORY, FailureCode.HOST_OOM)


def of_study(session: Session, bell: Doorbell | None, settings: Settings, spec: StudySpec) -> FitReport:
    """Every arm of a study. Raises Invalid."""
    return _report(session, bell, settings, requests.of_study(session, spec))


def of_run(session: Session, bell: Doorbell | None, settings: Settings, spec: RunSpec) -> FitReport:
    """One arm. Raises Invalid."""
    return _report(session, bell, settings, requests.of_run(session, spec))


def of_request(session: Session, bell: Doorbell | None, settings: Settings, request: EstimateSpec) -> FitReport:
    """An arm a method. Raises Invalid."""
    return _report(session, bell, settings, requests.of_request(session, request))


def of_any(
    session: Session, bell: Doorbell | None, settings: Settings, wanted: StudySpec | RunSpec | EstimateSpec
) -> FitReport:
    """Whichever it is. Raises Invalid."""
    match wanted:
        case StudySpec():
            return of_study(session, bell, settings, wanted)
        case RunSpec():
            return of_run(session, bell, settings, wanted)
        case _:
            return of_request(session, bell, settings, wanted)


def require_memory_fit(db: Database, bell: Doorbell, settings: Settings, spec: RunSpec | StudySpec) -> None:
    """Raise Invalid where an arm is known not to fit any live worker; what is not known yet passes.

    It has transactions of its own: what it asks for stays asked for when the submit is refused.
    """
    study = isinstance(spec, StudySpec)
    with db.reading() as session:
        found = refusal(of_any(session, None, settings, spec), study=study)
    if found is not None:  # again, and have ways out worked out
        with db.transaction() as session:
            found = refusal(of_any(session, bell, settings, spec), study=study)
    if found is not None:
        raise found


def of_submitted(session: Session, bell: Doorbell | None, settings: Settings, run: RunRow) -> RunFit:
    """A run's prediction beside its measurement; with ways out where memory ran out or it does not fit."""
    row = estimate_queries.find(session, run.estimate_id) if run.estimate_id else None
    request = row.request if row else None
    if row is None or not isinstance(request, EstimateRequest):
        return _run_fit(run, None)
    board, calibrations = Board(session, bell, [row]), Calibrations(session, without=run.id)
    machine = _machine_of(session, settings, run, request)
    if machine is None:
        return _run_fit(run, None, board.need(request))
    found = device_fit(machine, request, board, calibrations)
    if wants_ways(found) or _ran_out(run.failure):
        model = base_models.by_id(session, run.base_model_id)
        ways = list(saving_options(request, requests.lora_for(model.facts if model else None, run.spec.task)))
        board.ask(way.request for way in ways)
        found = with_ways(found, ways, board, calibrations)
    return _run_fit(run, found)


def accuracy(session: Session) -> list[Accuracy]:
    """How well estimates have matched measurements, by device, precision, task and method."""
    found = []
    for device in past_estimates.devices(session):
        past = past_estimates.on_device(session, device.name, device.precision)
        misses = missed(estimates.kind_of(device.kind), device.precision == "bf16", past)
        for task, method in dict.fromkeys((miss.task, miss.method) for miss in misses):
            own = [miss for miss in misses if (miss.task, miss.method) == (task, method)]
            train = [miss.seconds for miss in own if miss.seconds is not None]
            found.append(
                Accuracy(
                    device_name=device.name,
                    precision=device.precision,
                    task=task,
                    method=method,
                    peak=_error([miss.bytes for miss in own]),
                    train=_error(train) if train else None,
                )
            )
    return found


def _report(session: Session, bell: Doorbell | None, settings: Settings, arms: Sequence[AskedArm]) -> FitReport:
    machines, board, calibrations = present(session, settings), Board(session, bell), Calibrations(session)
    board.ask(arm.on(machine) for arm in arms for machine in machines)
    found = [[device_fit(machine, arm.on(machine), board, calibrations) for machine in machines] for arm in arms]
    ways: dict[tuple[int, int], list[SavingOption]] = {
        (row, column): list(saving_options(arms[row].on(one.machine), arms[row].lora))
        for row, fits in enumerate(found)
        for column, one in enumerate(fits)
        if wants_ways(one)
    }
    board.ask(way.request for several in ways.values() for way in several)
    for (row, column), several in ways.items():
        found[row][column] = with_ways(found[row][column], several, board, calibrations)
    return FitReport(arms=tuple(_arm_fit(arm, fits) for arm, fits in zip(arms, found, strict=True)))


def _arm_fit(arm: AskedArm, fits: Sequence[DeviceFit]) -> ArmFit:
    needs = {(one.need.kind, one.need.bf16): one.need for one in fits}
    return ArmFit(name=arm.name, method=arm.method, needs=tuple(needs.values()), machines=tuple(fits))


def _machine_of(session: Session, settings: Settings, run: RunRow, request: EstimateRequest) -> Machine | None:
    """The device that a run was made on, else the first that its prediction is for."""
    own = workers.get(session, run.worker) if run.worker else None
    if own is not None:
        machine = of_worker(own)
        return machine.model_copy(update={"device_name": run.device_name}) if run.device_name else machine
    said = request.training.bf16
    alike = [m for m in present(session, settings) if m.kind == request.device]
    return next((m for m in alike if (m.bf16 if said is None else said) == request.bf16), None)


def _ran_out(failure: Failure | None) -> bool:
    return failure is not None and failure.code in NO_MEMORY


def _run_fit(run: RunRow, found: DeviceFit | None, need: Need | None = None) -> RunFit:
    succeeded = run.status == RunStatus.SUCCEEDED
    measured, seconds = (run.peak_bytes, run.train_seconds) if succeeded else (None, None)
    peak, train = (found.peak, found.train_seconds) if found else (None, None)
    return RunFit(
        need=found.need if found else need,
        machine=found.machine if found else None,
        peak=peak,
        train_seconds=train,
        fit=found.fit if found else "unknown",
        measured_bytes=measured,
        measured_seconds=seconds,
        bytes_error=relative_error(peak.value, measured) if peak and measured else None,
        seconds_error=relative_error(train.value, seconds) if train and seconds else None,
        oom_ledger=run.failure.ledger if run.failure else None,
        memory_savings=found.memory_savings if found else (),
        savings_pending=found.savings_pending if found else 0,
        unrequested=found.unrequested if found else 0,
    )


def _error(errors: Sequence[float]) -> Error:
    return Error(runs=len(errors), mean=sum(map(abs, errors)) / len(errors), worst=max(errors, key=abs))
