"""Which devices have memory for which arms: estimates compared with live workers and well-known GPUs.

    fit_report(session, bell, settings, spec, model, dataset)  -> FitReport   of a study, a run, or methods on a model
    run_fit(session, bell, settings, run)                      -> RunFit      of a submitted run
    device_fits(session, bell, device, requests)               -> DeviceFits  of any requests, on one device

With `bell`, missing estimates are requested, so the session must be a transaction. Without, nothing is written, and
what is missing is `working` without an `estimate_id`. Request once, then poll until `settled`. Memory savings are
requested once something is known not to fit: request again when a poll finds something `unrequested`.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.messages import NOTHING, Message, _
from app.domain.resources.calibration import Fit, relative_error
from app.domain.resources.devices import Device
from app.domain.resources.estimate import EstimateRequest, EstimateSpec
from app.domain.resources.memory_fit import (
    ArmEstimate,
    ArmFit,
    DeviceFit,
    FitReport,
    MemorySaving,
    RunFit,
    StoredEstimate,
)
from app.domain.resources.savings import SavingOption, saving_options
from app.domain.runs.spec import RunSpec
from app.domain.runs.status import RunStatus
from app.domain.studies.spec import StudySpec
from app.services.models.compatibility import check, check_estimate
from app.services.resources import estimates
from app.services.resources.calibration import Calibrations
from app.services.resources.devices import available, missing_capabilities, of_worker
from app.services.resources.requests import ArmRequest, arm_requests
from app.settings import Settings
from app.store.resources import estimates as queries
from app.store.tables import BaseModelRow, DatasetRow, EstimateRow, RunRow
from app.store.workers import queries as workers

TOO_SMALL: tuple[Fit, ...] = ("tight", "does_not_fit")
"""Where memory savings are estimated."""


def fit_report(
    session: Session,
    bell: Doorbell | None,
    settings: Settings,
    spec: StudySpec | RunSpec | EstimateSpec,
    model: BaseModelRow | None,
    dataset: DatasetRow | None,
    owner_id: int | None = None,
) -> FitReport:
    """Every arm on every device. The spec has been checked against the model and the dataset. `owner_id`: the owner of
    the study, if that is not the session's user."""
    arms, devices = arm_requests(spec, model, dataset, owner_id), available(session, settings)
    lookup = _Lookup(session, bell)
    lookup.add(arm.on(device) for arm in arms for device in devices)
    fits = [[lookup.device_fit(device, arm.on(device)) for device in devices] for arm in arms]
    options: dict[tuple[int, int], list[SavingOption]] = {
        (row, column): list(saving_options(arms[row].on(fit.device)))
        for row, of_arm in enumerate(fits)
        for column, fit in enumerate(of_arm)
        if _too_small(fit)
    }
    lookup.add(option.request for of_device in options.values() for option in of_device)
    for (row, column), of_device in options.items():
        fits[row][column] = lookup.with_savings(fits[row][column], of_device)
    return FitReport(arms=tuple(_arm_fit(arm, of_arm) for arm, of_arm in zip(arms, fits, strict=True)))


def checked_report(
    session: Session, bell: Doorbell | None, settings: Settings, spec: StudySpec | RunSpec | EstimateSpec
) -> FitReport:
    """The same for a spec that has not been checked yet; a GPU's worker may have any capability. Raises Invalid."""
    if isinstance(spec, EstimateSpec):
        return fit_report(session, bell, settings, spec, *check_estimate(session, spec))
    return fit_report(session, bell, settings, spec, *check(session, spec, queueing=False))


def run_fit(session: Session, bell: Doorbell | None, settings: Settings, run: RunRow) -> RunFit:
    """A run's stored estimate beside its measurement; with memory savings, which are estimated now, where memory ran
    out or it does not fit."""
    row = queries.get(session, run.estimate_id) if run.estimate_id else None
    request = row.request if row else None
    if row is None or not isinstance(request, EstimateRequest):
        return _run_fit(run, None, None)
    lookup = _Lookup(session, bell, [row], without=run.id)
    shown = next((stored for stored in reversed(run.stored_estimates) if stored.estimate_id == row.id), None)
    device = _device_of(session, settings, run, request)
    if device is None:
        return _run_fit(run, lookup.arm_estimate(request), shown)
    fit, ran_out = lookup.device_fit(device, request), bool(run.failure and run.failure.out_of_memory)
    if ran_out or (device.worker and (shown.fit if shown else fit.fit) in TOO_SMALL):
        options = list(saving_options(request))
        lookup.add(option.request for option in options)
        fit = lookup.with_savings(fit, options)
    return _run_fit(run, fit.arm_estimate, shown, fit)


def device_fits(
    session: Session, bell: Doorbell | None, device: Device, requests: Sequence[EstimateRequest]
) -> list[DeviceFit]:
    """Requests on a device, without memory savings."""
    lookup = _Lookup(session, bell)
    lookup.add(requests)
    return [lookup.device_fit(device, request) for request in requests]


def with_savings(session: Session, bell: Doorbell | None, device: Device, request: EstimateRequest) -> DeviceFit:
    """A request on a device, with memory savings whatever it fits."""
    lookup, options = _Lookup(session, bell), list(saving_options(request))
    lookup.add([request, *(option.request for option in options)])
    return lookup.with_savings(lookup.device_fit(device, request), options)


