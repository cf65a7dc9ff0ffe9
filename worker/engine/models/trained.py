"""Models of finished runs: the base model, and what a run saved, loaded by the code with which a user loads it."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import PreTrainedModel

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.methods import BottleneckAdapterSpec
from app.domain.runs.job import TrainJob
from worker.engine.methods import bottleneck
from worker.engine.methods.virtual_tokens import generate
from worker.engine.models.load import load
from worker.engine.models.precision import convert_parameters
from worker.engine.tasks import TASKS


def whole_model(job: TrainJob, weights: str, dtype: torch.dtype) -> PreTrainedModel:
    """The model of a run that saved all of it."""
    model: Any = TASKS[job.spec.task].AUTO.from_pretrained(
        weights, dtype=dtype, use_safetensors=True, trust_remote_code=False
    )
    whole: PreTrainedModel = model.eval()
    return whole


def base_model(job: TrainJob, dtype: torch.dtype) -> tuple[PreTrainedModel, Any]:
    """The base model with the head of the task, read in the dtype of its files and then converted."""
    loaded = load(job.model_location, job.model_revision, job.spec.task, job.labels, job.spec.training.seed)
    model: Any = loaded.model
    convert_parameters(model, dtype)
    return model.eval(), loaded.processor


def attach(model: PreTrainedModel, job: TrainJob, weights: str) -> PreTrainedModel | PeftModel:
    """The base model with what the run saved beside it. Raises `RunFailed(internal)` if a saved tensor was not loaded,
    or one that trains was not saved: PEFT only warns."""
    folder = Path(weights)
    if isinstance(job.spec.method, BottleneckAdapterSpec):
        return bottleneck.load(model, folder)
    if (folder / "adapter_config.json").is_file():
        try:
            adapted: Any = PeftModel.from_pretrained(model, folder)
        except (KeyError, ValueError, RuntimeError) as error:
            text = _("PEFT could not load the adapter (%(why)s).", why=f"{type(error).__name__}: {error}"[:300])
            raise RunFailed(FailureCode.INTERNAL, text) from error
        if job.spec.method.virtual_tokens:
            adapted.generate = partial(generate, adapted)
        else:
            stored = load_file(folder / "adapter_model.safetensors").keys()
            wanted = get_peft_model_state_dict(adapted, save_embedding_layers=False).keys()
            _refuse_ignored(stored - wanted)
            if lacking := wanted - stored:
                text = _("The adapter's file has no %(name)s, which trains with its method.", name=min(lacking))
                raise RunFailed(FailureCode.INTERNAL, text)
        wrapped: PeftModel = adapted.eval()
        return wrapped
    report = model.load_state_dict(load_file(folder / "selection.safetensors"), strict=False)
    _refuse_ignored(set(report.unexpected_keys))
    return model


def _refuse_ignored(names: set[str]) -> None:
    if names:
        text = _("%(name)s of the run was not loaded into its base model.", name=min(names))
        raise RunFailed(FailureCode.INTERNAL, text)
