"""Merge a run's result into its base model, and write it as a model for transformers.

    W ← round(float32(W) + ΔW)        float32(W) is exact for float32, bfloat16 and float16

The base model is read in the dtype of its files, so that no weight is rounded before ΔW is added, and rounded once
afterwards: ΔW is often smaller than half a bfloat16 ulp of W, and adding it in bfloat16 would lose it.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel

from app.domain.models.exports import CHECKSUMS, ExportedFile, ExportJob
from app.domain.tasks import TASKS as FACTS
from worker.engine.models.load import load_processor
from worker.engine.models.trained import attach, base_model, whole_model
from worker.engine.saving.artifacts import sha256_of
from worker.features.shipping.exporting import formats
from worker.features.shipping.exporting.progress import Report, part, quiet

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
        if FACTS[job.job.spec.task].output == "embedding":
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
        return whole_model(job.job, job.weights, torch.float32), load_processor(Path(job.weights), job.job.spec.task)
    model, processor = base_model(job.job, torch.float32)
    adapted = attach(model, job.job, job.weights)
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
