"""Test items with a run's answers, as its predictions file has them."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.domain.data.turns import as_text, last_reply, others, said
from app.domain.errors import Unavailable
from app.domain.messages import _

COLUMNS = ("item", "prompt", "completion", "messages", "tools", "prediction", "base_prediction", "cut")
ROWS_AT_ONCE = 256
"""Rows of the predictions file that are read at once."""
Item = dict[str, Any]
"""A row of the predictions file."""


def rows(file: Path, most: int) -> list[Item]:
    """The rows of a predictions file, or a sample of them; the others never become Python objects."""
    try:
        with pq.ParquetFile(file, pre_buffer=False) as stored:
            names = [name for name in stored.schema_arrow.names if name in COLUMNS]
            if not {"prediction", "base_prediction"} <= set(names):
                raise Unavailable(_("The run's predictions file has no generated texts."))
            number, found, start = stored.metadata.num_rows, [], 0
            chosen = set(range(number) if number <= most else random.Random(0).sample(range(number), most))
            for batch in stored.iter_batches(ROWS_AT_ONCE, columns=names):
                places = [place for place in range(batch.num_rows) if start + place in chosen]
                found += batch.take(pa.array(places, pa.int64())).to_pylist()
                start += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        raise Unavailable(_("The run's predictions file cannot be read.")) from error
    return found


def has_parts(item: Item) -> bool:
    """Whether a conversation has tools, calls, results or reasoning."""
    return bool(item.get("tools")) or any(others(turn).keys() - {"train"} for turn in item["messages"])


def reference_of(item: Item) -> str:
    """The completion that the test split has, or the assistant's last turn."""
    if "messages" not in item:
        return item["completion"] or ""
    turns = item["messages"]
    return said(turns[last_reply(turns) or 0])


def prompt_text(item: Item) -> str:
    """The prompt, or the turns before the assistant's last one, with their tools, calls and reasoning as JSON."""
    if "messages" not in item:
        return item["prompt"] or ""
    turns = item["messages"][: last_reply(item["messages"])]
    return as_text(turns, item.get("tools")) if has_parts(item) else "\n".join(map(said, turns))
