"""Write a merged classifier as an ONNX file in 8 bits for CPUs, and load it with onnxruntime.

    W ≈ s·Q        Q integers [in, out], s one scale per output; embeddings have one scale and a zero point each
    x              quantized as it comes, per batch (dynamic quantization), so no calibration data is needed

Q has 7 bits: the instructions of CPUs without VNNI add pairs of products of 8 bits in 16 bits, which overflow
(onnxruntime's documentation, "Quantize ONNX models", U8S8), and scores would depend on the CPU.
"""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import onnxruntime
import onnxscript  # noqa: F401 torch's exporter needs it; without it, the error names it
import torch
from onnxruntime import quantization
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from app.domain.errors import first_line
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from worker.features.shipping.exporting.progress import Report

FILE = "model.onnx"
INPUTS = ("input_ids", "attention_mask")
GRAPH, QUANTIZED = 0.6, 1.0
"""Shares of `write` that are done when the graph is exported, and when it is quantized."""


class _Logits(nn.Module):
    """A classifier with positional inputs and one output, as the exporter needs it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """[B, T] twice → [B, labels]."""
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


class OnnxClassifier(nn.Module):
    """A session of onnxruntime behind the interface of a transformers model."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(folder / FILE, options, providers=["CPUExecutionProvider"])
        self.config = AutoConfig.from_pretrained(folder)

    def forward(self, **inputs: torch.Tensor) -> Any:
        """`logits` [B, labels], from [B, T] tensors."""
        [logits] = self.session.run(None, {name: inputs[name].numpy() for name in INPUTS})
        return SimpleNamespace(logits=torch.from_numpy(logits))


def write(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, report: Report) -> None:
    """Write graph, configuration and tokenizer. Raises `RunFailed(bad_configuration)` if torch cannot export
    the architecture."""
    inputs = tokenizer(["a", "a b c"], padding=True, return_tensors="pt")
    dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    graph, whole = folder / FILE, folder / f"float32-{FILE}"
    try:
        torch.onnx.export(
            _Logits(model).eval(),
            tuple(inputs[name] for name in INPUTS),
            whole,
            input_names=list(INPUTS),
            output_names=["logits"],
            dynamo=True,
            dynamic_shapes=tuple(dims for _name in INPUTS),
            external_data=False,
            verbose=False,
        )
    except Exception as error:  # the exporter raises many kinds
        why = first_line(error)[:300]
        text = _("torch cannot export this architecture to ONNX (%(why)s). Choose merged-bfloat16.", why=why)
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text) from error
    report(GRAPH)
    quantization.quantize_dynamic(
        whole, graph, per_channel=True, reduce_range=True, weight_type=quantization.QuantType.QInt8
    )
    whole.unlink()
    report(QUANTIZED)
    model.config.save_pretrained(folder)


def load(folder: Path) -> tuple[OnnxClassifier, PreTrainedTokenizerBase]:
    """The classifier in onnxruntime, and its tokenizer."""
    return OnnxClassifier(folder).eval(), AutoTokenizer.from_pretrained(folder)


def stored(folder: Path) -> Iterator[tuple[str, torch.Tensor, torch.Tensor | None]]:
    """The graph's tensors of floating-point numbers, dequantized, with their scale, [1, out] or [1, 1]; None where they
    are not quantized. Matrices that multiply are [in, out], under names of the exporter; the others have the model's
    names."""
    graph = onnx.load(folder / FILE).graph
    tensors = {tensor.name: torch.tensor(onnx.numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    for name, tensor in tensors.items():
        if name.endswith("_quantized"):
            plain = name.removesuffix("_quantized")
            zero, scale = tensors[f"{plain}_zero_point"].double(), tensors[f"{plain}_scale"].double()
            yield plain.removeprefix("model."), (tensor.double() - zero) * scale, scale.reshape(1, -1)
        elif tensor.is_floating_point() and not name.endswith("_scale"):
            yield name.removeprefix("model."), tensor, None
