"""Results as a trainer would report them, for tests that train nothing."""

import numpy as np

from app.domain.models.spectra import Spectrum
from app.domain.models.weight_delta import MatrixDelta, WeightDeltas
from app.domain.runs.clocks import Clocks
from app.domain.runs.result import (
    Audit,
    AuditGroup,
    Environment,
    Evaluation,
    Memory,
    Parameters,
    RunResult,
    StepMetrics,
)


def step(number: int, loss: float = 1.0) -> StepMetrics:
    """An optimizer step."""
    return StepMetrics(
        step=number,
        epoch=number / 10,
        loss=loss,
        learning_rate=1e-3,
        grad_norm=1.0,
        tokens=number * 100,
        seconds=number * 0.5,
        memory_bytes=1000,
    )


def evaluation(subject: str = "adapted", split: str = "test", accuracy: float = 0.75, n: int = 8) -> Evaluation:
    """An evaluation."""
    return Evaluation.model_validate(
        {
            "subject": subject,
            "split": split,
            "step": 0 if subject == "base" else 10,
            "epoch": 0 if subject == "base" else 1,
            "n": n,
            "loss": 0.5,
            "metric": "accuracy",
            "metrics": {"accuracy": accuracy, "macro_f1": accuracy},
        }
    )


def result(accuracy: float = 0.75) -> RunResult:
    """A succeeded attempt of ten steps."""
    return RunResult(
        steps=10,
        best_step=10,
        tokens=1000,
        parameters=Parameters(total=10_066, trainable=66),
        audit=Audit(passed=True, groups=[AuditGroup(name="frozen", tensors=3, parameters=10_000, changed=0)]),
        memory=Memory(
            device="cpu",
            before_bytes=1000,
            loaded_bytes=500,
            peak_bytes=900,
            train_peak_bytes=900,
            weights_bytes=400,
            gradients_bytes=100,
            optimizer_bytes=200,
        ),
        clocks=Clocks(forward=1.0, backward=2.0, optimizer=0.5, wall=5.0),
        evaluations=[evaluation("base", accuracy=0.25), evaluation("adapted", accuracy=accuracy)],
        environment=Environment(
            device="cpu", device_name="CPU", threads=2, precision="fp32", attention="sdpa", versions={"torch": "2"}
        ),
    )


def some_weight_deltas(rank: int = 8, blocks: int = 1, side: int = 384) -> WeightDeltas:
    """Weight updates of query and value in some blocks, of a method of that rank, with one left out."""
    whole = Spectrum.of(np.geomspace(8, 0.5, side))
    matrices = [
        MatrixDelta(
            name=f"bert.encoder.layer.{block}.attention.self.{part}",
            block=block,
            module=f"attention.self.{part}",
            rows=side,
            columns=side,
            norm_ratio=0.02 * (1 + block),
            delta=Spectrum.of(np.geomspace(1, 0.3 / (1 + block), rank)),
            weight=whole,
            top=10,
            intruders=block % 2,
        )
        for block in range(blocks)
        for part in ("query", "value")
    ]
    return WeightDeltas(matrices=matrices, late=1, budget_seconds=10, seconds=0.5)
