"""Estimate requests and their answers with constant numbers, for tests that estimate nothing."""

from typing import Any

from app.domain.methods import FullSpec
from app.domain.resources.estimate import EstimateRequest, Lengths, MapCell, MapRequest, MemoryMap, ResourceEstimate
from app.domain.resources.ledger import Ledger, owners
from app.domain.resources.work import Work
from app.domain.runs.training import TrainingArguments

MIB = 2**20


def request(**update: Any) -> EstimateRequest:
    """Full fine-tuning of a tiny classifier on a CPU."""
    defaults: dict[str, Any] = {
        "location": "/nowhere",
        "task": "sequence-classification",
        "method": FullSpec(),
        "training": TrainingArguments(),
        "device": "cpu",
        "bf16": False,
    }
    return EstimateRequest.model_validate(defaults | update)


def ledger(total: int = 100 * MIB, rows: int = 16, length: int = 128) -> Ledger:
    """Half weights, half activations."""
    held = owners({"weights": total - total // 2, "activations": total // 2})
    return Ledger(kind="estimated", owners=held, moment="backward", rows=rows, length=length)


def work(flops: float) -> Work:
    """Of a small model, with these operations."""
    return Work(calls=flops / 1e7, bytes=flops / 20, flops=flops)


def estimate(peak: int = 100 * MIB, flops: int = 10**12) -> ResourceEstimate:
    """A resource estimate with this memory peak."""
    return ResourceEstimate(
        ledger=ledger(peak),
        phases={"load": peak // 4, "train": peak},
        lengths=Lengths(source="dataset", rows=24, longest=12, mean=8.0),
        step_flops=flops // 10,
        train_flops=flops,
        train_work=work(flops),
        steps=10,
        trainable=66,
        total=10_066,
        file_bytes=264 + 136,
        seconds=0.5,
    )


def memory_map(request_: MapRequest) -> MemoryMap:
    """A MiB for each token, twice as much for the first method."""
    cells = [
        MapCell(
            method=place,
            length=length,
            rows=rows,
            ledger=ledger(MIB * length * rows * (2 if place == 0 else 1), rows, length),
        )
        for place in range(len(request_.methods))
        for length in request_.lengths
        for rows in request_.batch_sizes
    ]
    return MemoryMap(cells=cells, seconds=0.5)
