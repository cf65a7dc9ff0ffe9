"""Check the weights of an export whose format stores fewer bits: GGUF and ONNX.

    |T − E| ≤ step       T the dequantized number, E = W + ΔW, step the largest error that the type leaves in a block
    a = ⟨T − Q(W), D⟩ / ‖D‖²      D = Q(E) − Q(W), Q the rounding of the type: the share of ΔW that the export holds

The second test finds what the first cannot: ΔW is often smaller than a step, so an export without it, or with half of
it, may lie within the step everywhere. Rounding decides which numbers ΔW changes, so both E and W are rounded as the
export is, and only the numbers that differ count. With n of them (their effective number, ‖D‖⁴ / ΣD⁴), a is 1 for the
run's model, 0 without ΔW, and ½ ± ½/√n with half of it; so a must lie within 0.02 + 1/√n of 1. Matrices with too few
are judged by their sum. If that has too few as well, the weights cannot show whether ΔW is in the export.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from app.domain.comparison.fairness.export_gate import WeightCheck
from app.domain.models.exports import ExportFormat, ExportJob
from app.domain.models.gguf import stored_as
from worker.features.shipping.exporting.formats import library
from worker.features.shipping.exporting.progress import Report, quiet
from worker.features.shipping.exporting.weights import Expectation, expectation

SLACK = 2.0**-22
"""Allowed rounding error: absolute for float32 numbers that were added to 1 and subtracted again, relative for W +
ΔW."""
LEVELS = {"Q8_0": 127, "Q5_0": 16, "Q4_0": 8, "Q5_1": 31, "Q4_1": 15}
"""Steps between zero and the largest number of a block (`_0`), or between its smallest and its largest (`_1`)."""
BLOCK = 32
ONNX_LEVELS = 63
DEVIATIONS = 8.0
"""Standard deviations of float32 sums that count as noise in `a`."""
TOLERANCE = 0.02
"""Further tolerance of `a`."""
BLIND = 0.5
"""Tolerance of `a` from which an export with ΔW cannot be distinguished from one without."""


class Stored(NamedTuple):
    """A tensor of an export, dequantized."""

    values: torch.Tensor
    scale: torch.Tensor | None = None
    """For ONNX: the quantization step, one value or one per output; None if the tensor is not quantized."""


class Evidence(NamedTuple):
    """How much of ΔW the stored numbers show; the sums of several tensors can be added."""

    missing: float = 0.0
    """⟨T − Q(E), D⟩"""
    energy: float = 0.0
    """‖D‖²"""
    fourth: float = 0.0
    """ΣD⁴"""
    noise: float = 0.0
    """Variance of `missing` by sums in float32."""

    def plus(self, other: "Evidence") -> "Evidence":
        """The evidence of both sets of tensors together."""
        return Evidence(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def tolerance(self) -> float:
        """Tolerance of `a`; infinite if ΔW changes no number."""
        if not self.energy:
            return math.inf
        noise = DEVIATIONS * math.sqrt(self.noise) / self.energy
        return TOLERANCE + math.sqrt(self.fourth) / self.energy + noise

    @property
    def wrong(self) -> bool:
        """The export holds another share of ΔW than all of it."""
        return not abs(self.missing) <= self.tolerance * self.energy


def check_quantized(job: ExportJob, report: Report = quiet) -> WeightCheck:
    """Compare every tensor of a GGUF or ONNX export in `job.job.output`, and report after each."""
    expected = expectation(job)
    pairs = _of_gguf(job, expected) if job.format.gguf else _of_onnx(job, expected)
    wrong, largest, present = [], 0.0, 0
    unseen, together = [], Evidence()
    for name, stored in pairs:
        present += stored is not None
        value = expected.value(name)
        error = math.inf if stored is None else _error(stored, value, job.format)
        if stored is not None and expected.before and error <= 1.0:
            change = _evidence(stored, value, expected.before(name), job.format)
            if change is not None and change.tolerance < BLIND:
                error = math.inf if change.wrong else error
            elif change is not None:
                unseen.append(name)
                together = together.plus(change)
        largest = max(largest, error)
        if not error <= 1.0:
            wrong.append(name)
        report(min((present + len(wrong)) / max(len(expected.names), 1), 1.0))
    if together.tolerance < BLIND:
        wrong, unseen = wrong + (unseen if together.wrong else []), []
    return WeightCheck(
        tensors=present, wrong=wrong, wrong_count=len(wrong), largest_error=min(largest, 1e9), unseen=len(unseen)
    )


def _of_gguf(job: ExportJob, expected: Expectation) -> Iterator[tuple[str, Stored | None]]:
    """Tensors of a GGUF file, read with transformers' mapping of names and layouts, not the one that wrote the file."""
    model, _tokenizer = library("gguf_file").load(Path(job.job.output), job.format)
    stored = dict(model.named_parameters())
    for name in sorted(expected.names):
        yield name, Stored(stored[name].detach()) if name in stored else None


