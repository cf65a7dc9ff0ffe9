"""Merged exports: they compute what the run's model computes, have the predicted size, and are rounded once."""

import hashlib
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.domain.failures import RunFailed
from app.domain.methods import HeadOnlySpec, LoraSpec, MethodSpec, QloraSpec
from app.domain.models.exports import CHECKSUMS, ExportFormat, merged_bytes
from tests.support.rows import exported
from tests.unit.worker.engine import adapted as tried
from worker.engine.exporting import merge
from worker.engine.models.architecture import describe
from worker.engine.tasks import TASKS

MERGEABLE = [(spec, name) for spec, name in tried.TRIES if spec.unmergeable is None and not isinstance(spec, QloraSpec)]


@pytest.mark.by_day
@tried.tries_on(MERGEABLE)
def test_a_merged_model_computes_what_the_run_computes_and_has_the_predicted_size(
    spec: MethodSpec, name: str, tmp_path: Path
) -> None:
    job, model = exported.run(tmp_path, spec, name, ExportFormat.MERGED_FLOAT32)
    before = tried.logits(tried.model(name), name)
    files = {file.name: file for file in merge.write(job)}
    auto = TASKS[tried.MODELS[name]].AUTO
    loaded = auto.from_pretrained(job.job.output, dtype="auto").eval()
    with torch.inference_mode():
        answer = tried.logits(loaded, name)
        torch.testing.assert_close(answer, tried.logits(model, name), rtol=1e-4, atol=1e-4)
    assert (answer - before).abs().max() > 1e-3, "the run changed the model"
    facts = describe(loaded, tried.MODELS[name])
    assert files["model.safetensors"].bytes == merged_bytes(facts, job.format)


def test_bfloat16_is_the_float32_merge_rounded_once(tmp_path: Path) -> None:
    spec = LoraSpec(r=4)
    stored = {"stored": torch.bfloat16}
    for form in (ExportFormat.MERGED_FLOAT32, ExportFormat.MERGED_BFLOAT16):
        job, _model = exported.run(tmp_path / form, spec, "llama", form, **stored)
        merge.write(job)
    exact, rounded = (load_file(tmp_path / form / "job" / "output" / "model.safetensors") for form in ExportFormat
                      if form.dtype)  # fmt: skip
    assert {tensor.dtype for tensor in exact.values()} == {torch.float32}
    for name, tensor in rounded.items():
        assert torch.equal(tensor, exact[name].bfloat16()), name
    base = load_file(tmp_path / ExportFormat.MERGED_BFLOAT16 / "base" / "model.safetensors")
    untrained = [name for name in rounded if "norm" in name or "embed" in name]
    assert untrained and all(torch.equal(rounded[name], base[name]) for name in untrained)


def test_an_export_has_what_transformers_needs_and_checksums_that_match(tmp_path: Path) -> None:
    job, _model = exported.run(tmp_path, LoraSpec(r=4), "llama", ExportFormat.MERGED_BFLOAT16)
    files = merge.write(job)
    folder = Path(job.job.output)
    assert {file.name for file in files} >= {"config.json", "generation_config.json", "tokenizer.json", CHECKSUMS}
    lines = dict(reversed(line.split("  ")) for line in (folder / CHECKSUMS).read_text().splitlines())
    assert lines.keys() == {file.name for file in files} - {CHECKSUMS}
    for name, digest in lines.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert model.dtype == torch.bfloat16
    assert str(tmp_path) not in (folder / "config.json").read_text()
    assert AutoTokenizer.from_pretrained(folder)("count from one")["input_ids"]


def test_an_adapter_is_copied_byte_for_byte(tmp_path: Path) -> None:
    job, _model = exported.run(tmp_path, LoraSpec(r=4), "bert", ExportFormat.ADAPTER)
    files = {file.name: file for file in merge.write(job)}
    weights = Path(job.weights) / "adapter_model.safetensors"
    assert files["adapter_model.safetensors"].sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    base = tried.model("bert")
    assert PeftModel.from_pretrained(base, job.job.output)


@pytest.mark.parametrize(
    ("spec", "file"),
    [(LoraSpec(r=4), "adapter_model.safetensors"), (HeadOnlySpec(), "selection.safetensors")],
    ids=["lora", "head-only"],
)
def test_a_saved_tensor_that_is_not_loaded_is_an_error(spec: MethodSpec, file: str, tmp_path: Path) -> None:
    job, _model = exported.run(tmp_path, spec, "bert", ExportFormat.MERGED_FLOAT32)
    weights = Path(job.weights) / file
    tensors = load_file(weights)
    save_file({**tensors, "nowhere.weight": torch.zeros(2)}, weights, metadata={"format": "pt"})
    with pytest.raises(RunFailed, match=r"nowhere\.weight of the run was not loaded"):
        merge.write(job)
