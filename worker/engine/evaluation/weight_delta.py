"""Weight delta: the singular values of ΔW beside those of W, and the intruder dimensions of W + ΔW.

    W_after = W_before + ΔW      all [out, in],  n = min(out, in)

    σ(ΔW)     of a product B·A, B [out, r], A [r, in]: with B = Q_B·R_B and Aᵀ = Q_A·R_A (QR), Q's columns orthonormal,
              σ(B·A) = σ(R_B·R_Aᵀ), an r × r matrix. Exact, at r²·(out + in) instead of n²·max(out, in).
              Otherwise from the Gram matrix of the smaller side: σᵢ² are the eigenvalues of M·Mᵀ or Mᵀ·M, [n, n].
              In float64 σᵢ has an error of about 1e-16·σ₁²/σᵢ: small ones lose half of their digits, while the
              energy σᵢ² keeps all that matter.
    σ(W)      the same, with singular vectors.
    intruders (Shuttleworth et al. 2024, arXiv 2410.21228): for each of the first k left singular vectors u' of W_after,
              the largest |cosine| with any left singular vector of W_before. With W_before = U·Σ·Vᵀ it is the largest
              entry of |Uᵀ·u'|, and where only V is known Uᵀ·u' = Σ⁻¹·Vᵀ·W_beforeᵀ·u'. Below ε, u' is an intruder.

`app.domain.models.spectra` derives the effective rank and the energy from the singular values. One matrix at a time is
on the device, in float64. The analysis runs after everything else, so no other number of the run depends on it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import nn

from app.domain.errors import first_line
from app.domain.models.architecture import LinearFacts, TaskModel
from app.domain.models.spectra import Spectrum
from app.domain.models.weight_delta import EPSILON, TOP, MatrixDelta, WeightDeltas, spread_order
from app.domain.runs.job import TrainJob
from app.domain.runs.result import Memory
from worker.engine.evaluation.change import Change, Product
from worker.engine.loop.progress import Instruments, Stopped
from worker.engine.memory.measured import tensor_bytes
from worker.engine.methods import MECHANISMS
from worker.engine.models.load import load
from worker.engine.models.weights import MappedFiles

SHARE_OF_TRAINING = 0.1
"""Share of the train clock that the analysis may take, where that is more than its fixed budget."""
MOST_SECONDS = 300.0
"""Upper limit of that share: the analysis reports nothing, and the supervisor kills a silent trainer as stalled."""
FREE_BYTES = 64 * 2**20
"""The analysis may use the memory between the run's peak and its present use, and at least this much."""
_CPU_RATE, _CUDA_RATE = 1e10, 2e11
"""Operations a second assumed for the first matrix; later ones use the measured rate."""
ONE_THREAD = 1024
"""On a CPU one thread decomposes Gram matrices up to this size. LAPACK's threads wait for each other in every column:
on two idle cores two of them took 44 instead of 50 ms at n = 384, and 320 instead of 540 ms at 768; with another
process on one of the cores, such as the start of the next trainer, 1,000 instead of 130 ms, and 6,500 instead of
1,240 ms."""
_NONE = 1e-7
"""Directions of W_before with less than this share of σ₁ are rounding errors."""


@torch.no_grad()
def analyse(model: TaskModel, layer: LinearFacts, change: Change) -> MatrixDelta:
    """Analyse one matrix. Raises ValueError if a number in it is not finite, or if W_before is zero."""
    before, dense = change.before, change.dense
    if not (torch.isfinite(before).all() and torch.isfinite(dense).all()):
        raise ValueError("it contains non-finite numbers")
    norm = float(torch.linalg.matrix_norm(before))
    if norm == 0:
        raise ValueError("it was zero before training")
    weights, vectors = eigen(before)
    thin = isinstance(change.delta, Product) and change.delta.a.shape[0] < min(dense.shape)
    values = product_values(change.delta) if thin and isinstance(change.delta, Product) else dense_values(dense)
    top = min(TOP, *dense.shape)
    similarities = cosines(before, weights, vectors, before + dense, top)
    delta = Spectrum.of(values.cpu().numpy())
    block = model.block_of(layer.name)
    return MatrixDelta(
        name=layer.name,
        block=block,
        module=layer.name.removeprefix(
            f"{model.blocks[block]}." if block is not None else f"{layer.name.split('.')[0]}."
        ),
        rows=layer.out_features,
        columns=layer.in_features,
        norm_ratio=delta.norm / norm,
        delta=delta,
        weight=Spectrum.of(weights.cpu().numpy()),
        top=top,
        intruders=int((similarities < EPSILON).sum()),
    )


