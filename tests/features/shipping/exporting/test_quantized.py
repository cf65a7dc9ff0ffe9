"""The check of quantized weights: it sees small changes, and says when rounding leaves nothing to see."""

import pytest
import torch

from app.domain.comparison.fairness.export_gate import WeightCheck
from app.domain.methods import LoraSpec
from app.domain.models.exports import ExportFormat, ExportJob
from tests.support.rows import exported
from worker.features.shipping.exporting import gguf_file, quantized
from worker.features.shipping.exporting.quantized import Stored, check_quantized
from worker.features.shipping.exporting.weights import Expectation

WIDTH, RMS = 192, 0.1
"""Of the matrices, and of their numbers."""
NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> ExportJob:
    """Any job: a test names the numbers."""
    return exported.run(tmp_path_factory.mktemp("run"), LoraSpec(r=4), "bert", ExportFormat.MERGED_FLOAT32)[0]


def onnx(value: torch.Tensor) -> Stored:
    """7 bits with one scale per output."""
    scale = value.abs().amax(1, keepdim=True) / 64
    return Stored((value / scale).round().clamp(-64, 64) * scale, scale)


def checked(
    job: ExportJob, form: ExportFormat, rms: float, share: float, monkeypatch: pytest.MonkeyPatch, *, grid: bool = False
) -> WeightCheck:
    """The check of an export of three matrices that holds a share of ΔW. `grid`: W is stored in bfloat16."""
    generator = torch.Generator().manual_seed(3)
    shape = (len(NAMES), WIDTH, WIDTH)
    base = RMS * torch.randn(shape, generator=generator)
    base = (base.bfloat16() if grid else base).double()
    change = rms * torch.randn(shape, generator=generator).double()
    # as a merge: the sum in float32
    held = dict(zip(NAMES, (base.float() + share * change.float()).double(), strict=True))
    before, value = (dict(zip(NAMES, each, strict=True)) for each in (base, base + change))

    def stored(_job: ExportJob, _expected: Expectation) -> list[tuple[str, Stored]]:
        if form.gguf:
            return [(name, Stored(gguf_file.rounded(held[name], form))) for name in NAMES]
        return [(name, onnx(held[name])) for name in NAMES]

    monkeypatch.setattr(
        quantized, "expectation", lambda _job: Expectation(set(NAMES), value.__getitem__, before.__getitem__)
    )
    monkeypatch.setattr(quantized, "_of_gguf" if form.gguf else "_of_onnx", stored)
    return check_quantized(job.model_copy(update={"format": form}))


@pytest.mark.parametrize("rms", [5e-5, 1e-4, 2e-4, 1e-2])
@pytest.mark.parametrize(
    "form", [ExportFormat.GGUF_F16, ExportFormat.GGUF_Q8_0, ExportFormat.GGUF_Q4_0, ExportFormat.ONNX_INT8]
)
def test_a_small_change_that_is_missing_or_halved_is_seen(
    form: ExportFormat, rms: float, job: ExportJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = checked(job, form, rms, 1.0, monkeypatch)
    assert (right.wrong, right.unseen, right.largest_error <= 1) == ([], 0, True)
    for share in (0.0, 0.5):
        found = checked(job, form, rms, share, monkeypatch)
        assert (sorted(found.wrong), found.unseen) == (NAMES, 0), share


@pytest.mark.parametrize("form", [ExportFormat.GGUF_BF16, ExportFormat.GGUF_F16])
def test_rounding_is_no_fault(form: ExportFormat, job: ExportJob, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked(job, form, 1e-4, 1.0, monkeypatch, grid=True).wrong == []
    assert sorted(checked(job, form, 1e-4, 0.0, monkeypatch, grid=True).wrong) == NAMES


def test_changes_are_summed_over_matrices_and_else_scores_decide(
    job: ExportJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    rms = 2e-6  # about two numbers of each matrix change
    assert checked(job, ExportFormat.GGUF_Q4_0, rms, 1.0, monkeypatch).wrong == []
    one = checked(job, ExportFormat.GGUF_Q4_0, rms, 0.0, monkeypatch)
    assert (sorted(one.wrong), one.unseen) == (NAMES, 0)
    for share in (0.0, 1.0):
        found = checked(job, ExportFormat.GGUF_BF16, 1e-9, share, monkeypatch, grid=True)
        assert (found.wrong, found.unseen) == ([], 3)
