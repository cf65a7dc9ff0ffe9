"""The memory of loading, estimated from the dtype of a model's files and measured on a process that loads it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertModel

from app.domain.methods import FullSpec, LoraSpec, MethodSpec
from tests.support.tiny import texts as tiny
from tests.unit.worker.engine.estimation.test_estimate import CONFIG, TWO_STEPS, pasted, request_of
from worker.children.environment import ML_ENVIRONMENT
from worker.engine.estimation.estimate import estimate_run
from worker.engine.models.weights import stored_dtype

MIB = 2**20
LOAD = """
import sys, torch
from worker.engine.device.environment import prepare
from worker.engine.memory.measured import MemoryMeter
from worker.engine.models.load import load
from worker.engine.models.precision import settle
prepare(1)
meter = MemoryMeter(torch.device("cpu"))
meter.begin()
model = load(sys.argv[1], "", "sequence-classification", ["a", "b"], 0).model
settle(model, [], torch.device("cpu"), bf16=False)
print(meter.peak())
"""


def saved(folder: Path, dtype: torch.dtype, **changes: object) -> Path:
    """A base model whose file has a type."""
    torch.manual_seed(0)
    BertModel(tiny.config(**changes)).to(dtype).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def load_phase(base: Path, folder: Path, spec: MethodSpec, *, bf16: bool, device: str = "cpu") -> tuple[int, int]:
    """Estimated bytes of the phase, and parameters of the model."""
    job = tiny.job(folder, base, spec, TWO_STEPS.model_copy(update={"bf16": bf16}))
    found = estimate_run(request_of(job, device=device), None)
    return found.phases["load"], found.total


@pytest.mark.by_day
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.nightly)])
@pytest.mark.parametrize(
    ("spec", "bf16", "least", "most"),
    [
        (FullSpec(), False, 4, 4.1),
        (FullSpec(), True, 4, 4.1),
        (LoraSpec(r=2), False, 4, 4.6),
        (LoraSpec(r=2), True, 2, 3),
    ],
    ids=["full-fp32", "full-bf16", "lora-fp32", "lora-bf16"],
)
def test_loading_takes_the_bytes_that_the_model_trains_in(
    spec: MethodSpec, bf16: bool, least: float, most: float, device: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    base = saved(tmp_path / "model", dtype)
    found, parameters = load_phase(base, tmp_path / "run", spec, bf16=bf16, device=device)
    assert least * parameters <= found < most * parameters


@pytest.mark.slow
def test_the_peak_of_a_lora_on_a_stored_bfloat16_is_not_in_loading(tmp_path: Path) -> None:
    base = saved(tmp_path / "model", torch.bfloat16, vocab_size=20_000)
    job = tiny.job(tmp_path / "run", base, LoraSpec(r=2), TWO_STEPS.model_copy(update={"bf16": True}))
    assert estimate_run(request_of(job), None).phase != "load"


@pytest.mark.slow
def test_where_there_are_no_files_the_configuration_says() -> None:
    said = {
        dtype: estimate_run(pasted(CONFIG | {"dtype": dtype}, method=LoraSpec(), bf16=True), None)
        for dtype in ("float32", "bfloat16")
    }
    assert said["bfloat16"].phases["load"] < said["float32"].phases["load"] < 1.1 * said["bfloat16"].phases["load"]


@pytest.mark.parametrize(
    ("dtypes", "loaded"),
    [
        ([torch.bfloat16, torch.bfloat16, torch.int64], torch.bfloat16),
        ([torch.bfloat16, torch.float32], torch.float32),
        ([torch.bfloat16, torch.float16], torch.float32),
        ([torch.float64], torch.float32),
        ([torch.int64], torch.float16),
    ],
)
def test_a_directory_is_loaded_in_the_dtype_that_rounds_no_weight(
    dtypes: list[torch.dtype], loaded: torch.dtype, tmp_path: Path
) -> None:
    tensors = {f"t{i}": torch.zeros(3, dtype=dtype) for i, dtype in enumerate(dtypes)}
    save_file(tensors, tmp_path / "model.safetensors")
    assert stored_dtype(tmp_path, torch.float16) is loaded


def test_only_the_files_of_the_index_count(tmp_path: Path) -> None:
    for name, dtype in (("model-1", torch.float16), ("model-2", torch.float16), ("adapter", torch.float32)):
        save_file({name: torch.zeros(5, dtype=dtype)}, tmp_path / f"{name}.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert stored_dtype(tmp_path) is torch.float16


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x08\0\0\0\0\0\0\0[1, 2] ", b'\x09\0\0\0\0\0\0\0{"a": 1} '])
def test_a_file_that_is_none_leaves_it_to_the_configuration(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert stored_dtype(tmp_path, torch.bfloat16) is torch.bfloat16
    assert stored_dtype(tmp_path) is torch.float32


@pytest.mark.nightly
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_process_that_loads_holds_what_was_estimated(tmp_path: Path) -> None:
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 8}
    base = saved(tmp_path / "model", torch.bfloat16, **sizes, vocab_size=20_000)
    found, _ = load_phase(base, tmp_path / "run", LoraSpec(r=2), bf16=False)
    said = subprocess.run(
        [sys.executable, "-c", LOAD, str(base)],
        env=os.environ | ML_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    measured = int(said.stdout.split()[-1])
    assert found > 110 * MIB
    assert 0 <= measured - found < 24 * MIB  # threads, and what libraries bring when they are first used
