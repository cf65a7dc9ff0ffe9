"""Answers to requests of the Lab."""

from collections.abc import Mapping
from pathlib import Path

from app.domain.lab.computations import AttentionRequest, FreezingRequest, LabAnswer, LabRequest, MatricesRequest
from worker.engine.lab.attention import attention
from worker.engine.lab.equality import equality
from worker.engine.lab.freezing import freezing
from worker.engine.lab.matrices import matrices


def answer(request: LabRequest, files: Mapping[str, Path]) -> LabAnswer:
    """The answer; `files` are local copies of the request's files, by field. Raises `RunFailed`."""
    if isinstance(request, MatricesRequest):
        return matrices(request, files)
    if isinstance(request, AttentionRequest):
        return attention(request, files)
    if isinstance(request, FreezingRequest):
        return freezing(request, files)
    return equality(request)
