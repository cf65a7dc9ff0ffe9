"""Merged weights, and the check that finds corrupted ones."""

import hashlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.domain.comparison.fairness.export_gate import GateOutcome, gate
from app.domain.data.dataset import items_hash
from app.domain.failures import RunFailed
from app.domain.methods import HeadOnlySpec, LoraSpec, MethodSpec, PromptSpec, QloraSpec
from app.domain.models.exports import CHECKSUMS, ExportFormat, ExportJob, merged_bytes
from tests.support.rows import exported
from tests.unit.worker.engine import adapted as tried
from worker.engine.data.batches.batches import read
from worker.engine.models.architecture import describe
from worker.engine.tasks import TASKS
from worker.features.shipping.exporting import export, formats, merge
from worker.features.shipping.exporting.progress import growing, quiet
from worker.features.shipping.exporting.weights import check_weights

MERGEABLE = [(spec, name) for spec, name in tried.TRIES if spec.unmergeable is None and not isinstance(spec, QloraSpec)]


@pytest.mark.by_day
@tried.tries_on(MERGEABLE)
def test_a_merged_model_computes_what_the_run_does(spec: MethodSpec, name: str, tmp_path: Path) -> None:
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


Tensors = Mapping[str, torch.Tensor]
MATRIX = "bert.encoder.layer.1.attention.self.query.weight"


@pytest.mark.by_day
@tried.tries_on(MERGEABLE)
def test_every_tensor_of_a_merge_is_w_plus_its_change_rounded_once(spec: MethodSpec, name: str, tmp_path: Path) -> None:
    job, _model = exported.run(tmp_path, spec, name, ExportFormat.MERGED_FLOAT32, stored=torch.bfloat16)
    merge.write(job)
    found = check_weights(job)
    assert (found.wrong, found.largest_error <= 1) == ([], True)
    assert found.tensors == len(load_file(Path(job.job.output) / "model.safetensors"))


def corrupted(job: ExportJob, change: Callable[[Tensors, Tensors], Tensors]) -> None:
    """Write a merged export whose tensors are those of `change(exact, base)`."""
    merge.write(job)
    file = Path(job.job.output) / "model.safetensors"
    base = {f"bert.{k}": v.float() for k, v in load_file(Path(job.job.model_location) / "model.safetensors").items()}
    dtype = formats.DTYPES[job.format.dtype]
    exact = {k: v.detach() for k, v in merge.merged(job)[0].state_dict().items()}
    written = {k: v.to(dtype).contiguous() for k, v in change(exact, base).items()}
    save_file(written, file, metadata={"format": "pt"})


def without_scale(exact: Tensors, base: Tensors) -> Tensors:
    """ΔW without lora_alpha / r, which is 2 here."""
    return {k: base[k] + (v - base[k]) / 2 if k in base else v for k, v in exact.items()}


def one_matrix_missing(exact: Tensors, base: Tensors) -> Tensors:
    """One matrix as it was before."""
    return {**exact, MATRIX: base[MATRIX]}


def rounded_too_early(exact: Tensors, base: Tensors) -> Tensors:
    """W in bfloat16 before ΔW is added."""
    return {k: base[k].bfloat16().float() + (v - base[k]) if k in base else v for k, v in exact.items()}


def one_tensor_left_out(exact: Tensors, base: Tensors) -> Tensors:
    """A file without one matrix: transformers starts it from random numbers."""
    return {k: v for k, v in exact.items() if k != MATRIX}


@pytest.mark.by_day
@pytest.mark.parametrize("form", [ExportFormat.MERGED_FLOAT32, ExportFormat.MERGED_BFLOAT16])
@pytest.mark.parametrize("change", [without_scale, one_matrix_missing, rounded_too_early, one_tensor_left_out])
def test_a_corrupted_merge_is_caught(
    form: ExportFormat, change: Callable[[Tensors, Tensors], Tensors], tmp_path: Path
) -> None:
    job, _model = exported.run(tmp_path, LoraSpec(r=4, lora_alpha=8), "bert", form)
    corrupted(job, lambda exact, base: exact)
    right = export.check(job, quiet)
    assert right.weights is not None and right.weights.wrong == []
    corrupted(job, change)
    found = export.check(job, quiet)
    assert found.weights is not None and MATRIX in found.weights.wrong
    result = gate(right.scores, found, margin=1.0)
    assert result.outcome is GateOutcome.FAIL, "even where the margin lets every score pass"