class _Lookup:
    """Estimates by request, and what they mean on a device. With a doorbell, missing ones are requested."""

    def __init__(
        self, session: Session, bell: Doorbell | None, rows: Iterable[EstimateRow] = (), without: int | None = None
    ) -> None:
        self._session, self._bell = session, bell
        self._rows = {row.key: row for row in rows}
        self._calibrations = Calibrations(session, without)

    def add(self, requests: Iterable[EstimateRequest]) -> None:
        missing = {key: request for request in requests if (key := request.key) not in self._rows}
        if self._bell is None:
            self._rows |= estimates.known(self._session, missing)
        else:
            self._rows |= estimates.all_wanted(self._session, self._bell, missing.values())

    def arm_estimate(self, request: EstimateRequest) -> ArmEstimate:
        """An estimate as far as it is ready."""
        row = self._rows.get(request.key)
        return ArmEstimate(
            kind=request.device,
            bf16=request.bf16,
            estimate_id=row.id if row else None,
            state=row.state if row else "working",
            message=row.message if row else "",
            estimate=row.estimate if row else None,
        )

    def device_fit(self, device: Device, request: EstimateRequest) -> DeviceFit:
        """An arm on a device, without memory savings."""
        arm_estimate = self.arm_estimate(request)
        missing = missing_capabilities(device, request.method.needed | request.training.needed)
        estimate = arm_estimate.estimate
        bands = self._calibrations.bands(device, request, estimate) if estimate else None
        return DeviceFit(
            device=device,
            arm_estimate=arm_estimate,
            estimate_id=arm_estimate.estimate_id,
            state="failed" if missing else arm_estimate.state,
            message=missing or arm_estimate.message or (_of_each(request.training.devices) if bands else ""),
            capable=not missing,
            peak=bands.peak if bands else None,
            train_seconds=bands.train_seconds if bands else None,
            reference_seconds=bands.reference_seconds if bands else None,
            fit=bands.fit if bands and not missing else "unknown",
        )

    def with_savings(self, fit: DeviceFit, options: Sequence[SavingOption]) -> DeviceFit:
        """The same with the options that save memory, the largest saving first. The options have been added."""
        savings, pending = [], []
        for option in options:
            changed = self.device_fit(fit.device, option.request)
            if not changed.capable:
                continue
            if changed.state == "working":
                pending.append(changed)
            saved = fit.peak.value - changed.peak.value if fit.peak and changed.peak else 0.0
            if changed.peak and changed.arm_estimate.estimate and saved >= 1:
                savings.append(
                    MemorySaving(
                        name=option.name,
                        fields=option.fields,
                        peak=changed.peak,
                        saved_bytes=int(saved),
                        fit=changed.fit,
                        ledger=changed.arm_estimate.estimate.ledger,
                    )
                )
        return fit.model_copy(
            update={
                "memory_savings": tuple(sorted(savings, key=lambda saving: -saving.saved_bytes)),
                "savings_pending": len(pending),
                "unrequested": sum(fit_of_option.estimate_id is None for fit_of_option in pending),
            }
        )


def _of_each(devices: int) -> Message:
    """What an estimate is of where several devices train a run."""
    if devices == 1:
        return NOTHING
    return _("Of each of the run's %(num)s devices. It has not been compared with GPUs yet.", num=devices)


def _too_small(fit: DeviceFit) -> bool:
    return fit.device.worker and fit.fit in TOO_SMALL


def _arm_fit(arm: ArmRequest, fits: Sequence[DeviceFit]) -> ArmFit:
    by_kind = {(fit.arm_estimate.kind, fit.arm_estimate.bf16): fit.arm_estimate for fit in fits}
    return ArmFit(name=arm.name, method=arm.template.method, estimates=tuple(by_kind.values()), devices=tuple(fits))


def _device_of(session: Session, settings: Settings, run: RunRow, request: EstimateRequest) -> Device | None:
    """The device that executed a run, otherwise the first device that its estimate is for."""
    worker = workers.get(session, run.worker) if run.worker else None
    if worker is not None:
        device = of_worker(worker)
        return device.model_copy(update={"device_name": run.device_name}) if run.device_name else device
    return next(
        (d for d in available(session, settings) if request.on_device(d.kind, d.bf16) == request),
        None,
    )


def _run_fit(
    run: RunRow, arm_estimate: ArmEstimate | None, shown: StoredEstimate | None, now: DeviceFit | None = None
) -> RunFit:
    """`now`: what is estimated today, of which only the device and the memory savings are shown."""
    succeeded = run.status == RunStatus.SUCCEEDED
    measured, seconds = (run.peak_bytes, run.train_seconds) if succeeded else (None, None)
    train = shown.train_seconds if shown else None
    return RunFit(
        arm_estimate=arm_estimate,
        device=shown.device if shown else now.device if now else None,
        peak=shown.peak if shown else None,
        train_seconds=train,
        reference_seconds=shown.reference_seconds if shown else None,
        fit=shown.fit if shown else "unknown",
        measured_bytes=measured,
        measured_seconds=seconds,
        bytes_error=relative_error(shown.peak.value, measured) if shown and measured else None,
        seconds_error=relative_error(train.value, seconds) if train and seconds else None,
        oom_ledger=run.failure.ledger if run.failure else None,
        memory_savings=now.memory_savings if now else (),
        savings_pending=now.savings_pending if now else 0,
        unrequested=now.unrequested if now else 0,
        stored=run.stored_estimates,
        shown=shown,
    )
