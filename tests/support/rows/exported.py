"""Runs of tiny models to export: what a run saved, the job for an export of it, and the model that trained."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from app.domain.methods import MethodSpec
from app.domain.models.exports import ExportFormat, ExportJob
from app.domain.runs.job import TrainJob
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from tests.unit.worker.engine import adapted as tried
from worker.engine.methods import MECHANISMS
from worker.engine.models.architecture import describe
from worker.engine.models.load import load
from worker.engine.models.trained import base_model
from worker.engine.saving.artifacts import write_predictions
from worker.features.shipping.exporting import export

CHANGE = 0.05
"""Standard deviation of what training is taken to have added to every trained number."""


def run(
    folder: Path,
    spec: MethodSpec,
    name: str,
    form: ExportFormat,
    *,
    stored: torch.dtype = torch.float32,
    change: float = CHANGE,
) -> tuple[ExportJob, nn.Module]:
    """A run on a tiny model of a kind of `tests.unit.worker.engine.adapted`, whose base model is stored in a dtype."""
    base, task = folder / "base", tried.MODELS[name]
    if name == "bert":
        job = tiny.job(folder / "job", tiny.save_model(base), spec)
    else:
        job = tiny_lm.job(folder / "job", tiny_lm.save_model(base, name), task, tiny_lm.pairs(), method=spec)
    if stored is not torch.float32:
        weights = base / "model.safetensors"
        rounded = {key: tensor.to(stored) for key, tensor in load_file(weights).items()}
        save_file(rounded, weights, metadata={"format": "pt"})
    return trained(folder, job, form, change)


def trained(folder: Path, job: TrainJob, form: ExportFormat, change: float = CHANGE) -> tuple[ExportJob, nn.Module]:
    """What a run on a base model has saved, and its model."""
    spec, task = job.spec.method, job.spec.task
    loaded = load(job.model_location, "", task, job.labels, job.spec.training.seed)
    mechanism = MECHANISMS[spec.mechanism]
    torch.manual_seed(0)
    model = mechanism.apply(loaded.model.float(), spec, describe(loaded.model, task))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += change * torch.randn(parameter.shape, generator=generator)
    saved = mechanism.save(model, loaded.processor, job.spec, folder)
    return ExportJob(format=form, job=job, weights=str(saved), whole=saved.name == "model"), model.eval()


def predicted(job: ExportJob, model: nn.Module, folder: Path) -> tuple[ExportJob, list[float]]:
    """The job with the predictions file of the run's own model, and its scores."""
    _base, tokenizer = base_model(job.job, torch.float32)
    examples, predictions = export.predict(job, model, tokenizer, lambda _share: None)
    file = folder / "predictions.parquet"
    write_predictions(file, examples, job.job.labels, predictions, predictions)
    metric = job.job.spec.verdict_metric
    return job.model_copy(update={"predictions": str(file)}), predictions.per_item[metric].tolist()
