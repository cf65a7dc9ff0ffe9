"""Which devices have memory for which arms, as `app.services.resources.memory_fit` answers it.

    FitReport               every arm
    └── ArmFit              one arm: its estimates, and how it fits each device
        ├── ArmEstimate     a resource estimate for a kind of device, or why there is none (yet)
        └── DeviceFit       the arm on one device: peak and time with bands, fits or not
            └── MemorySaving   where it does not fit: another setting, and what it saves there

    StoredEstimate          what was estimated for a run on a device, kept as it was said
    RunFit                  a submitted run: its stored estimate beside its measurement

Everything is frozen, for pages and for the API alike. Bytes and seconds throughout.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field

from app.domain.errors import FieldError, Invalid
from app.domain.messages import Message, _
from app.domain.methods import MethodSpec
from app.domain.resources.calibration import EstimateBand, Fit
from app.domain.resources.devices import Device, DeviceKind, size
from app.domain.resources.estimate import EstimateState, ResourceEstimate
from app.domain.resources.ledger import Ledger
from app.domain.resources.savings import SAVINGS, SavingName

Moment = Literal["submission", "claim", "running", "ended"]
"""When an estimate was stored: while the run was queued; at its claim, for another device; later, because its resource
estimate became ready only then."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class ArmEstimate(_Value):
    """An arm's estimate for one kind of device, which serves every device of that kind."""

    kind: DeviceKind
    bf16: bool
    """Computed in bfloat16."""
    estimate_id: int | None
    """GET /api/v1/estimates/{id}; None until it is requested."""
    state: EstimateState
    message: str
    """Why it failed."""
    estimate: ResourceEstimate | None


class MemorySaving(_Value):
    """Another setting, estimated: it needs less."""

    name: SavingName
    fields: dict[str, Any]
    """What to set, by path: `training.gradient_checkpointing`."""
    peak: EstimateBand
    saved_bytes: int
    """Off the peak."""
    fit: Fit
    """On the same device."""
    ledger: Ledger

    @computed_field  # type: ignore[prop-decorator]
    @property
    def title(self) -> str:
        """What it changes, in English."""
        return SAVINGS[self.name]


class _Fit(_Value):
    """An estimate on a device."""

    peak: EstimateBand | None
    train_seconds: EstimateBand | None
    """None while the device's rate is not known, or without a dataset."""
    reference_seconds: EstimateBand | None = None
    """Seconds of DPO's reference, which runs of a study share; None for others, and while the rate is not known."""
    fit: Fit
    """`unknown` until the estimate is ready."""
    memory_savings: tuple[MemorySaving, ...] = ()
    """Where it is tight or does not fit on a worker's device, or memory ran out: the largest saving first."""
    savings_pending: int = 0
    unrequested: int = Field(default=0, exclude=True)
    """Pending savings that are still to be requested."""


class DeviceFit(_Fit):
    """An arm on a device."""

    device: Device
    arm_estimate: ArmEstimate = Field(exclude=True)
    """In JSON it stands in the arm's `estimates`, under the same `estimate_id`."""
    estimate_id: int | None
    state: EstimateState
    message: str
    """Why there is no answer, what the worker lacks, or what the answer leaves out."""
    capable: bool = True
    """The worker has what the method requires; otherwise no run of it ever goes there."""


class ArmFit(_Value):
    """An arm on every device: live workers first, then well-known GPUs."""

    name: str
    method: MethodSpec
    estimates: tuple[ArmEstimate, ...]
    devices: tuple[DeviceFit, ...]

    @property
    def workers(self) -> tuple[DeviceFit, ...]:
        """On live workers."""
        return tuple(fit for fit in self.devices if fit.device.worker)

    @property
    def gpu_models(self) -> tuple[DeviceFit, ...]:
        """On well-known GPUs, by memory."""
        return tuple(fit for fit in self.devices if not fit.device.worker)

    @property
    def fits_nowhere(self) -> bool:
        """No capable live worker has enough memory, as far as is known."""
        capable = [fit for fit in self.workers if fit.capable]
        return bool(capable) and all(fit.fit == "does_not_fit" for fit in capable)

    @property
    def file_bytes(self) -> int | None:
        """Bytes of the saved weights; None until it is estimated."""
        return next(
            (arm_estimate.estimate.file_bytes for arm_estimate in self.estimates if arm_estimate.estimate), None
        )


