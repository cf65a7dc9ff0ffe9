"""What is asked when it is asked whether something will fit: arms, each with the predictions that it needs.

A study, a run and a request come down to the same: a name, a method and what a prediction follows from.
"""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.domain.methods import AnyMethod, LoraSpec
from app.domain.models.adaptations import usual
from app.domain.models.base_model import ModelFacts
from app.domain.resources.estimate import DeviceKind, EstimateRequest
from app.domain.resources.memory_fit import EstimateSpec, Machine
from app.domain.resources.savings import LORA
from app.domain.runs.spec import RunSpec
from app.domain.studies.spec import StudySpec
from app.domain.tasks import Task
from app.services.compatibility import check_request, check_run, check_study
from app.services.models import reference_of
from app.services.resources.estimates import request_of
from app.store.tables import BaseModelRow, DatasetRow


@dataclass(frozen=True)
class AskedArm:
    """An arm, and how its needs are asked for."""

    name: str
    template: EstimateRequest
    """For some device; which one is filled in."""
    lora: LoraSpec = LORA
    """What would take the place of full fine-tuning."""

    @property
    def method(self) -> AnyMethod:
        """How it adapts the model."""
        return self.template.method

    def on(self, machine: Machine) -> EstimateRequest:
        """The request for a device; devices of a kind share it."""
        return self.request(machine.kind, machine.bf16)

    def request(self, kind: DeviceKind, device_bf16: bool) -> EstimateRequest:
        """The request for a kind of device that has bfloat16 arithmetic, or has not."""
        said = self.template.training.bf16
        return self.template.model_copy(update={"device": kind, "bf16": device_bf16 if said is None else said})


def of_study(session: Session, spec: StudySpec) -> list[AskedArm]:
    """Its arms. Raises Invalid."""
    model, dataset = check_study(session, spec, queueing=False)
    lora = lora_for(model.facts, spec.task)
    first = spec.owed()[: len(spec.arms)]
    return [AskedArm(owed.arm, request_of(owed.spec, model, dataset, "cpu", False), lora) for owed in first]


def of_run(session: Session, spec: RunSpec) -> list[AskedArm]:
    """One arm. Raises Invalid."""
    model, dataset = check_run(session, spec, queueing=False)
    return [
        AskedArm(spec.method.label, request_of(spec, model, dataset, "cpu", False), lora_for(model.facts, spec.task))
    ]


def of_request(session: Session, asked: EstimateSpec) -> list[AskedArm]:
    """An arm a method. Raises Invalid."""
    model, dataset = check_request(session, asked)
    lora = lora_for(model.facts if model else None, asked.task)
    return [AskedArm(method.label, template(asked, method, model, dataset), lora) for method in asked.methods]


def template(
    asked: EstimateSpec, method: AnyMethod, model: BaseModelRow | None, dataset: DatasetRow | None
) -> EstimateRequest:
    """What a prediction for a method follows from; without a tokenizer the rows cannot be read, only their labels."""
    labels = len(dataset.facts.labels) if dataset and dataset.facts.labels else asked.labels
    rows = dataset if model else None
    return EstimateRequest(
        location=reference_of(model.source, model.location) if model else "",
        revision=model.pinned if model and model.source == "hub" else "",
        fingerprint=model.pinned if model else "",
        config=asked.config,
        task=asked.task,
        labels=labels,
        method=method,
        training=asked.training,
        dataset_file=rows.file if rows else "",
        dataset_format=rows.facts.format if rows else "labelled",
        dataset_hash=rows.content_hash if rows else "",
        device="cpu",
        bf16=False,
    )


def lora_for(facts: ModelFacts | None, task: Task) -> LoraSpec:
    """LoRA for a model: on the layers that PEFT chooses for it, or where it has no choice, on all."""
    found = usual("lora", facts.tasks[task]) if facts and task in facts.tasks else LORA
    return LORA.model_copy(update={"target_modules": found.target_modules}) if isinstance(found, LoraSpec) else LORA
