"""Exports of a run's model: formats, which methods they suit, their size on disk, and the worker's job."""

from collections.abc import Iterable
from enum import StrEnum
from json import dumps
from math import prod
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from app.domain.errors import FieldError
from app.domain.messages import Message, _
from app.domain.methods import AnyMethod
from app.domain.models.architecture import TaskModel
from app.domain.models.gguf import FAMILIES, gguf_bytes
from app.domain.models.hub_access import HubAccess
from app.domain.runs.job import TrainJob
from app.domain.tasks import DECODERS, TASKS

CHECKSUMS = "SHA256SUMS"
"""Name of the file with the SHA-256 of each other file, in the format of `sha256sum --check`."""
SMALL_FILES_BYTES = 32 << 20
"""Room for configuration and tokenizer, whose size is only known once they are written."""


class ExportFormat(StrEnum):
    """What is written."""

    ADAPTER = "adapter"
    """The trained tensors as the run saved them, byte for byte."""
    MERGED_FLOAT32 = "merged-float32"
    """The whole model for transformers, with ΔW added to W in float32."""
    MERGED_BFLOAT16 = "merged-bfloat16"
    """The same, then rounded to bfloat16 once."""
    ONNX_INT8 = "onnx-int8"
    """The merged classifier for onnxruntime on CPUs: matrices in 8 bits, activations quantized as they come."""
    GGUF_F16 = "gguf-f16"
    """The merged language model for llama.cpp: one file with its tokenizer and chat template."""
    GGUF_BF16 = "gguf-bf16"
    GGUF_Q8_0 = "gguf-q8_0"
    GGUF_Q5_1 = "gguf-q5_1"
    GGUF_Q5_0 = "gguf-q5_0"
    GGUF_Q4_1 = "gguf-q4_1"
    GGUF_Q4_0 = "gguf-q4_0"

    @property
    def merged(self) -> bool:
        """It holds the whole model."""
        return self is not ExportFormat.ADAPTER

    @property
    def gguf(self) -> str:
        """GGUF's name of the type of its matrices, `Q8_0`; empty for other formats."""
        return self.value.removeprefix("gguf-").upper() if self.value.startswith("gguf-") else ""

    @property
    def dtype(self) -> str:
        """safetensors' name of the weights' dtype; empty where the run's own files are copied."""
        return {ExportFormat.MERGED_FLOAT32: "F32", ExportFormat.MERGED_BFLOAT16: "BF16"}.get(self, "")


class ExportedFile(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    """`model.safetensors`; inside the archive too."""
    bytes: int
    sha256: str


class ExportJob(BaseModel):
    """Everything that an export process needs."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    format: ExportFormat
    job: TrainJob
    """The run's: base model, task, method, labels, test items. `output` is an empty directory for the export."""
    weights: str
    """A local directory with the files that the run saved: an adapter, or the whole model."""
    whole: bool
    """The run saved the whole model."""
    predictions: str = ""
    """A local copy of the run's predictions file; empty if it has none."""
    hub: HubAccess | None = Field(default=None, repr=False)
    """Opens the base model, if that needs the token of the run's owner."""


class StoredTensor(NamedTuple):
    name: str
    shape: tuple[int, ...]
    dtype: str
    """By safetensors' name: `F32`."""
    bits: int
    """Bits of one value."""

    @property
    def bytes(self) -> int:
        return prod(self.shape) * self.bits // 8


def file_bytes(tensors: Iterable[StoredTensor]) -> int:
    """Bytes of the safetensors file with these tensors and the metadata `{"format": "pt"}`.

    8 bytes for the header's length · the header, JSON padded to a multiple of 8 · the values of every tensor
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    # The widest dtypes come first, so that all tensors are aligned; the order determines the digits of the offsets.
    for tensor in sorted(tensors, key=lambda tensor: (-tensor.bits, tensor.name)):
        begin, end = end, end + tensor.bytes
        header[tensor.name] = {"dtype": tensor.dtype, "shape": [*tensor.shape], "data_offsets": [begin, end]}
    length = len(dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-length // 8) * 8 + end


def merged_bytes(model: TaskModel, form: ExportFormat) -> int:
    """Bytes of the weights of a merged export. Exact for safetensors in one file (transformers splits a model beyond
    50 GB); without the tokenizer for GGUF, and without the graph for ONNX."""
    if form.gguf:
        return gguf_bytes((p.shape for p in model.parameters), form.gguf)
    if form is ExportFormat.ONNX_INT8:
        return sum(p.size * (1 if len(p.shape) == 2 else 4) for p in model.parameters)
    bits = {"F32": 32, "BF16": 16}[form.dtype]
    return file_bytes(StoredTensor(p.name, p.shape, form.dtype, bits) for p in model.parameters)


def disk_bytes(form: ExportFormat, weights_bytes: int, saved_bytes: int) -> int:
    """Bytes on the worker's disk while it exports: the export, and a copy of what the run saved; for ONNX also the
    graph in float32, which is quantized into another file. Missing files of the base model come in addition."""
    graph = 4 * weights_bytes if form is ExportFormat.ONNX_INT8 else 0
    return weights_bytes + graph + saved_bytes + SMALL_FILES_BYTES


def refusal(form: ExportFormat, method: AnyMethod, model: TaskModel, *, whole: bool) -> FieldError | None:
    """Why a run's result cannot be exported in a format, or None. `whole`: the run saved the whole model."""
    if form is ExportFormat.ADAPTER and whole:
        what = _("%(method)s trains the model's own weights, so there is no adapter", method=method.facts.name)
        return FieldError("format", what, _("Choose merged-float32 or merged-bfloat16"))
    if form.merged and method.unmergeable is not None:
        what = _("%(method)s cannot be merged: %(why)s", method=method.facts.name, why=method.unmergeable)
        return FieldError("format", what, _("Choose adapter"))
    if form.gguf and (model.task not in DECODERS or model.model_type not in FAMILIES):
        what = _(
            "Vezna writes GGUF for language models of the types %(types)s, and this is a %(architecture)s",
            types=", ".join(FAMILIES),
            architecture=model.architecture,
        )
        return FieldError("format", what, _("Choose merged-bfloat16"))
    if form.gguf and model.rope_scaling:
        what = _(
            "transformers does not read scaled rotary embeddings (%(kind)s) from GGUF, so its scores cannot be checked",
            kind=model.rope_scaling,
        )
        return FieldError("format", what, _("Choose merged-bfloat16"))
    if form is ExportFormat.ONNX_INT8 and not TASKS[model.task].labels_texts:
        what = _("Vezna writes ONNX for classifiers, and this is a %(architecture)s", architecture=model.architecture)
        return FieldError("format", what, _("Choose merged-bfloat16"))
    return None


def too_large(needed: int, free: int, where: Message) -> FieldError:
    """The error for an export for which a disk has too little room; sizes in bytes."""
    what = _(
        "The export needs %(needed)s MiB, and %(where)s has %(free)s MiB free",
        needed=f"{needed / 2**20:,.0f}",
        free=f"{free / 2**20:,.0f}",
        where=where,
    )
    return FieldError("format", what, _("Free some space there, or choose a smaller format"))
