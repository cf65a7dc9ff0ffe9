"""Answers to requests of the Lab."""

from collections.abc import Mapping
from pathlib import Path

from app.domain.lab.computations import LabAnswer, LabRequest
from worker.engine.lab.equality import equality


def answer(request: LabRequest, files: Mapping[str, Path]) -> LabAnswer:
    """The answer; `files` are local copies of the request's files, by field. Raises `RunFailed`."""
    return equality(request)
