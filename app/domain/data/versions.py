"""Versions of datasets: a name stands for versions 1, 2, …; a spec names the newest or one of them.

preparing ──► ready      rows in a file, with facts and findings
    ├───────► blocked    findings that block; there is no file
    └───────► failed     a sentence
"""

import re
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.splitting import Splitting
from app.domain.validation import Line, Name

DatasetState = Literal["preparing", "ready", "blocked", "failed"]
DATASET_NAME = r"^[\w\-][\w.\-]*$"
_REFERENCE = re.compile(r"(?P<name>.+)@(?P<version>[1-9]\d{0,8})")


class DatasetRequest(BaseModel):
    """An upload to become a dataset, or the next version of one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(max_length=120, pattern=DATASET_NAME)
    """Letters, digits, dots, dashes and underscores."""
    title: Line = Field(default="", max_length=200)
    upload_id: int = Field(ge=1)
    mapping: ColumnMapping
    splitting: Splitting = Splitting()


class Reference(NamedTuple):
    """A dataset as a spec names it."""

    name: str
    version: int | None
    """None: the newest that is ready."""


def reference_in(text: str) -> Reference:
    """`NAME@2` is version 2 of NAME; anything else is a name."""
    match = _REFERENCE.fullmatch(text)
    return Reference(match["name"], int(match["version"])) if match else Reference(text, None)
