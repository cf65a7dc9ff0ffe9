"""The files of each format: written from a merged model, and loaded as their users load them.

A format's libraries are imported once it is exported, because a worker may lack them.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.models.exports import ExportFormat
from worker.features.shipping.exporting.progress import Report, growing, part

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16}
TOKENIZER = 0.95
"""Share of `write` that is done when the weights are written."""


def write(model: PreTrainedModel, processor: Any, folder: Path, form: ExportFormat, report: Report) -> None:
    """Write a merged model. Raises `RunFailed` for what the format has no place for, or if the worker lacks a
    package."""
    if form.gguf:
        library("gguf_file").write(model, processor, folder, form, report)
        return
    if form is ExportFormat.ONNX_INT8:
        library("onnx_file").write(model, processor, folder, part(report, 0.0, TOKENIZER))
    else:
        nn.Module.to(model, DTYPES[form.dtype])
        total = sum(parameter.nbytes for parameter in model.parameters())
        with growing(folder, total, part(report, 0.0, TOKENIZER)):
            model.save_pretrained(folder)
    processor.save_pretrained(folder)


def library(name: str) -> Any:
    """`gguf_file` or `onnx_file`. Raises `RunFailed(bad_configuration)` if a package of it is missing."""
    try:
        module: ModuleType = importlib.import_module(f"worker.features.shipping.exporting.{name}")
    except ImportError as error:
        text = _(
            "This export needs the package %(package)s on the worker. Install it with: pip install 'vezna[export]'",
            package=error.name or name,
        )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text) from error
    return module
