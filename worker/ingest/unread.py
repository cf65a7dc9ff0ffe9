"""Parts of conversations that Vezna does not read, so that none is dropped in silence."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from app.domain.data.dataset import CHATS
from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.turns import ASSISTANT
from app.domain.tasks import Format
from worker.ingest.readers.batches import Batch, Value
from worker.ingest.rows.turns import CALLING, REASONING, SHARES, TOOL, calls_of, parsed, role_of, says, tools_of

SYSTEM = ("system", "system_prompt")
TOOLS = ("tools", "functions")
HISTORY = ("history",)
_READ = {"role", "content", "from", "value"}
_CALLS = ("tool_calls", "function_call")
_MEANING = {*_CALLS, *REASONING, *SHARES, "tool_call_id", *TOOLS}
"""Fields of a turn without which the model would learn something else."""
_COLUMNS: dict[Format, tuple[str, ...]] = {
    "messages": (*SYSTEM, *TOOLS, *HISTORY),
    "preference-messages": (*SYSTEM, *TOOLS),
    "prompt-completion": (*SYSTEM, *HISTORY),
}
"""Columns beside the conversation that are part of it, by format."""


class Unread(NamedTuple):
    field: str
    """The field, or the column."""
    changes_meaning: bool


def beside(batch: Batch, mapping: ColumnMapping, names: Sequence[str]) -> list[Value]:
    """The first value for each row of columns with these names that have no role in the mapping; None without one."""
    columns = [batch.columns[name] for name in _unmapped(batch, mapping, names)]
    return [
        next((column[place] for column in columns if says(column[place])), None) for place in range(len(batch.rows))
    ]


def unread(batch: Batch, mapping: ColumnMapping) -> Iterator[Unread | None]:
    """For each row its first field that is not read, those that change the meaning before others."""
    mapped = [name for role, name in mapping.columns.items() if role != "group" and name in batch.columns]
    own = _unmapped(batch, mapping, _COLUMNS.get(mapping.format, ()))
    for place in range(len(batch.rows)):
        found = [Unread(name, True) for name in own if not _is_read(name, batch.columns[name][place], mapping)]
        if mapping.format in CHATS:
            found += [field for name in mapped for field in _of_turns(batch.columns[name][place])]
        yield min(found, key=lambda field: not field.changes_meaning, default=None)


def _unmapped(batch: Batch, mapping: ColumnMapping, names: Sequence[str]) -> list[str]:
    taken = {name for role, name in mapping.columns.items() if role != "group"}
    return [name for name in names if name in batch.columns and name not in taken]


def _is_read(column: str, value: Value, mapping: ColumnMapping) -> bool:
    """Whether a value beside the conversation says nothing, or becomes part of it."""
    if not says(value):
        return True
    if mapping.format not in CHATS:  # a plain prompt has no place for it
        return False
    if column in SYSTEM:
        return isinstance(value, str)
    return bool(tools_of(value)) if column in TOOLS else "completion" in mapping.columns  # earlier turns of a prompt


def _of_turns(value: Value) -> Iterator[Unread]:
    value = parsed(value) if isinstance(value, str) and value.lstrip().startswith(("[", "{")) else value
    if isinstance(value, dict):  # OpenAI's `input`
        if tools_of(value.get("tools")) is None:
            yield Unread("tools", True)
        value = value.get("messages")
    for turn in value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else ():
        if isinstance(turn, dict):
            yield from _of_turn(turn)


def _of_turn(turn: dict[str, Value]) -> Iterator[Unread]:
    if (role := role_of(turn)) is None:  # `broken-messages` names it
        return
    written = turn.get("role", turn.get("from"))
    if written in CALLING and calls_of(turn.get("content", turn.get("value"))) is None:
        yield Unread(written, True)
    for field, value in turn.items():
        if field not in _READ and says(value) and not _is_read_of(role, field, value):
            yield Unread(field, field in _MEANING)


def _is_read_of(role: str, field: str, value: Value) -> bool:
    if field in SHARES:
        return role != ASSISTANT or value in (0, 1)
    if field in _CALLS:
        return role == ASSISTANT and calls_of(value) is not None
    if field in REASONING:
        return role == ASSISTANT
    return role == TOOL and field in ("tool_call_id", "name")
