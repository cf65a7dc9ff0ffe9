"""Reads turns of conversations and lists of tools as sources write them, and gives them one form, that of chat
templates: OpenAI's with the arguments of calls as objects, ShareGPT's, Hermes'."""

import json
from typing import Any

from app.domain.data.turns import ASSISTANT, Message, message
from worker.ingest.readers.batches import Value
from worker.ingest.rows.columns import shown

TOOL = "tool"
REASONING = ("reasoning_content", "reasoning", "thinking")
SHARES = ("weight", "train", "loss")
"""Fields by which an assistant's turn counts in the loss: 1 or true, 0 or false."""
_ROLES = {
    **dict.fromkeys(("gpt", "bot", "model", "chatgpt"), ASSISTANT),
    **dict.fromkeys(("function", "observation", "tool_response", "ipython"), TOOL),
    "human": "user",
}
"""Other names of roles."""
CALLING = ("function_call", "tool_call")
"""Roles whose content is a call, or a list of calls."""


def role_of(turn: dict[str, Value]) -> str | None:
    """The role of a turn, by its usual name; None if it has none."""
    role = turn.get("role", turn.get("from"))
    if not isinstance(role, str):
        return None
    return ASSISTANT if role in CALLING else _ROLES.get(role, role)


def turns_of(value: Value) -> list[Message] | str:
    """The turns in a list of {role, content} or {from, value}; the value as text if it is no such list."""
    listed = parsed(value)
    if isinstance(listed, list) and listed:
        turns = [_turn(turn) for turn in listed]
        whole = [turn for turn in turns if turn is not None]
        if len(whole) == len(turns):
            return whole
    return shown(value if isinstance(value, str) else listed)[:1000]


def _turn(turn: Value) -> Message | None:
    if not isinstance(turn, dict) or (role := role_of(turn)) is None:
        return None
    written = turn.get("content", turn.get("value"))
    more: dict[str, Any] = {}
    if role == ASSISTANT:
        called = written if turn.get("role", turn.get("from")) in CALLING else None
        written = "" if called else written
        if calls := calls_of(called or turn.get("tool_calls") or turn.get("function_call")):
            more["tool_calls"] = calls
            written = written or ""
        if reasoning := next((turn[name] for name in REASONING if says(turn.get(name))), None):
            more["reasoning_content"] = shown(reasoning)
        if any(turn.get(name) in (0, False) for name in SHARES if turn.get(name) is not None):
            more["train"] = False
    elif role == TOOL:
        more = {name: turn[name] for name in ("tool_call_id", "name") if says(turn.get(name))}
    content = _content(written)
    return None if content is None else message(role, content, more)


def calls_of(value: Value) -> list[dict[str, Any]] | None:
    """Calls of tools, one or a list, also as JSON; None if it is something else."""
    value = parsed(value)
    calls = [_call(call) for call in (value if isinstance(value, list) else [value])]
    whole = [call for call in calls if call is not None]
    return whole if calls and len(whole) == len(calls) else None


def _call(call: Value) -> dict[str, Any] | None:
    if not isinstance(call, dict) or call.get("type") not in (None, "function"):
        return None
    function = call.get("function", call)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return None
    arguments = parsed(function.get("arguments", function.get("parameters"))) or {}
    if not isinstance(arguments, dict):
        return None
    named = {"id": call["id"]} if says(call.get("id")) else {}
    return named | {"type": "function", "function": {"name": function["name"], "arguments": arguments}}


def tools_of(value: Value) -> str | None:
    """A list of tools in OpenAI's form as JSON, empty without any; None if it is something else."""
    value = parsed(value)
    if not says(value):
        return ""
    tools = [_tool(tool) for tool in value] if isinstance(value, list) else [None]
    return json.dumps(tools, ensure_ascii=False) if None not in tools else None


def _tool(tool: Value) -> dict[str, Any] | None:
    if not isinstance(tool, dict):
        return None
    if isinstance(function := tool.get("function"), dict) and isinstance(function.get("name"), str):
        return tool
    return {"type": "function", "function": tool} if isinstance(tool.get("name"), str) else None


def parsed(value: Value) -> Value:
    """What a text says as JSON; a text that is none, and other values, as they are."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def says(value: Value) -> bool:
    """Whether a field says anything; Parquet has empty values where a turn lacks the field, and JSON may be a text."""
    if isinstance(value, str):
        return value.strip() not in ("", "[]", "{}", "null")
    return value is not None and value not in ([], {})


def _content(value: Value) -> str | None:
    """A turn's text, which may be a list of parts."""
    if isinstance(value, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in value):
        return "".join(part["text"] for part in value)
    return value if isinstance(value, str) else None