@pytest.mark.by_day
@pytest.mark.parametrize("name", ["bert", "llama", "t5"])
@pytest.mark.parametrize("form", [form for form in ExportFormat if form.dtype or not form.merged])
def test_an_export_scores_as_the_run_did(form: ExportFormat, name: str, tmp_path: Path) -> None:
    job, model = exported.run(tmp_path, LoraSpec(r=4), name, form)
    job, scores = exported.predicted(job, model, tmp_path)
    merge.write(job)
    found = export.check(job, quiet)
    rows = read(job.job.dataset_file, job.job.dataset_format)["test"]
    assert found.items_hash == items_hash([row.item for row in rows])
    assert ("PEFT" if form is ExportFormat.ADAPTER else "transformers") in found.loaded_with
    if form is not ExportFormat.MERGED_BFLOAT16:
        np.testing.assert_allclose(found.scores, scores)
        assert (found.same, found.first_difference) == (len(rows), None)
    assert gate(scores, found, margin=0.3).outcome is not GateOutcome.FAIL


@pytest.mark.slow
def test_the_first_differing_token_of_generated_text_is_named(tmp_path: Path) -> None:
    job, model = exported.run(tmp_path, LoraSpec(r=4), "llama", ExportFormat.MERGED_FLOAT32)
    job, _scores = exported.predicted(job, model, tmp_path)
    merge.write(job)
    file = Path(job.job.output) / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = -tensors["lm_head.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    found = export.check(job, quiet)
    assert found.same == 0
    first = found.first_difference
    assert first is not None and first.token == 0 and first.run != first.export


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ("classifier", r"could not load the adapter \(KeyError: 'base_model\.model\.classifier"),
        ("layer.1.output.dense.lora_A", r"has no base_model\.model\.bert\.encoder\.layer\.1\.output\.dense\.lora_A"),
    ],
    ids=["head", "matrix"],
)
def test_a_part_that_the_adapter_lacks_is_noticed(part: str, why: str, tmp_path: Path) -> None:
    job, _model = exported.run(tmp_path, LoraSpec(r=4), "bert", ExportFormat.ADAPTER)
    merge.write(job)
    file = Path(job.job.output) / "adapter_model.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if part not in name}
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(RunFailed, match=why):
        export.check(job, quiet)


def test_virtual_tokens_are_checked_as_an_adapter(tmp_path: Path) -> None:
    job, model = exported.run(tmp_path, PromptSpec(num_virtual_tokens=4), "llama", ExportFormat.ADAPTER)
    job, scores = exported.predicted(job, model, tmp_path)
    merge.write(job)
    found = export.check(job, quiet)
    np.testing.assert_allclose(found.scores, scores)


class CharacterTokenizer:
    """A token is a character."""

    def __call__(self, text: str, **_options: object) -> dict[str, list[int]]:
        return {"input_ids": [ord(character) for character in text]}

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(token) for token in ids)


def test_a_nul_in_generated_text_can_be_stored() -> None:
    first = export._first("1", "a\0", "ab", CharacterTokenizer())  # type: ignore[arg-type]
    assert (first.token, first.run, first.export) == (1, "\N{REPLACEMENT CHARACTER}", "b")


def test_all_wrong_tensors_are_counted_and_the_first_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, _model = exported.run(tmp_path, LoraSpec(r=4), "bert", ExportFormat.MERGED_FLOAT32)
    corrupted(job, lambda exact, base: {name: tensor + 1 for name, tensor in exact.items()})
    monkeypatch.setattr(export, "MOST_NAMED", 2)
    found = export.check(job, quiet).weights
    assert found is not None
    assert (len(found.wrong), found.wrong_count) == (2, found.tensors)


def test_every_part_of_an_export_reports_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, _model = exported.run(tmp_path, LoraSpec(r=4), "bert", ExportFormat.MERGED_FLOAT32)
    shares: list[float] = []
    files = merge.write(job, shares.append)
    merges = [share for share in shares if share <= merge.MERGED]
    hashed = [share for share in shares if share > merge.SAVED]
    linear_layers = 2 * 6 + 1  # of two blocks, and the pooler
    assert (len(merges), len(hashed)) == (linear_layers, len(files) - 1), "each checksum but that of the sums"
    assert shares == sorted(shares) and shares[-1] == 1.0
    shares.clear()
    found = check_weights(job, shares.append)
    assert len(shares) == found.tensors and shares == sorted(shares)
    sizes: list[int] = []
    collate = export.TASKS[job.job.spec.task].collate

    def counted(examples: object, indices: list[int], pad: int) -> object:
        sizes.append(len(indices))
        return collate(examples, indices, pad)  # type: ignore[arg-type]

    monkeypatch.setattr(export.TASKS[job.job.spec.task], "collate", counted)
    export.check(job, quiet)
    assert sizes and max(sizes) <= export.BATCH_SIZE < job.job.spec.training.per_device_eval_batch_size


@pytest.mark.slow
def test_a_folder_that_grows_is_reported(tmp_path: Path) -> None:
    reported = threading.Event()
    shares: list[float] = []

    def report(share: float) -> None:
        shares.append(share)
        reported.set()

    with growing(tmp_path, 200, report):
        (tmp_path / "model.safetensors").write_bytes(b"0" * 100)
        assert reported.wait(60)
    assert shares[0] == 0.5
