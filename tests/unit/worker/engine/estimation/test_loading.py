"""The memory of loading, estimated from the headers of a model's files and measured on a process that loads it."""

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
from tests import tiny
from tests.unit.worker.engine.estimation.test_estimate import CONFIG, TWO_STEPS, pasted, request_of
from worker.children.environment import ML_ENVIRONMENT
from worker.engine.estimation.estimate import estimate_run
from worker.engine.estimation.loading import Stored, loading_bytes, stored

MIB = 2**20
LOAD = """
import sys, torch
from worker.engine.environment import prepare
from worker.engine.memory.measured import MemoryMeter
from worker.engine.models.load import load
prepare(1)
meter = MemoryMeter(torch.device("cpu"))
meter.begin()
load(sys.argv[1], "", "sequence-classification", ["a", "b"], 0)
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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("spec", [FullSpec(), LoraSpec(r=2)], ids=["full", "lora"])
def test_another_type_is_converted_beside_its_file(
    spec: MethodSpec, bf16: bool, dtype: torch.dtype, tmp_path: Path
) -> None:
    base = saved(tmp_path / "model", dtype)
    found, parameters = load_phase(base, tmp_path / "run", spec, bf16=bf16)
    assert found == pytest.approx(6 * parameters, rel=0.02)


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_float32_stays_in_its_file(bf16: bool, tmp_path: Path) -> None:
    base = saved(tmp_path / "model", torch.float32)
    found, parameters = load_phase(base, tmp_path / "run", LoraSpec(r=2), bf16=bf16)
    assert (2 if bf16 else 4) * parameters <= found < (3 if bf16 else 4.6) * parameters


def test_on_a_card_a_model_takes_what_it_is_held_in(tmp_path: Path) -> None:
    base = saved(tmp_path / "model", torch.bfloat16)
    on_card, parameters = load_phase(base, tmp_path / "run", LoraSpec(r=2), bf16=True, device="cuda")
    assert on_card < 3 * parameters


def test_the_peak_of_a_lora_on_a_stored_bfloat16_is_in_loading(tmp_path: Path) -> None:
    base = saved(tmp_path / "model", torch.bfloat16, vocab_size=20_000)
    job = tiny.job(tmp_path / "run", base, LoraSpec(r=2), TWO_STEPS.model_copy(update={"bf16": True}))
    assert estimate_run(request_of(job), None).phase == "load"


def test_where_there_are_no_files_the_configuration_says() -> None:
    said = {dtype: estimate_run(pasted(CONFIG | {"dtype": dtype}), None) for dtype in ("float32", "bfloat16")}
    whole = 4 * said["float32"].total
    assert said["float32"].phases["load"] == pytest.approx(whole, rel=0.01)
    assert said["bfloat16"].phases["load"] == pytest.approx(1.5 * whole, rel=0.01)
    assert said["bfloat16"].ledger == said["float32"].ledger


def test_files_of_several_types_are_counted_by_type(tmp_path: Path) -> None:
    save_file(
        {
            "a": torch.zeros(10),
            "b": torch.zeros(6, dtype=torch.bfloat16),
            "c": torch.zeros(3, dtype=torch.float64),
            "ids": torch.zeros(7, dtype=torch.int64),
        },
        tmp_path / "model.safetensors",
    )
    found = stored(tmp_path, torch.bfloat16, 1000)
    assert found == Stored(mapped_bytes=40, converted_bytes=12 + 24, converted_numbers=9)
    assert loading_bytes(found, float32=76, final=60, packed=0, rounded=True) == 4 * 9 + 36


def test_only_the_files_of_the_index_count(tmp_path: Path) -> None:
    for name in ("model-1.safetensors", "model-2.safetensors", "adapter.safetensors"):
        save_file({name: torch.zeros(5, dtype=torch.float16)}, tmp_path / name)
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert stored(tmp_path, None, 0).converted_bytes == 20


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x08\0\0\0\0\0\0\0[1, 2] ", b'\x09\0\0\0\0\0\0\0{"a": 1} '])
def test_a_file_that_is_none_leaves_it_to_the_configuration(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert stored(tmp_path, torch.bfloat16, 50) == Stored(0, 100, 50)
    assert stored(tmp_path, None, 50) == Stored(200, 0, 0)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_process_that_loads_holds_what_was_estimated(tmp_path: Path) -> None:
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 8}
    base = saved(tmp_path / "model", torch.bfloat16, **sizes, vocab_size=20_000)
    found, _ = load_phase(base, tmp_path / "run", LoraSpec(r=2), bf16=True)
    said = subprocess.run(
        [sys.executable, "-c", LOAD, str(base)],
        env=os.environ | ML_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    measured = int(said.stdout.split()[-1])
    assert found > 150 * MIB
    assert 0 <= measured - found < 24 * MIB  # threads, and what libraries bring when they are first used
