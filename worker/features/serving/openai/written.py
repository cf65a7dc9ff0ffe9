"""Reads what a model has written in a conversation: its reasoning, its text and its calls of tools.

    <think> reasoning </think>  text  <tool_call> {"name": …, "arguments": {…}} </tool_call> …

Calls are Hermes', or have the mark that the model's chat template writes before their JSON (an object or a list, with
`arguments` or `parameters`). Where it writes none, an answer that is such JSON alone is a call. Anything else is text,
also a call of a tool that the request does not have.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from worker.ingest.rows.turns import calls_of

HERMES = "<tool_call>"
THINK, THOUGHT = "<think>", "</think>"
Call = dict[str, Any]


class Written(NamedTuple):
    """The parts of an answer, or of its beginning."""

    reasoning: str = ""
    content: str = ""
    calls: Sequence[Call] = ()


class Reader:
    """Reads the answer to one request."""

    def __init__(self, tools: Sequence[str], *, reasons: bool = False, mark: str | None = None) -> None:
        """`tools`: their names. `reasons`: the prompt has opened the reasoning. `mark`: as in the event `form`."""
        self._tools, self._reasons, self._mark = set(tools), reasons, mark
        self._marks = list(filter(None, dict.fromkeys((HERMES, mark))))
        self._content, self._calls, self._place = "", list[Call](), 0
        """What is before the place in the answer after its reasoning, up to the end of the last complete call."""

    def read(self, text: str, *, done: bool) -> Written:
        """The parts; before it is `done` without what the next tokens may change, so that parts only grow. `text`: the
        answer so far, which begins with what was read before."""
        begun = text.lstrip()
        if not done and THINK.startswith(begun):
            return Written()
        if not self._reasons and not begun.startswith(THINK):
            return Written("", *self._with_calls(text, done))
        thoughts, closed, rest = begun.removeprefix(THINK).partition(THOUGHT)
        if not closed and not done:
            thoughts = _certain(thoughts, [THOUGHT])
        return Written(thoughts.strip(), *self._with_calls(rest.lstrip(), done))

    def _with_calls(self, text: str, done: bool) -> tuple[str, list[Call]]:
        if not self._tools:
            return text, []
        if self._mark == "" and text.lstrip().startswith(("{", "[")):
            calls = self._of_tools(text) if done else []
            return ("" if calls or not done else text), calls
        content, calls, place = self._content, [*self._calls], self._place
        while starts := [(at, mark) for mark in self._marks if (at := text.find(mark, place)) >= 0]:
            at, mark = min(starts)
            if (end := _end(text, at + len(mark), mark, done)) is None:
                break
            found = self._of_tools(text[at + len(mark) : end].strip().removesuffix(_closing(mark)))
            content = (content + text[place:at]).rstrip() if found else content + text[place:end]
            calls += found
            place = end
        if not done:
            self._content, self._calls, self._place = content, [*calls], place
        rest = text[place:]
        if not done:
            rest = rest[: at - place] if starts else _certain(rest, self._marks)
        content += rest
        return content.rstrip() if calls or not done else content, calls

    def _of_tools(self, text: str) -> list[Call]:
        """The calls in a JSON text; none unless all are of tools that the request has."""
        calls = calls_of(text) or []
        try:
            json.dumps(calls, allow_nan=False)
        except (ValueError, RecursionError):
            return []
        return calls if all(call["function"]["name"] in self._tools for call in calls) else []


def _closing(mark: str) -> str:
    """What ends a call after its JSON; empty for a mark that is no tag."""
    return f"</{mark[1:]}" if mark.startswith("<") and mark.endswith(">") else ""


def _end(text: str, start: int, mark: str, done: bool) -> int | None:
    """Where the call that starts at a place ends; None if its JSON is not complete, or its end may follow."""
    start += len(text[start:]) - len(text[start:].lstrip())
    try:
        _value, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return start if done else None
    after, closing = text[end:].lstrip(), _closing(mark)
    if not closing:
        return end
    if after.startswith(closing):
        return len(text) - len(after) + len(closing)
    return None if closing.startswith(after) and not done else end


def _certain(text: str, marks: Sequence[str]) -> str:
    """Without an end that may begin one of the marks."""
    most = max((n for mark in marks for n in range(1, len(mark)) if text.endswith(mark[:n])), default=0)
    return text[: len(text) - most]
