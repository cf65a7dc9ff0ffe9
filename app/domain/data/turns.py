"""Turns of conversations, and which parts of them depend on a chat template.

role, content   texts
more            a JSON object of the other fields, where a turn has any:
                tool_calls          of the assistant: [{id, type, function: {name, arguments: an object}}]
                reasoning_content   of the assistant
                tool_call_id, name  of a tool's result
                train               false: the turn is context, and not in the loss
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NotRequired, TypedDict

ASSISTANT = "assistant"
ChatPart = Literal["system", "tools", "tool_calls", "content beside tool_calls", "tool", "reasoning_content"]


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str
    more: NotRequired[str | None]


def message(role: str, content: str, more: dict[str, Any]) -> Message:
    """A turn with some other fields, or none."""
    turn = Message(role=role, content=content)
    return Message(**turn, more=json.dumps(more, ensure_ascii=False)) if more else turn


def without_blanks(turns: Sequence[Message]) -> list[Message]:
    """Turns as they were written: Parquet gives every turn the field `more`."""
    return [turn if turn.get("more") else Message(role=turn["role"], content=turn["content"]) for turn in turns]


def others(turn: Message) -> dict[str, Any]:
    """The fields of a turn beside role and content."""
    fields: dict[str, Any] = json.loads(turn.get("more") or "{}")
    return fields


def said(turn: Message) -> str:
    """What a turn says, for people: its content, then its other fields as JSON."""
    more = turn.get("more")
    return " ".join(filter(None, [turn["content"], more])) if more else turn["content"]


def is_learnt(turn: Message) -> bool:
    """Whether it is in the loss."""
    return turn["role"] == ASSISTANT and others(turn).get("train", True)


def is_empty(turn: Message) -> bool:
    """Whether it neither says nor calls anything."""
    return not turn["content"].strip() and "tool_calls" not in others(turn)


def last_reply(turns: Sequence[Message]) -> int | None:
    """The place of the assistant's last turn that is in the loss, which is also the one that a model is to write."""
    return next((place for place in reversed(range(len(turns))) if is_learnt(turns[place])), None)


def parts_of(turns: Sequence[Message], tools: str | None) -> Iterator[ChatPart]:
    """The parts of a conversation that not every chat template renders, some of them several times."""
    if tools:
        yield "tools"
    for turn in turns:
        more = others(turn)
        if turn["role"] in ("system", "tool"):
            yield "system" if turn["role"] == "system" else "tool"
        if "tool_calls" in more:
            yield "tool_calls"
            if turn["content"].strip():
                yield "content beside tool_calls"
        if "reasoning_content" in more:
            yield "reasoning_content"