class FitReport(_Value):
    """Every arm of a study; a run has one."""

    arms: tuple[ArmFit, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def settled(self) -> bool:
        """All estimates have ended; otherwise ask again."""
        return self.pending == 0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def pending(self) -> int:
        """Estimates in progress, those of memory savings included."""
        savings = sum(fit.savings_pending for arm in self.arms for fit in arm.devices)
        return savings + sum(estimate.state == "working" for estimate in self._estimates)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def estimate_ids(self) -> list[int]:
        """Of the arms' estimates."""
        return [estimate.estimate_id for estimate in self._estimates if estimate.estimate_id is not None]

    @property
    def unrequested(self) -> int:
        """Estimates to request, in a transaction."""
        savings = sum(fit.unrequested for arm in self.arms for fit in arm.devices)
        return savings + sum(
            estimate.state == "working" and estimate.estimate_id is None for estimate in self._estimates
        )

    @property
    def train_times(self) -> tuple[str, Mapping[str, EstimateBand]]:
        """A worker whose rate is known for every arm, and each arm's train time there; preferably a worker with
        enough memory for all arms. An empty name if there is none."""
        times: dict[str, dict[str, EstimateBand]] = {}
        small: set[str] = set()
        for arm in self.arms:
            for fit in arm.workers:
                if fit.train_seconds:
                    times.setdefault(fit.device.name, {})[arm.name] = fit.train_seconds
                if fit.fit == "does_not_fit":
                    small.add(fit.device.name)
        complete = [name for name, by_arm in times.items() if len(by_arm) == len(self.arms)]
        worker = min(complete, key=lambda name: name in small, default="")
        return worker, times.get(worker, {})

    def reference_seconds(self, worker: str) -> float:
        """Seconds of DPO's reference on a worker, once for all arms; 0 without one."""
        fits = [fit for arm in self.arms for fit in arm.workers if fit.device.name == worker]
        return max((fit.reference_seconds.value for fit in fits if fit.reference_seconds), default=0.0)

    @property
    def least_train_seconds(self) -> Mapping[str, float]:
        """The lower end of the estimated train time on the fastest live worker that is capable of the arm, by arm;
        those without an estimate are left out."""
        times = {
            arm.name: [fit.train_seconds.low for fit in arm.workers if fit.capable and fit.train_seconds]
            for arm in self.arms
        }
        return {name: min(known) for name, known in times.items() if known}

    @property
    def _estimates(self) -> list[ArmEstimate]:
        """Each once: arms may share one."""
        unique = {
            (estimate.estimate_id, estimate.kind, estimate.bf16): estimate
            for arm in self.arms
            for estimate in arm.estimates
        }
        return list(unique.values())

    def refusal(self, *, study: bool) -> Invalid | None:
        """The error of a run, or of a study with the paths of its arms, that fits no live worker. None if every arm
        fits a worker, or that is not known yet."""
        errors = [
            FieldError(f"arms.{place}.method" if study else "method", _shortage(arm), _remedy(arm))
            for place, arm in enumerate(self.arms)
            if arm.fits_nowhere
        ]
        return Invalid.of(errors) if errors else None


def _shortage(arm: ArmFit) -> Message:
    capable = [fit for fit in arm.workers if fit.capable]
    least = min((fit.peak for fit in capable if fit.peak), key=lambda peak: peak.value)
    workers = (
        _(
            "%(worker)s has %(memory)s, of which a run may use %(usable)s",
            worker=fit.device.name,
            memory=size(fit.device.memory_bytes or 0),
            usable=size(fit.device.usable_bytes or 0),
        )
        for fit in capable
    )
    return _(
        "%(arm)s needs an estimated %(peak)s, more than any live worker has: %(workers)s",
        arm=arm.name,
        peak=size(least.value),
        workers=Message.joined(workers, ", "),
    )


def _remedy(arm: ArmFit) -> Message:
    savings = [saving for fit in arm.workers for saving in fit.memory_savings]
    enough = [saving for saving in savings if saving.fit == "fits"] or savings
    if not enough:
        return _("Set insist=true to queue it anyway")
    best = max(enough, key=lambda saving: saving.saved_bytes)
    values = {"saving": best.title, "saved": size(best.saved_bytes)}
    if best.fit == "fits":
        return _("Change this: %(saving)s, which saves %(saved)s; or set insist=true to queue it anyway", **values)
    return _("%(saving)s saves %(saved)s, which is not enough; set insist=true to queue it anyway", **values)


class StoredEstimate(_Value):
    """What was estimated for a run on a device. It never changes, whatever later runs teach about the device."""

    estimate_id: int
    stored_at: datetime
    moment: Moment
    device: Device
    peak: EstimateBand
    train_seconds: EstimateBand | None
    reference_seconds: EstimateBand | None = None
    fit: Fit

    @property
    def late(self) -> bool:
        """The run had started already."""
        return self.moment in ("running", "ended")


class RunFit(_Fit):
    """A submitted run: its stored estimate beside its measurement. Peak and times are those of the newest one in
    `stored` that is for the run's device."""

    arm_estimate: ArmEstimate | None
    """None until a worker has reported for whose kind of device it can be estimated."""
    device: Device | None
    """Its worker's; before it is claimed, the device that its estimate is for."""
    measured_bytes: int | None
    """Peak, once it succeeded."""
    measured_seconds: float | None
    bytes_error: float | None
    """(estimated − measured) / measured."""
    seconds_error: float | None
    oom_ledger: Ledger | None
    """Bytes by owner when memory ran out."""
    stored: tuple[StoredEstimate, ...] = ()
    """As they were said, oldest first: several where another device took the run. Empty until the first is ready, and
    for runs that were queued before Vezna stored them."""
    shown: StoredEstimate | None = Field(default=None, exclude=True)
    """The one that is compared with the measurement."""

    @property
    def estimate(self) -> ResourceEstimate | None:
        return self.arm_estimate.estimate if self.arm_estimate else None

    @property
    def late(self) -> bool:
        """What is shown was estimated only after the run had started."""
        return self.shown is not None and self.shown.late

    @property
    def settled(self) -> bool:
        return not self.savings_pending and (self.arm_estimate is None or self.arm_estimate.state != "working")
