"""The gate's measurements: right exports are right to the last bit that rounding leaves, corrupted ones are caught."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from app.domain.comparison.fairness.export_gate import GateOutcome, gate
from app.domain.data.dataset import items_hash
from app.domain.failures import RunFailed
from app.domain.methods import LoraSpec, MethodSpec, PromptSpec
from app.domain.models.exports import ExportFormat, ExportJob
from tests.support.rows import exported
from tests.unit.worker.engine import adapted as tried
from tests.unit.worker.engine.exporting.test_merge import MERGEABLE
from worker.engine.data.batches.batches import read
from worker.engine.exporting import check, formats, merge
from worker.engine.exporting.progress import growing, quiet
from worker.engine.exporting.weights import check_weights

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
    right = check.check(job, quiet)
    assert right.weights is not None and right.weights.wrong == []
    corrupted(job, change)
    found = check.check(job, quiet)
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
    found = check.check(job, quiet)
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
    found = check.check(job, quiet)
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
        check.check(job, quiet)


def test_virtual_tokens_are_checked_as_an_adapter(tmp_path: Path) -> None:
    job, model = exported.run(tmp_path, PromptSpec(num_virtual_tokens=4), "llama", ExportFormat.ADAPTER)
    job, scores = exported.predicted(job, model, tmp_path)
    merge.write(job)
    found = check.check(job, quiet)
    np.testing.assert_allclose(found.scores, scores)


class CharacterTokenizer:
    """A token is a character."""

    def __call__(self, text: str, **_options: object) -> dict[str, list[int]]:
        return {"input_ids": [ord(character) for character in text]}

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(token) for token in ids)


def test_a_nul_in_generated_text_can_be_stored() -> None:
    first = check._first("1", "a\0", "ab", CharacterTokenizer())  # type: ignore[arg-type]
    assert (first.token, first.run, first.export) == (1, "\N{REPLACEMENT CHARACTER}", "b")


def test_all_wrong_tensors_are_counted_and_the_first_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, _model = exported.run(tmp_path, LoraSpec(r=4), "bert", ExportFormat.MERGED_FLOAT32)
    corrupted(job, lambda exact, base: {name: tensor + 1 for name, tensor in exact.items()})
    monkeypatch.setattr(check, "MOST_NAMED", 2)
    found = check.check(job, quiet).weights
    assert found is not None
    assert (len(found.wrong), found.wrong_count) == (2, found.tensors)


def test_every_part_of_an_export_reports_and_its_batches_are_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    collate = check.TASKS[job.job.spec.task].collate

    def counted(examples: object, indices: list[int], pad: int) -> object:
        sizes.append(len(indices))
        return collate(examples, indices, pad)  # type: ignore[arg-type]

    monkeypatch.setattr(check.TASKS[job.job.spec.task], "collate", counted)
    check.check(job, quiet)
    assert sizes and max(sizes) <= check.BATCH_SIZE < job.job.spec.training.per_device_eval_batch_size


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
