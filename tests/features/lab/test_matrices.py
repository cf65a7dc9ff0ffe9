"""The Lab's low-rank approximations: of W, of what training added, and of a random matrix."""

import base64
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from app.domain.failures import RunFailed
from app.features.lab.computations import SIDE, MatricesRequest, stops
from tests.support.tiny import lm as tiny_lm
from worker.features.lab import matrices as module
from worker.features.lab.answer import answer

LAYER = "model.layers.1.self_attn.q_proj"


def test_each_matrix_is_decomposed_and_drawn(tmp_path: Path) -> None:
    model = tiny_lm.save_model(tmp_path, "llama")
    weights = load_file(model / "model.safetensors")
    before = weights[f"{LAYER}.weight"]
    change = torch.outer(torch.arange(32.0), torch.ones(32)) / 100
    save_file(weights | {f"{LAYER}.weight": before + change}, tmp_path / "after.safetensors")
    a, b = torch.randn(2, 32), torch.randn(32, 2)
    names = (f"base_model.model.{LAYER}.lora_{part}.weight" for part in "AB")
    save_file(dict(zip(names, (a, b), strict=True)), tmp_path / "adapter.safetensors")
    files = {"full_file": tmp_path / "after.safetensors", "lora_file": tmp_path / "adapter.safetensors"}
    asked = MatricesRequest(location=str(model), layer=LAYER, full_file="a", lora_file="b", lora_scale=2)
    assert asked.files == {"full_file": "a", "lora_file": "b"}
    found = answer(asked, files)
    assert found == answer(asked, files)
    assert list(found.of) == ["weight", "full", "lora", "random"] and found.ranks == [1, 2, 4, 8, 16, 32]
    for spectral in found.of.values():
        assert spectral.energy == sorted(spectral.energy) and spectral.energy[-1] == pytest.approx(1)
        assert spectral.values[0] == 1 and len(spectral.pictures) == len(found.ranks)
    assert found.of["full"].energy[0] == pytest.approx(1, abs=1e-5)  # an outer product has rank 1
    assert found.of["lora"].energy[1] == pytest.approx(1) and found.of["lora"].rank_90 <= 2
    assert found.of["lora"].norm == pytest.approx(float((2 * b @ a).norm()), rel=1e-5)
    assert found.of["weight"].norm == pytest.approx(float(before.norm()), rel=1e-5)
    whole = np.frombuffer(base64.b64decode(found.of["weight"].pictures[-1]), np.int8).reshape(SIDE, SIDE)
    scaled = 127 * before.numpy() / np.abs(before.numpy()).max()
    assert np.abs(whole - scaled).max() <= 0.51


def test_without_runs_there_is_no_update_and_a_large_layer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = MatricesRequest(location=str(tiny_lm.save_model(tmp_path, "gpt2")), layer="transformer.h.0.attn.c_attn")
    found = answer(asked, {})
    assert (list(found.of), found.rows, found.columns) == (["weight", "random"], 96, 32)
    monkeypatch.setattr(module, "MOST_SIDE", 64)
    with pytest.raises(RunFailed, match="Choose a layer of at most 64 rows and columns"):
        answer(asked, {})


@pytest.mark.parametrize(("side", "ranks"), [(1, [1]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])])
def test_the_slider_stops_at_powers_of_two_and_the_full_rank(side: int, ranks: list[int]) -> None:
    assert stops(side) == ranks
