"""Which parts of conversations a chat template renders, by trying each with a mark in it, and how it writes calls."""

import json
from typing import Any, get_args

from transformers import PreTrainedTokenizerBase

from app.domain.data.dataset import ChatRow
from app.domain.data.turns import ASSISTANT, ChatPart, message
from app.domain.failures import RunFailed
from worker.engine.data.chats.chat import ChatTemplate, Turn

_MARK = "vezna7mark"
_ASK: Turn = {"role": "user", "content": "Weather?"}
_ID = "callvezna"
"""Nine letters, which Mistral's templates demand."""


def rendered_parts(tokenizer: PreTrainedTokenizerBase) -> list[ChatPart] | None:
    """The parts that the tokenizer's template renders; None without a template."""
    try:
        template = ChatTemplate(tokenizer)
    except RunFailed:
        return None
    return [part for part in get_args(ChatPart) if template.renders(*_with(part), _MARK)]


def before_calls(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """What the template writes before the JSON of a call, without special tokens, such as `<tool_call>`; empty if
    nothing, None if it writes calls in another form than JSON, or none."""
    turns, tools = _with("tool_calls")
    messages = [
        message(turn["role"], turn["content"], {name: turn[name] for name in turn if name not in ("role", "content")})
        for turn in turns[:2]
    ]
    try:
        row = ChatRow("call", "test", messages, json.dumps(tools))
        pieces, _forgets = ChatTemplate(tokenizer).pieces(row, last_only=True)
    except RunFailed:
        return None
    ids = tokenizer(pieces[-1].text, add_special_tokens=False)["input_ids"]
    text = str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    for place in (place for place, character in enumerate(text) if character in "[{"):
        try:
            _value, end = json.JSONDecoder().raw_decode(text, place)
        except ValueError:
            continue
        if _MARK in text[place:end]:
            return text[:place].rpartition("</think>")[2].strip()
    return None


def _with(part: ChatPart) -> tuple[list[Turn], list[Any] | None]:
    """A conversation and its tools, with a mark in one part."""

    def text_of(own: ChatPart) -> str:
        return _MARK if part == own else "weather"

    tools = [_function({"name": text_of("tools"), "description": "Tells it", "parameters": {"type": "object"}})]
    called: Turn = {
        "role": ASSISTANT,
        "content": _MARK if part == "content beside tool_calls" else "",
        "tool_calls": [_function({"name": text_of("tool_calls"), "arguments": {}}) | {"id": _ID}],
    }
    result: Turn = {"role": "tool", "tool_call_id": _ID, "name": "weather", "content": text_of("tool")}
    answer: Turn = {"role": ASSISTANT, "content": "Sun."}
    match part:
        case "system":
            return [{"role": "system", "content": _MARK}, _ASK, answer], None
        case "tools":
            return [_ASK, answer], tools
        case "reasoning_content":
            return [_ASK, answer | {"reasoning_content": _MARK}], None
        case _:
            return [_ASK, called, result, answer], tools


def _function(function: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": function}
