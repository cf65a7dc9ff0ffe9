"""Parts of conversations that Vezna does not read: tools, reasoning, weights of turns, columns beside them."""

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from app.domain.data.mapping import ColumnMapping
from app.domain.tasks import Format
from worker.ingest.readers.batches import Batch, Value

CHATS: tuple[Format, ...] = ("messages", "preference-messages")
_READ = {"role", "content", "from", "value"}
_MEANING = {
    *("tool_calls", "function_call", "tool_call_id", "tools", "functions"),
    *("reasoning_content", "reasoning", "thinking"),
}
"""Fields of a turn without which the model would learn something else."""
_SHARES = ("weight", "train", "loss")
"""Fields by which an assistant's turn counts in the loss: 1 or true, as Vezna trains it, or something else."""
_TOOL_ROLES = {"tool", "function", "observation", "function_call", "tool_call", "tool_response", "ipython"}
_ANSWERS = {"assistant", "gpt", "bot", "model", "chatgpt"}
_COLUMNS: dict[Format, tuple[str, ...]] = {
    "messages": ("system", "system_prompt", "tools", "functions", "history"),
    "prompt-completion": ("system", "system_prompt", "history"),
}
"""Columns beside the conversation that are part of it, by format."""


class Unread(NamedTuple):
    """Something that is not read."""

    field: str
    """The field, the role of the turn, or the column."""
    changes_meaning: bool


def unread(batch: Batch, mapping: ColumnMapping) -> Iterator[Unread | None]:
    """For each row its first field that is not read, those that change the meaning before others."""
    mapped = [name for role, name in mapping.columns.items() if role != "group" and name in batch.columns]
    beside = [name for name in _COLUMNS.get(mapping.format, ()) if name in batch.columns and name not in mapped]
    for place in range(len(batch.rows)):
        found = [Unread(name, True) for name in beside if _holds(batch.columns[name][place])]
        if mapping.format in CHATS:
            found += [field for name in mapped for field in _of_turns(batch.columns[name][place])]
        yield min(found, key=lambda field: not field.changes_meaning, default=None)


def _of_turns(value: Value) -> Iterator[Unread]:
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return
    if isinstance(value, dict):  # OpenAI's `input`
        value = value.get("messages")
    for turn in value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else ():
        if isinstance(turn, dict):
            yield from _of_turn(turn)


def _of_turn(turn: dict[str, Value]) -> Iterator[Unread]:
    role = turn.get("role", turn.get("from"))
    if not isinstance(role, str):  # `broken-messages` names it
        return
    if role in _TOOL_ROLES:
        yield Unread(str(role), True)
    for field, value in turn.items():
        if field in _READ or not _holds(value):
            continue
        if field in _SHARES:
            if role in _ANSWERS and value != 1:
                yield Unread(field, True)
        else:
            yield Unread(field, field in _MEANING)


def _holds(value: Value) -> bool:
    """Whether a field says anything; Parquet has empty values where a turn lacks the field, and JSON may be a text."""
    return value is not None and value not in ("", [], {}) and (not isinstance(value, str) or _says(value))


def _says(text: str) -> bool:
    return text.strip() not in ("", "[]", "{}", "null")
