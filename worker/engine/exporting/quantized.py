"""Check the weights of an export whose format stores fewer bits: GGUF and ONNX.

    |T − E| ≤ step       T the dequantized number, E = W + ΔW, step the largest error that the type leaves in a block
    a = ⟨T − W, E − W⟩ / ‖E − W‖²       the share of ΔW that the export holds: 1, up to the noise of quantization

The second test finds what the first cannot: ΔW is often smaller than a step, so an export without it, or with half of
it, may lie within the step everywhere. The errors of quantization are independent of ΔW, so that over all numbers of a
matrix they cancel out.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import torch

from app.domain.comparison.export_gate import WeightCheck
from app.domain.models.exports import ExportFormat, ExportJob
from app.domain.models.gguf import stored_as
from worker.engine.exporting.formats import library
from worker.engine.exporting.progress import Report, quiet
from worker.engine.exporting.weights import Expectation, expectation

SLACK = 2.0**-22
"""Of numbers in float32 that were added to 1 and subtracted from it again, absolute; of the sum W + ΔW, relative."""
LEVELS = {"Q8_0": 127, "Q5_0": 16, "Q4_0": 8, "Q5_1": 31, "Q4_1": 15}
"""Steps between zero and the largest number of a block (`_0`), or between its smallest and its largest (`_1`)."""
BLOCK = 32
ONNX_LEVELS = 63
DEVIATIONS = 8.0
"""Standard deviations of `a` that are taken for noise."""
TOLERANCE = 0.02
"""Of `a`, besides."""


def check_quantized(job: ExportJob, report: Report = quiet) -> WeightCheck:
    """Compare every tensor of a GGUF or ONNX export in `job.job.output`, and report after each."""
    expected = expectation(job)
    pairs = _of_gguf(job, expected) if job.format.gguf else _of_onnx(job, expected)
    wrong, largest, present = [], 0.0, 0
    for name, tensor in pairs:
        present += tensor is not None
        error = math.inf if tensor is None else _error(tensor, expected, name, job.format)
        largest = max(largest, error)
        if not error <= 1.0:
            wrong.append(name)
        report(min((present + len(wrong)) / max(len(expected.names), 1), 1.0))
    return WeightCheck(tensors=present, wrong=wrong, wrong_count=len(wrong), largest_error=min(largest, 1e9))


def _of_gguf(job: ExportJob, expected: Expectation) -> Iterator[tuple[str, torch.Tensor | None]]:
    """By transformers' own mapping of names and layouts, not by the one that wrote the file."""
    model, _tokenizer = library("gguf_file").load(Path(job.job.output), job.format)
    stored = dict(model.named_parameters())
    for name in sorted(expected.names):
        yield name, stored[name].detach() if name in stored else None


def _of_onnx(job: ExportJob, expected: Expectation) -> Iterator[tuple[str, torch.Tensor | None]]:
    """By name. A matrix that multiplies has lost it, and equal tensors are stored once, so any that equals counts."""
    stored = dict(library("onnx_file").stored(Path(job.job.output)))
    shapes: dict[torch.Size, list[torch.Tensor]] = {}
    for tensor in stored.values():
        shapes.setdefault(tensor.shape, []).append(tensor)
        if tensor.dim() == 2:
            shapes.setdefault(tensor.T.shape, []).append(tensor.T)
    for name in sorted(expected.names):
        if name in stored:
            yield name, stored[name]
        else:
            value = expected.value(name)
            # torch's exporter leaves out a bias of zeros
            alike = [*shapes.get(value.shape, []), *([] if value.any() else [torch.zeros_like(value)])]
            yield name, next((tensor for tensor in alike if _error(tensor, expected, name, job.format) <= 1.0), None)


def _error(tensor: torch.Tensor, expected: Expectation, name: str, form: ExportFormat) -> float:
    """The largest error in units of the step; infinite for another shape, a number that is none, or a share of ΔW that
    is not 1."""
    value = expected.value(name)
    if tensor.shape != value.shape:
        return math.inf
    step = _step(value, form) + SLACK * (1 + value.abs().max())
    change = value - expected.before(name) if expected.before else torch.zeros(())
    error = ((tensor.double() - value).abs() / step).max().item()
    if math.isnan(error):
        return math.inf
    energy = change.square().sum()
    if energy > 0:
        missing = ((tensor.double() - value) * change).sum() / energy  # a − 1
        noise = (step.expand_as(value) * change).norm() / energy / math.sqrt(3)  # of errors uniform within ± step
        if missing.abs() > DEVIATIONS * noise + TOLERANCE:
            return math.inf
    return error


def _step(value: torch.Tensor, form: ExportFormat) -> torch.Tensor:
    """The largest error of each number [*shape], or of all."""
    if not form.gguf:
        # one scale per output of a matrix, or one for an embedding, which may be the larger
        return value.abs().max() * 2 / ONNX_LEVELS / 2 if value.dim() == 2 else torch.zeros(())
    kind = stored_as(value.shape, form.gguf)
    if kind in ("F32", "F16", "BF16"):
        bits = {"F32": 24, "F16": 11, "BF16": 8}[kind]
        return value.abs() * 2.0**-bits + (2.0**-25 if kind == "F16" else 0.0)
    blocks = value.reshape(-1, BLOCK)
    largest = blocks.abs().amax(1, keepdim=True)
    span = largest if kind.endswith("_0") else blocks.amax(1, keepdim=True) - blocks.amin(1, keepdim=True)
    # Half a step; for Q4_0 and Q5_0 a whole one, since their levels go from −8 to 7. Scales are float16.
    part = 1.0 if kind in ("Q4_0", "Q5_0") else 0.5
    step = span * part / LEVELS[kind] + (span + largest) * 2.0**-10
    return step.expand_as(blocks).reshape(value.shape)
