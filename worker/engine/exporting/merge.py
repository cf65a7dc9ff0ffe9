"""Merge a run's result into its base model, and write it as a model for transformers.

    W ← round(float32(W) + ΔW)        float32(W) is exact for float32, bfloat16 and float16

The base model is read in the dtype of its files, so that no weight is rounded before ΔW is added, and rounded once
afterwards: ΔW is often smaller than half a bfloat16 ulp of W, and adding it in bfloat16 would lose it.
"""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from transformers import PreTrainedModel

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.methods import BottleneckAdapterSpec
from app.domain.models.exports import CHECKSUMS, ExportedFile, ExportJob
from app.domain.runs.job import TrainJob
from worker.engine.exporting import formats
from worker.engine.exporting.progress import Report, part, quiet
from worker.engine.methods import bottleneck
from worker.engine.methods.virtual_tokens import generate
from worker.engine.models.load import load, load_processor
from worker.engine.models.precision import convert_parameters
from worker.engine.saving.artifacts import sha256_of
from worker.engine.tasks import TASKS

MODULES = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))


def write_modules(folder: Path, width: int, max_length: int) -> None:
    """Add the files to a merged export of a model with embeddings of `width`, whose texts have at most `max_length`
    tokens."""
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (path, kind) in enumerate(MODULES)
    ]
    _write_json(folder / "modules.json", modules)
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    pooling = {"word_embedding_dimension": width, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling").mkdir(exist_ok=True)
    _write_json(folder / "1_Pooling" / "config.json", pooling)


def _write_json(file: Path, values: Any) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


MERGED, SAVED = 0.4, 0.8
"""Shares of `write` that are done when the model is merged, and when it is saved."""


def write(job: ExportJob, report: Report = quiet) -> list[ExportedFile]:
    """Write the export's files into `job.job.output`, with their checksums. The base model is local (`fetch_model`).
    Reports after each merged layer, while the files grow, and after each checksum.

    Raises `RunFailed`, and what torch and the file system raise.
    """
    folder = Path(job.job.output)
    if job.format.merged:
        model, processor = merged(job, part(report, 0.0, MERGED))
        # otherwise config.json would contain a path of this machine
        model.config._name_or_path = job.job.spec.base_model
        formats.write(model, processor, folder, job.format, part(report, MERGED, SAVED))
        if job.job.spec.task == "sentence-embeddings":
            write_modules(folder, model.config.hidden_size, job.job.spec.training.max_length)
    else:
        shutil.copytree(job.weights, folder, dirs_exist_ok=True)
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = []
    for path in paths:
        name, size = path.relative_to(folder).as_posix(), path.stat().st_size
        files.append(ExportedFile(name=name, bytes=size, sha256=sha256_of(path)))
        part(report, SAVED, 1.0)(len(files) / len(paths))
    sums = folder / CHECKSUMS
    sums.write_text("".join(f"{file.sha256}  {file.name}\n" for file in files), encoding="utf-8")
    return [*files, ExportedFile(name=CHECKSUMS, bytes=sums.stat().st_size, sha256=sha256_of(sums))]


def merged(job: ExportJob, report: Report = quiet) -> tuple[PreTrainedModel, Any]:
    """The merged model in float32, and its tokenizer or image processor."""
    if job.whole:
        return whole_model(job, torch.float32), load_processor(Path(job.weights), job.job.spec.task)
    model, processor = base_model(job.job, torch.float32)
    adapted = attach(model, job)
    if isinstance(adapted, PeftModel):
        layers: Any = adapted
        _report_merges(adapted, report)
        whole: PreTrainedModel = layers.merge_and_unload(safe_merge=True)
        return whole, processor
    return adapted, processor


def _report_merges(model: PeftModel, report: Report) -> None:
    """Have each layer report once PEFT has merged it."""
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]

    def reporting(merge: Callable[..., None], share: float) -> Callable[..., None]:
        def merge_and_report(*args: Any, **options: Any) -> None:
            merge(*args, **options)
            report(share)

        return merge_and_report

    for place, layer in enumerate(layers, 1):
        layer.merge = reporting(layer.merge, place / len(layers))  # type: ignore[method-assign]


def whole_model(job: ExportJob, dtype: torch.dtype) -> PreTrainedModel:
    """The model of a run that saved all of it."""
    model: Any = TASKS[job.job.spec.task].AUTO.from_pretrained(
        job.weights, dtype=dtype, use_safetensors=True, trust_remote_code=False
    )
    whole: PreTrainedModel = model.eval()
    return whole


def base_model(job: TrainJob, dtype: torch.dtype) -> tuple[PreTrainedModel, Any]:
    """The base model with the head of the task, read in the dtype of its files and then converted."""
    loaded = load(job.model_location, job.model_revision, job.spec.task, job.labels, job.spec.training.seed)
    model: Any = loaded.model
    convert_parameters(model, dtype)
    return model.eval(), loaded.processor


def attach(model: PreTrainedModel, job: ExportJob) -> PreTrainedModel | PeftModel:
    """The base model with what the run saved beside it, by the code with which a user loads it. Raises
    `RunFailed(internal)` if a saved tensor was not loaded, or one that trains was not saved: PEFT only warns."""
    folder = Path(job.weights)
    if isinstance(job.job.spec.method, BottleneckAdapterSpec):
        return bottleneck.load(model, folder)
    if (folder / "adapter_config.json").is_file():
        try:
            adapted: Any = PeftModel.from_pretrained(model, folder)
        except (KeyError, ValueError, RuntimeError) as error:
            text = _("PEFT could not load the adapter (%(why)s).", why=f"{type(error).__name__}: {error}"[:300])
            raise RunFailed(FailureCode.INTERNAL, text) from error
        if job.job.spec.method.virtual_tokens:
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
