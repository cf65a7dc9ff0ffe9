"""Answers to requests of the Lab."""

from collections.abc import Mapping
from pathlib import Path

from app.features.lab.computations import AttentionRequest, FreezingRequest, LabAnswer, LabRequest, MatricesRequest
from worker.features.lab.attention import attention
from worker.features.lab.equality import equality
from worker.features.lab.freezing import freezing
from worker.features.lab.matrices import matrices


def answer(request: LabRequest, files: Mapping[str, Path]) -> LabAnswer:
    """The answer; `files` are local copies of the request's files, by field. Raises `RunFailed`."""
    if isinstance(request, MatricesRequest):
        return matrices(request, files)
    if isinstance(request, AttentionRequest):
        return attention(request, files)
    if isinstance(request, FreezingRequest):
        return freezing(request, files)
    return equality(request)
