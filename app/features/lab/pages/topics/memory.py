"""The pitfall of memory: at which batch size full fine-tuning no longer fits a device, and what helps there."""

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy.orm import Session
from starlette.datastructures import QueryParams

from app.broker.queue import Doorbell
from app.domain.methods import AnyMethod, FullSpec
from app.domain.models.adaptations import usual
from app.domain.resources.devices import Device
from app.domain.resources.estimate import EstimateRequest
from app.domain.resources.memory_fit import DeviceFit
from app.domain.runs.training import TrainingArguments
from app.features.lab.pages.topics.calculator import LABELS
from app.services.data import samples
from app.services.resources import memory_fit
from app.services.resources.devices import available
from app.services.resources.requests import model_fields
from app.settings import Settings
from app.store.models import queries as base_models
from app.store.tables import BaseModelRow

BATCH_SIZES = (1, 4, 16, 64, 256, 1024)
LENGTH = 256
"""Tokens of every row, or as many as the model reads."""

ALIKE = 0.9
"""From this share on, LoRA's peak counts as that of full fine-tuning."""


class Rung(NamedTuple):
    """A batch size, with both methods on the device."""

    rows: int
    full: DeviceFit
    lora: DeviceFit


@dataclass(frozen=True)
class OutOfMemory:
    """What the pitfall shows: estimates of full fine-tuning and LoRA on one device, by batch size."""

    models: tuple[str, ...]
    """To choose from."""
    model: str
    """Empty until one is registered."""
    devices: tuple[Device, ...]
    """Live workers, then well-known GPUs."""
    device: Device
    length: int
    ladder: tuple[Rung, ...]
    """The smallest batch size first; empty without a model."""
    ends: DeviceFit | None
    """Full fine-tuning at the smallest batch size that is tight or does not fit, with memory savings."""

    @classmethod
    def of(
        cls, session: Session, settings: Settings, query: QueryParams, bell: Doorbell | None = None
    ) -> "OutOfMemory":
        """From the address: `model` and `device`. With `bell`, what is missing is requested."""
        usable = {row.name: row for row in base_models.everyone(session) if row.status == "ready" and row.facts}
        sample = samples.registered(session).model
        names = [query.get("model", ""), sample.name if sample else "", *usable]
        name = next((name for name in names if name in usable), "")
        devices = available(session, settings)
        device = next((device for device in devices if device.name == query.get("device")), devices[0])
        if not name:
            return cls((), "", devices, device, LENGTH, (), None)
        requests = _requests(usable[name], device)
        fits = iter(memory_fit.device_fits(session, bell, device, [r for pair in requests.values() for r in pair]))
        ladder = tuple(Rung(rows, next(fits), next(fits)) for rows in requests)
        length = requests[BATCH_SIZES[0]][0].training.max_length
        end = next((rung.rows for rung in ladder if rung.full.fit in memory_fit.TOO_SMALL), None)
        ends = memory_fit.with_savings(session, bell, device, requests[end][0]) if end else None
        return cls(tuple(usable), name, devices, device, length, ladder, ends)

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Names and values that request these estimates."""
        return [("model", self.model), ("device", self.device.name)]

    @property
    def end(self) -> int | None:
        """The batch size at which full fine-tuning ends; None if it fits everywhere, or is not estimated yet."""
        return next((rung.rows for rung in self.ladder if rung.full.fit in memory_fit.TOO_SMALL), None)

    @property
    def activations(self) -> bool:
        """LoRA takes about as much as full fine-tuning where that ends: activations are nearly all of it."""
        ends = next((rung for rung in self.ladder if rung.rows == self.end), None)
        if ends is None or ends.full.peak is None or ends.lora.peak is None:
            return False
        return ends.lora.peak.value > ALIKE * ends.full.peak.value

    @property
    def missing(self) -> bool:
        """Something is not requested yet: the ladder, or then what helps."""
        unrequested = any(fit.state == "working" and fit.estimate_id is None for fit in self._fits)
        return unrequested or bool(self.ends and self.ends.unrequested)

    @property
    def working(self) -> bool:
        """A worker computes what was requested."""
        pending = any(fit.state == "working" and fit.estimate_id is not None for fit in self._fits)
        return pending or bool(self.ends and self.ends.savings_pending > self.ends.unrequested)

    @property
    def known(self) -> bool:
        """Some of the ladder is estimated."""
        return any(fit.peak for fit in self._fits)

    @property
    def settled(self) -> bool:
        """All of the ladder is estimated, or has failed."""
        return all(fit.state != "working" for fit in self._fits)

    @property
    def message(self) -> str:
        """Why an estimate failed; empty where none did."""
        return next((fit.message for fit in self._fits if fit.state == "failed" and fit.message), "")

    @property
    def _fits(self) -> list[DeviceFit]:
        return [fit for rung in self.ladder for fit in (rung.full, rung.lora)]


def _requests(row: BaseModelRow, device: Device) -> dict[int, tuple[EstimateRequest, EstimateRequest]]:
    """Of both methods, by batch size."""
    facts = row.facts
    if facts is None:
        raise ValueError("a model that is ready has facts")
    task = next(iter(facts.tasks))
    length = min(LENGTH, facts.max_positions or LENGTH)
    lora = usual("lora", facts.task_model(task, LABELS))

    def request(method: AnyMethod, rows: int) -> EstimateRequest:
        training = TrainingArguments(max_length=length, per_device_train_batch_size=rows)
        general = EstimateRequest(
            **model_fields(row), task=task, labels=LABELS, method=method, training=training, device="cpu", bf16=False
        )
        return general.on_device(device.kind, device.bf16)

    return {rows: (request(FullSpec(), rows), request(lora, rows)) for rows in BATCH_SIZES}
