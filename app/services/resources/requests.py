"""Estimate requests for the arms of a study, for a run, and for methods on a model.

All three become a name and everything that an estimate depends on.
"""

from typing import Any, NamedTuple

from sqlalchemy.orm import object_session

from app.domain.methods import AnyMethod
from app.domain.resources.devices import Device
from app.domain.resources.estimate import EstimateRequest, EstimateSpec
from app.domain.runs.spec import RunSpec
from app.domain.studies.spec import StudySpec
from app.services.models.models import reference_of
from app.store.database.ownership import owner_of
from app.store.tables import BaseModelRow, DatasetRow


class ArmRequest(NamedTuple):
    """An arm, and what its estimate depends on."""

    name: str
    template: EstimateRequest
    """For any device."""

    def on(self, device: Device) -> EstimateRequest:
        """The request for a device; devices of a kind share it."""
        return self.template.on_device(device.kind, device.bf16)


def arm_requests(
    spec: StudySpec | RunSpec | EstimateSpec,
    model: BaseModelRow | None,
    dataset: DatasetRow | None,
    owner_id: int | None = None,
) -> list[ArmRequest]:
    """The arms of a study, one for a run, or one for each method. `owner_id` as `user_id` for `model_fields`."""
    if isinstance(spec, EstimateSpec):
        return [ArmRequest(method.label, _method_request(spec, method, model, dataset)) for method in spec.methods]
    if model is None or dataset is None:
        raise ValueError("a run has a base model and a dataset")
    if isinstance(spec, RunSpec):
        return [ArmRequest(spec.method.label, run_request(spec, model, dataset, owner_id))]
    owed = spec.owed()[: len(spec.arms)]
    return [ArmRequest(run.arm, run_request(run.spec, model, dataset, owner_id)) for run in owed]


def run_request(spec: RunSpec, model: BaseModelRow, dataset: DatasetRow, user_id: int | None = None) -> EstimateRequest:
    """What the estimate of a user's run depends on, for any device. `user_id` as for `model_fields`."""
    return EstimateRequest(
        **model_fields(model, user_id),
        **_rows(dataset),
        task=spec.task,
        labels=max(1, len(dataset.facts.labels)),
        method=spec.method,
        training=spec.training,
        device="cpu",
        bf16=False,
    )


def model_fields(model: BaseModelRow, user_id: int | None = None) -> dict[str, Any]:
    """How a request names a registered base model. `user_id`: the user that it is for, by default the one of the
    model's session; it matters for a model that opens to a user's hub token only."""
    session = object_session(model)
    acting = user_id or (owner_of(session) if session else None)
    return {
        "location": reference_of(model.source, model.location),
        "revision": model.pinned if model.source == "hub" else "",
        "fingerprint": model.pinned,
        "hub_user": acting if model.restricted else None,
    }


def _method_request(
    spec: EstimateSpec, method: AnyMethod, model: BaseModelRow | None, dataset: DatasetRow | None
) -> EstimateRequest:
    """Without a tokenizer the rows cannot be read, only their labels."""
    return EstimateRequest(
        **(model_fields(model) if model else {}),
        **(_rows(dataset) if model and dataset else {}),
        config=spec.config,
        task=spec.task,
        labels=len(dataset.facts.labels) if dataset and dataset.facts.labels else spec.labels,
        method=method,
        training=spec.training,
        device="cpu",
        bf16=False,
    )


def _rows(dataset: DatasetRow) -> dict[str, Any]:
    return {
        "dataset_file": dataset.file,
        "dataset_format": dataset.facts.format,
        "dataset_hash": dataset.content_hash,
    }
