"""An exported classifier of images scores as its run did, and the code that a page offers classifies an image."""

import contextlib
import io
from pathlib import Path

import pytest
import torch

from app.domain.methods import FullSpec, LoraSpec, MethodSpec
from app.domain.models.exports import ExportFormat, refusal
from app.words.runs import snippets
from tests.support.rows import exported
from tests.support.tiny import images as tiny_images
from worker.engine.data.images import opened
from worker.engine.exporting import check, merge
from worker.engine.exporting.progress import quiet
from worker.engine.models.architecture import describe


@pytest.mark.parametrize(
    ("method", "form"),
    [
        (FullSpec(), ExportFormat.MERGED_FLOAT32),
        (LoraSpec(r=4), ExportFormat.MERGED_FLOAT32),
        (LoraSpec(r=4), ExportFormat.ADAPTER),
    ],
    ids=["full", "merged", "adapter"],
)
def test_it_scores_as_its_run_and_its_code_classifies(
    method: MethodSpec, form: ExportFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_images.job(tmp_path / "job", tiny_images.save_model(tmp_path / "base"), method)
    job, model = exported.trained(tmp_path, run, form)
    job, scores = exported.predicted(job, model, tmp_path)
    merge.write(job)
    found = check.check(job, quiet)
    assert found.scores == scores and found.same == 24
    assert found.weights is None or found.weights.wrong == []

    [row] = tiny_images.rows(1, 0, 0)
    (tmp_path / "image.png").write_bytes(row.image)
    monkeypatch.chdir(tmp_path)
    code = snippets.loading_code(
        snippets.Export(
            form, job.job.spec, job.job.output, job.job.model_location, "", tiny_images.LABELS, "labelled-images", None
        )
    )
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "snippet", "exec"), {})
    pixels = tiny_images.processor(tmp_path / "processor")(images=[opened(row.image)], return_tensors="pt")
    with torch.inference_mode():
        wanted = model(pixel_values=pixels["pixel_values"]).logits.argmax().item()
    assert out.getvalue().strip() == tiny_images.LABELS[wanted]


@pytest.mark.parametrize("form", [ExportFormat.ONNX_INT8, ExportFormat.GGUF_F16])
def test_formats_for_texts_are_refused(form: ExportFormat) -> None:
    refused = refusal(form, LoraSpec(), describe(tiny_images.model(), "image-classification"), whole=False)
    assert refused is not None and "this is a ViTForImageClassification" in refused.message
