"""Answers of the inference process in OpenAI's form.

<think> reasoning </think>  text  <tool_call> {"name": …, "arguments": {…}} </tool_call> …

Calls are Hermes', or have the mark that the model's chat template writes before their JSON (an object or a list, with
`arguments` or `parameters`). Where it writes none, an answer that is such JSON alone is a call. Anything else is text,
also a call of a tool that the request does not have.
"""

import json
import time
from collections.abc import Sequence
from secrets import token_hex
from typing import Any, Literal, NamedTuple

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


Form = Literal["chat", "completion"]
Json = dict[str, Any]
OBJECTS = {"chat": "chat.completion", "completion": "text_completion"}
PREFIXES = {"chat": "chatcmpl-", "completion": "cmpl-"}


class Answer:
    """One answer, as a whole or in pieces."""

    def __init__(self, form: Form, model: str, logprobs: bool, tools: Sequence[str] = ()) -> None:
        """`tools`: names of the tools of a chat."""
        self._form, self._logprobs, self._tools = form, logprobs, tools
        self._reader, self._text, self._sent = Reader(tools), "", Written()
        self._about = {"id": f"{PREFIXES[form]}{token_hex(12)}", "created": int(time.time()), "model": model}
        self._offset = 0
        self._first = True

    def read_as(self, form: Json) -> None:
        """The event `form` says how to read the answer."""
        self._reader = Reader(self._tools, reasons=form["reasons"], mark=form["mark"])

    def piece(self, token: Json) -> Json:
        """A piece of a stream with one token."""
        choice: Json = {"index": 0, "finish_reason": None, "logprobs": self._of([token]) if self._logprobs else None}
        if self._form == "chat":
            self._text += token["text"]
            return self._chunk([choice | {"delta": self._role() | self._news(done=False)}])
        return self._chunk([choice | {"text": token["text"]}])

    def last(self, finish: str) -> Json:
        """The piece that says why the answer ends."""
        rest: Json = {"delta": self._role() | self._news(done=True)} if self._form == "chat" else {"text": ""}
        choice: Json = {"index": 0, "finish_reason": _reason(finish, self._sent), "logprobs": None}
        return self._chunk([choice | rest])

    def _role(self) -> Json:
        """Whose answer it is, in its first piece."""
        first, self._first = self._first, False
        return {"role": "assistant", "content": ""} if first else {}

    def _news(self, *, done: bool) -> Json:
        """What the last token adds to the parts of the answer, in the form of a stream."""
        sent, self._sent = self._sent, self._reader.read(self._text, done=done)
        calls = [{"index": n} | _call(self._sent.calls[n]) for n in range(len(sent.calls), len(self._sent.calls))]
        news = {
            "reasoning_content": self._sent.reasoning[len(sent.reasoning) :],
            "content": self._sent.content[len(sent.content) :],
            "tool_calls": calls,
        }
        return {name: new for name, new in news.items() if new}

    def usage(self, finished: Json) -> Json:
        """A last piece with the number of tokens."""
        return self._chunk([]) | {"usage": _usage(finished)}

    def whole(self, tokens: Sequence[Json], finished: Json) -> Json:
        """The answer of a request without a stream."""
        text = "".join(token["text"] for token in tokens)
        choice: Json = {"index": 0, "logprobs": self._of(tokens) if self._logprobs else None}
        if self._form == "chat":
            parts = self._reader.read(text, done=True)
            message: Json = {"role": "assistant", "content": parts.content, "refusal": None}
            if parts.reasoning:
                message["reasoning_content"] = parts.reasoning
            if parts.calls:
                message |= {"content": parts.content or None, "tool_calls": list(map(_call, parts.calls))}
            choice |= {"message": message, "finish_reason": _reason(finished["finish"], parts)}
        else:
            choice |= {"text": text, "finish_reason": _reason(finished["finish"])}
        return self._about | {"object": OBJECTS[self._form], "choices": [choice], "usage": _usage(finished)}

    def _chunk(self, choices: list[Json]) -> Json:
        kind = "chat.completion.chunk" if self._form == "chat" else OBJECTS["completion"]
        return self._about | {"object": kind, "choices": choices}

    def _of(self, tokens: Sequence[Json]) -> Json:
        """Log-probabilities of tokens: of chats a list of objects, of completions parallel lists."""
        if self._form == "chat":
            return {"content": [_chat_logprob(token) for token in tokens], "refusal": None}
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token["text"])
        return {
            "tokens": [token["text"] for token in tokens],
            "token_logprobs": [token["logprob"] for token in tokens],
            "top_logprobs": [{text: value for _id, text, value in token["top"]} for token in tokens],
            "text_offset": offsets,
        }


def _chat_logprob(token: Json) -> Json:
    others = [_entry(text, value) for _id, text, value in token["top"]]
    return _entry(token["text"], token["logprob"]) | {"top_logprobs": others}


def _entry(text: str, value: float) -> Json:
    return {"token": text, "logprob": value, "bytes": list(text.encode())}


def _call(call: Json) -> Json:
    function = call["function"]
    arguments = json.dumps(function["arguments"])  # ASCII, since a model may write half characters
    return {
        "id": token_hex(5)[:9],  # the length that Mistral's templates demand
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }


def _reason(finish: str, parts: Written | None = None) -> str:
    return "tool_calls" if parts and parts.calls else "length" if finish == "length" else "stop"


def _usage(finished: Json) -> Json:
    prompt, written = finished["prompt_tokens"], finished["tokens"]
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
