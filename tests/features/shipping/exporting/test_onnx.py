"""ONNX exports in 8 bits: onnxruntime answers as the trained classifier, and a wrong merge is caught."""

from pathlib import Path

import pytest
import torch

from app.domain.comparison.fairness.export_gate import GateOutcome, gate
from app.domain.methods import HeadOnlySpec, LoraSpec, MethodSpec
from app.domain.models.exports import ExportFormat, merged_bytes
from tests.support.rows import exported
from worker.engine.models.architecture import describe
from worker.engine.models.trained import base_model
from worker.features.shipping.exporting import export, merge, onnx_file
from worker.features.shipping.exporting.progress import quiet

pytestmark = pytest.mark.slow
"""torch's exporter takes ten seconds for the smallest model."""
FORM = ExportFormat.ONNX_INT8
MATRIX = "bert.encoder.layer.1.attention.self.query.weight"


@pytest.mark.nightly
def test_onnxruntime_answers_as_the_trained_classifier(tmp_path: Path) -> None:
    job, model = exported.run(tmp_path, LoraSpec(r=4), "bert", FORM)
    job, scores = exported.predicted(job, model, tmp_path)
    files = {file.name: file.bytes for file in merge.write(job)}
    assert files.keys() == {"model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json", "SHA256SUMS"}
    assert files["model.onnx"] > merged_bytes(describe(merge.merged(job)[0], "sequence-classification"), FORM)
    assert str(tmp_path) not in (Path(job.job.output) / "config.json").read_text()
    found = export.check(job, quiet)
    assert found.loaded_with.startswith("onnxruntime ")
    assert found.weights is not None
    assert (found.weights.wrong, found.weights.largest_error <= 1) == ([], True)
    assert gate(scores, found, margin=0.3).outcome is not GateOutcome.FAIL
    classifier, tokenizer = onnx_file.load(Path(job.job.output))
    for texts in (["good"], ["good bad", "bad", "count from one to good"]):
        inputs = tokenizer(texts, padding=True, return_tensors="pt")
        with torch.inference_mode():
            expected = model(**inputs).logits
            torch.testing.assert_close(classifier(**inputs).logits, expected, rtol=0.1, atol=0.1 * expected.abs().max())


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("spec", "share"),
    [(LoraSpec(r=4, lora_alpha=8), 0.5), (LoraSpec(r=4), 0.0), (HeadOnlySpec(), 0.0)],
    ids=["scale missing", "matrix missing", "head missing"],
)
def test_a_corrupted_merge_is_caught(spec: MethodSpec, share: float, tmp_path: Path) -> None:
    job, _model = exported.run(tmp_path, spec, "bert", FORM)
    merged, tokenizer = merge.merged(job)
    base, _tokenizer = base_model(job.job, torch.float32)
    name = MATRIX if isinstance(spec, LoraSpec) else "classifier.weight"
    with torch.no_grad():
        before = base.get_parameter(name)
        merged.get_parameter(name).copy_(before + share * (merged.get_parameter(name) - before))
    folder = Path(job.job.output)
    onnx_file.write(merged, tokenizer, folder, quiet)
    tokenizer.save_pretrained(folder)
    found = export.check(job, quiet)
    assert found.weights is not None and found.weights.wrong == [name]
    assert gate(found.scores, found, margin=1.0).outcome is GateOutcome.FAIL