def _of_onnx(job: ExportJob, expected: Expectation) -> Iterator[tuple[str, Stored | None]]:
    """Tensors of an ONNX file by name. Multiplied matrices have lost their names, and equal tensors are stored once, so
    any tensor that is equal counts."""
    stored = {name: Stored(*found) for name, *found in library("onnx_file").stored(Path(job.job.output))}
    shapes: dict[torch.Size, list[Stored]] = {}
    for tensor in stored.values():
        shapes.setdefault(tensor.values.shape, []).append(tensor)
        if tensor.values.dim() == 2:
            turned = Stored(tensor.values.T, None if tensor.scale is None else tensor.scale.T)
            shapes.setdefault(turned.values.shape, []).append(turned)
    for name in sorted(expected.names):
        if name in stored:
            yield name, stored[name]
        else:
            value = expected.value(name)
            # torch's exporter leaves out a bias of zeros
            alike = [*shapes.get(value.shape, []), *([] if value.any() else [Stored(torch.zeros_like(value))])]
            nearest = min(alike, key=lambda each: (each.values - value).square().sum().item(), default=None)
            yield name, nearest if nearest and _error(nearest, value, job.format) <= 1.0 else None


def _error(stored: Stored, value: torch.Tensor, form: ExportFormat) -> float:
    """The largest error in units of the step; infinite for another shape, or a number that is none."""
    if stored.values.shape != value.shape:
        return math.inf
    step = _step(value, form, stored.scale) + _slack(value)
    error = ((stored.values.double() - value).abs() / step).max().item()
    return math.inf if math.isnan(error) else error


def _evidence(stored: Stored, value: torch.Tensor, before: torch.Tensor, form: ExportFormat) -> Evidence | None:
    """How much of ΔW a tensor shows, in units of its largest D; None if ΔW is 0."""
    if torch.equal(value, before):
        return None
    rounded = _rounded(value, form, stored.scale)
    change = rounded - _rounded(before, form, stored.scale)
    if not change.any():
        return Evidence()
    unit = change.abs().max()
    change, missing = change / unit, (stored.values.double() - rounded) / unit
    energy = change.square().sum().item()
    noise = (_slack(value) / unit).square().item() / 3 * energy
    return Evidence((missing * change).sum().item(), energy, change.pow(4).sum().item(), noise)


def _slack(value: torch.Tensor) -> torch.Tensor:
    """The largest error of a sum in float32."""
    return SLACK * (1 + value.abs().max())


def _rounded(value: torch.Tensor, form: ExportFormat, scale: torch.Tensor | None) -> torch.Tensor:
    """Numbers as the format leaves them."""
    if form.gguf:
        rounded: torch.Tensor = library("gguf_file").rounded(value, form)
        return rounded
    if scale is None:
        return value
    scale = scale.clamp_min(torch.finfo(torch.float32).tiny)
    return (value / scale).round() * scale


def _step(value: torch.Tensor, form: ExportFormat, scale: torch.Tensor | None) -> torch.Tensor:
    """The largest error of each number [*shape], or of all."""
    if not form.gguf:
        if scale is None:
            return torch.zeros(())
        inputs = [axis for axis, size in enumerate(scale.shape) if size == 1]
        if scale.numel() > 1:  # one per output
            return value.abs().amax(inputs, keepdim=True) / ONNX_LEVELS / 2
        return value.abs().max() / ONNX_LEVELS  # half a step, from the smallest to the largest number
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
