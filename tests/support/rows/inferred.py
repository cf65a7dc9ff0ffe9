"""Models of tiny runs for the inference engine, and requests to them."""

from pathlib import Path
from typing import Any

from torch import nn

from app.domain.methods import MethodSpec
from app.domain.models.exports import ExportFormat
from app.features.serving.rules import InferenceRequest, ModelJob, Subject, WorkRequest
from tests.support.rows import exported
from worker.features.serving.inference.answer import Answering
from worker.features.serving.inference.models import Models

PLENTY = 2**40


def models() -> Models:
    """On a machine with plenty of memory."""
    return Models(lambda: PLENTY)


def trained(folder: Path, spec: MethodSpec, name: str, run_id: int = 1) -> tuple[ModelJob, nn.Module]:
    """A run on a tiny model and the model that trained. Runs in folders of one parent share its base model."""
    job, model = exported.run(folder / str(run_id), spec, name, ExportFormat.MERGED_FLOAT32)
    base = folder / str(1) / "base"  # the same weights in every folder
    located = job.job.model_copy(update={"run_id": run_id, "model_location": str(base)})
    whole = ModelJob(
        key=f"run {run_id}/1", job=located, weights=job.weights, whole=job.whole, base_bytes=1000, own_bytes=10
    )
    return whole, model


def base_of(job: ModelJob) -> ModelJob:
    """The base model of a run."""
    return job.model_copy(update={"key": f"base {job.job.run_id}/1", "weights": "", "whole": False, "own_bytes": 0})


def asked(loaded: Models, jobs: list[ModelJob], inputs: list[Any], kind: str = "predict", **options: Any) -> Any:
    """The events of a request."""
    request = InferenceRequest.model_validate(
        {"id": "1", "kind": kind, "subjects": [Subject(run_id=j.job.run_id) for j in jobs], "inputs": inputs} | options
    )
    events: list[Any] = []
    Answering(loaded, WorkRequest(request=request, jobs=jobs), events.append, lambda: False).run()
    return events


def predictions(events: list[Any]) -> list[Any]:
    """The predictions among events, by index."""
    found = [p for event in events if event["type"] == "answers" for p in event["predictions"]]
    return sorted(found, key=lambda prediction: prediction["index"])
