"""Low-rank approximations of a layer's W, of what training added to it, and of a random matrix.

    M [out, in] = Σ σᵢ·uᵢ·vᵢᵀ        M_r: the first r terms, the best approximation of rank r (Eckart & Young 1936)

A picture is the first `SIDE` rows and columns of M_r, one signed byte a value: 127 stands for the largest value of M
there, and the ranks of one matrix share that scale.
"""

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from transformers import AutoModel
from transformers.pytorch_utils import Conv1D

from app.domain.messages import _
from app.domain.models.spectra import Spectrum, energy_kept
from app.features.lab.computations import MOST_SIDE, SIDE, Matrices, MatricesRequest, MatrixOf, Spectral, stops
from worker.engine.baselines.small_model import impossible, load_small
from worker.features.lab.layers import linear_layer

SEED = 0
Matrix = NDArray[np.float32]


def matrices(request: MatricesRequest, files: Mapping[str, Path]) -> Matrices:
    """Decompose them. Raises `RunFailed` for a layer that the model lacks, or that is too large."""
    _tokenizer, model = load_small(request, AutoModel)
    layer = linear_layer(model, request.layer)
    weight = layer.weight.detach().float()
    before = (weight.T if isinstance(layer, Conv1D) else weight).numpy()
    if max(before.shape) > MOST_SIDE:
        size = " × ".join(map(str, before.shape))
        text = _(
            "The matrix is %(size)s. Choose a layer of at most %(most)s rows and columns.", size=size, most=MOST_SIDE
        )
        raise impossible(text)
    ranks = stops(min(before.shape))
    parts = dict(_parts(request, files, before, isinstance(layer, Conv1D)))
    return Matrices(
        rows=before.shape[0],
        columns=before.shape[1],
        ranks=ranks,
        of={source: _spectral(matrix, ranks) for source, matrix in parts.items()},
    )


def _parts(
    request: MatricesRequest, files: Mapping[str, Path], before: Matrix, transposed: bool
) -> Iterator[tuple[MatrixOf, Matrix]]:
    yield "weight", before
    if "full_file" in files:
        with safe_open(str(files["full_file"]), "pt") as stored:
            after = stored.get_tensor(f"{request.layer}.weight").float().numpy()
        yield "full", (after.T if transposed else after) - before
    if "lora_file" in files:
        with safe_open(str(files["lora_file"]), "pt") as stored:
            a, b = (stored.get_tensor(f"base_model.model.{request.layer}.lora_{part}.weight").double() for part in "AB")
        yield "lora", (request.lora_scale * (b @ a)).float().numpy()
    random = np.random.default_rng(SEED).standard_normal(before.shape, dtype=np.float32)
    yield "random", random


def _spectral(matrix: Matrix, ranks: list[int]) -> Spectral:
    u, values, vt = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    kept = energy_kept(values)
    corner = matrix[:SIDE, :SIDE]
    largest = float(np.abs(corner).max()) or 1.0

    def picture(rank: int) -> str:
        near = (u[:SIDE, :rank] * values[:rank]) @ vt[:rank, :SIDE]
        return base64.b64encode(np.clip(np.round(127 * near / largest), -127, 127).astype(np.int8).tobytes()).decode()

    spectrum = Spectrum.of(values)
    return Spectral(
        norm=spectrum.norm,
        effective_rank=spectrum.effective_rank,
        rank_90=spectrum.rank_90,
        energy=[float(kept[rank - 1]) for rank in ranks],
        value_ranks=spectrum.value_ranks,
        values=[value / (spectrum.values[0] or 1.0) for value in spectrum.values],
        pictures=[picture(rank) for rank in ranks],
    )