def product_values(product: Product) -> torch.Tensor:
    """Singular values of B·A, [r], in descending order."""
    _, r_b = torch.linalg.qr(product.b)
    _, r_a = torch.linalg.qr(product.a.T)
    values: torch.Tensor = torch.linalg.svdvals(r_b @ r_a.T)
    return values


def dense_values(matrix: torch.Tensor) -> torch.Tensor:
    """Singular values of a matrix, [n], in descending order."""
    gram = _gram(matrix)
    with _few_threads(gram):
        squares: torch.Tensor = torch.linalg.eigvalsh(gram)
    return squares.clamp_min(0).sqrt().flip(0)


def eigen(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Singular values [n] in descending order, and the singular vectors of the smaller side as columns, [n, n]."""
    gram = _gram(matrix)
    with _few_threads(gram):
        squares, vectors = torch.linalg.eigh(gram)
    return squares.clamp_min(0).sqrt().flip(0), vectors.flip(1)


def cosines(
    before: torch.Tensor, values: torch.Tensor, vectors: torch.Tensor, after: torch.Tensor, top: int
) -> torch.Tensor:
    """For each of the first `top` left singular vectors of `after`, the largest |cosine| with any of `before`'s, [top].

    `values` and `vectors` are `before`'s, as `eigen` returns them. If `after` has fewer than `top` directions, the
    missing ones count as matched.
    """
    new_values, new_vectors = eigen(after)
    significant = new_values[:top] > _NONE * new_values[0]
    if before.shape[0] <= before.shape[1]:  # the vectors are left singular vectors
        similarities = (vectors.T @ new_vectors[:, :top]).abs()
    else:
        left = after @ new_vectors[:, :top] / new_values[:top].clamp_min(torch.finfo(after.dtype).tiny)
        similarities = (vectors.T @ (before.T @ left)).abs() / values[:, None].clamp_min(torch.finfo(after.dtype).tiny)
    similarities = similarities[values > _NONE * values[0]]
    return torch.where(significant, similarities.amax(dim=0), 1.0)


def _gram(matrix: torch.Tensor) -> torch.Tensor:
    """The Gram matrix of the smaller side, [n, n]."""
    return matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix


@contextmanager
def _few_threads(gram: torch.Tensor) -> Iterator[None]:
    """One thread, for a small matrix on the CPU."""
    before = torch.get_num_threads()
    if gram.device.type == "cpu" and len(gram) <= ONE_THREAD:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def budget(minimum: float, train_seconds: float) -> float:
    """Seconds that the analysis may take."""
    return max(minimum, min(SHARE_OF_TRAINING * train_seconds, MOST_SECONDS))


def work(layer: LinearFacts) -> float:
    """Approximate operations for one matrix: three Gram matrices and three eigendecompositions."""
    small, large = sorted((layer.in_features, layer.out_features))
    return 6.0 * small**2 * large + 30.0 * small**3


def needed_bytes(layer: LinearFacts) -> int:
    """Approximate memory for one matrix: W, ΔW, W_after and one more of their size, and Gram matrices with vectors, in
    float64."""
    small, large = sorted((layer.in_features, layer.out_features))
    return 8 * (5 * small * large + 6 * small**2)


@dataclass
class Analysis:
    """Analyses the matrices of a run, within its time and memory budget."""

    model: TaskModel
    change: Callable[[LinearFacts], Change]
    budget_seconds: float
    free_bytes: int
    """Bytes that one matrix may take."""
    device: torch.device
    raise_if_stopped: Callable[[], None]
    _rate: float = field(init=False)

    def run(self, layers: Sequence[LinearFacts]) -> WeightDeltas:
        """Analyse the matrices one by one, starting with some spread evenly over the model. An error in one is recorded
        and does not stop the others; a stop request ends the analysis early."""
        self._rate = _CUDA_RATE if self.device.type == "cuda" else _CPU_RATE
        began = time.perf_counter()
        matrices: dict[int, MatrixDelta] = {}
        late, large, broken = 0, 0, []
        for place in spread_order(len(layers)):
            layer = layers[place]
            if needed_bytes(layer) > self.free_bytes:
                large += 1
            elif self._stopped() or time.perf_counter() - began + work(layer) / self._rate > self.budget_seconds:
                late += 1
            else:
                try:
                    matrices[place] = self._analyse(layer)
                except (ValueError, RuntimeError) as error:  # torch raises it for decompositions that do not converge
                    broken.append(f"{layer.name}: {first_line(error)}.")
        return WeightDeltas(
            matrices=[matrices[place] for place in sorted(matrices)],
            late=late,
            large=large,
            broken=broken,
            budget_seconds=self.budget_seconds,
            seconds=time.perf_counter() - began,
        )

    def _analyse(self, layer: LinearFacts) -> MatrixDelta:
        began = time.perf_counter()
        delta = analyse(self.model, layer, self.change(layer))
        self._rate = work(layer) / max(time.perf_counter() - began, 1e-9)
        return delta

    def _stopped(self) -> bool:
        try:
            self.raise_if_stopped()
        except Stopped:
            return True
        return False


class BaseModelCopy:
    """A second copy of the base model, for the weight delta of full fine-tuning: loaded on first use, from the same
    files and with the same new head."""

    def __init__(self, job: TrainJob, loaded: nn.Module) -> None:
        """`loaded`: the base model as it was just loaded. Weights mapped from their file take memory only where they
        are read."""
        self._job = job
        files = MappedFiles()
        self.loaded_bytes = tensor_bytes(p for p in loaded.parameters() if not files.hold(p))
        """Bytes of the copy beside the mapped pages: the head, or everything if the file has another dtype."""

    @cached_property
    def model(self) -> nn.Module:
        """The base model, in float32 on the CPU, in evaluation mode."""
        job = self._job
        return load(job.model_location, job.model_revision, job.spec.task, job.labels, job.spec.training.seed).model


def report_weight_deltas(
    job: TrainJob,
    model: nn.Module,
    facts: TaskModel,
    base: BaseModelCopy,
    measured: Memory,
    device: torch.device,
    instruments: Instruments,
) -> None:
    """Analyse the weight delta of each matrix, unless the run is a trial. An error is only logged, because the result
    is complete by now."""
    method, mechanism, sink = job.spec.method, MECHANISMS[job.spec.method.mechanism], instruments.sink
    if job.trial or not job.weight_delta_seconds:
        return
    if method.unchanged:
        sink.weight_deltas(WeightDeltas(unchanged=method.unchanged))
        return
    free = max(FREE_BYTES, measured.peak_bytes - instruments.memory.used())
    if method.mechanism == "selection" and device.type == "cpu":
        free -= base.loaded_bytes
    analysis = Analysis(
        model=facts,
        change=lambda layer: mechanism.change(model, method, layer, lambda: base.model),
        budget_seconds=budget(job.weight_delta_seconds, instruments.clocks.train_seconds),
        free_bytes=free,
        device=device,
        raise_if_stopped=sink.raise_if_stopped,
    )
    try:
        sink.weight_deltas(analysis.run(method.changed_layers(facts)))
    except Exception as error:
        sink.log(f"The weight deltas could not be analysed: {type(error).__name__}: {first_line(error)}.")
