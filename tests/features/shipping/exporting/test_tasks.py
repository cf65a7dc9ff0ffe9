"""Exports of embedding models and image classifiers score as their runs."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from app.domain.methods import FullSpec, LoraSpec, MethodSpec, PromptSpec
from app.domain.models.exports import ExportFormat, refusal
from app.features.shipping.words import snippets
from tests.features.shipping.exporting.test_gguf import printed
from tests.support.rows import exported
from tests.support.tiny import images as tiny_images
from tests.support.tiny import pairs as tiny_pairs
from tests.support.tiny import texts as tiny
from worker.engine.data.images import opened
from worker.engine.models.architecture import describe
from worker.engine.tasks import sentence_embeddings
from worker.features.shipping.exporting import export, merge
from worker.features.shipping.exporting.progress import quiet


@pytest.mark.parametrize(
    ("method", "form"),
    [
        (FullSpec(), ExportFormat.MERGED_FLOAT32),
        (LoraSpec(r=4, target_modules="all-linear"), ExportFormat.MERGED_FLOAT32),
        (PromptSpec(num_virtual_tokens=4), ExportFormat.ADAPTER),
    ],
    ids=["full", "lora", "prompt"],
)
def test_scores_and_similarity_are_the_runs(method: MethodSpec, form: ExportFormat, tmp_path: Path) -> None:
    run = tiny_pairs.job(tmp_path / "job", tiny.save_model(tmp_path / "base"), method)
    job, model = exported.trained(tmp_path, run, form)
    job, scores = exported.predicted(job, model, tmp_path)
    merge.write(job)
    found = export.check(job, quiet)
    assert found.scores == scores and found.same == 12
    assert found.weights is None or found.weights.wrong == []

    spec = job.job.spec.model_copy(update={"training": job.job.spec.training.model_copy(update={"max_length": 8})})
    folder = job.job.output
    code = snippets.loading_code(
        snippets.Export(form, spec, folder, job.job.model_location, "", [], "query-passage", 32)
    )
    tokenizer = AutoTokenizer.from_pretrained(job.job.model_location)
    inputs = tokenizer(
        [snippets.EXAMPLE, snippets.OTHER_EXAMPLE], padding=True, truncation=True, max_length=8, return_tensors="pt"
    )
    with torch.inference_mode():
        one, other = sentence_embeddings.embeddings(model, inputs["input_ids"], inputs["attention_mask"])
    assert float(printed(code)) == pytest.approx(float(one @ other), abs=1e-5)


@pytest.mark.slow  # importing sentence-transformers takes seconds
def test_sentence_transformers_loads_a_merged_export(tmp_path: Path) -> None:
    """Without the pooler, with mean pooling over unpadded tokens, and cut where the run cut."""
    package = pytest.importorskip("sentence_transformers")
    run = tiny_pairs.job(tmp_path / "job", tiny.save_model(tmp_path / "base"), FullSpec())
    job, model = exported.trained(tmp_path, run, ExportFormat.MERGED_FLOAT32)
    files = {file.name for file in merge.write(job)}
    assert {"modules.json", "1_Pooling/config.json", "sentence_bert_config.json"} <= files
    loaded = package.SentenceTransformer(job.job.output, device="cpu")
    texts = ["the cat sat", "a day"]
    inputs = AutoTokenizer.from_pretrained(job.job.model_location)(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = sentence_embeddings.embeddings(model, inputs["input_ids"], inputs["attention_mask"])
    assert loaded.max_seq_length == job.job.spec.training.max_length
    assert torch.allclose(torch.from_numpy(loaded.encode(texts)), expected, atol=1e-6)


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
    found = export.check(job, quiet)
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
    pixels = tiny_images.processor(tmp_path / "processor")(images=[opened(row.image)], return_tensors="pt")
    with torch.inference_mode():
        wanted = model(pixel_values=pixels["pixel_values"]).logits.argmax().item()
    assert printed(code).strip() == tiny_images.LABELS[wanted]


@pytest.mark.parametrize("form", [ExportFormat.ONNX_INT8, ExportFormat.GGUF_F16])
def test_formats_for_texts_are_refused(form: ExportFormat) -> None:
    refused = refusal(form, LoraSpec(), describe(tiny_images.model(), "image-classification"), whole=False)
    assert refused is not None and "this is a ViTForImageClassification" in refused.message
