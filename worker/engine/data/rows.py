"""Rows of a dataset on their way to token ids."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from app.domain.data.dataset import Row
from app.domain.data.turns import without_blanks
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import Message, _


def special_tokens(plain: Sequence[int], complete: Sequence[int]) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text, from its token ids without and with them."""
    for start in range(len(complete) - len(plain) + 1):
        if list(complete[start : start + len(plain)]) == list(plain):
            return list(complete[:start]), list(complete[start + len(plain) :])
    return [], []


def values_of(table: pa.Table | pa.RecordBatch, column: str) -> list[Any]:
    """The values of a dataset's column; None if its file was written before rows had this column."""
    if column not in table.schema.names:
        return [None] * table.num_rows
    values: list[Any] = table.column(column).to_pylist()
    return [turns and without_blanks(turns) for turns in values] if column == "messages" else values


def unusable(row: Row, problem: Message, remedy: Message) -> RunFailed:
    """The error for a row without anything to learn."""
    text = _(
        "Row %(item)s of the %(split)s split %(problem)s. %(remedy)s.",
        item=row.item,
        split=row.split,
        problem=problem,
        remedy=remedy,
    )
    return RunFailed(FailureCode.BAD_CONFIGURATION, text)
