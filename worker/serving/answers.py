"""Answers of the inference process in OpenAI's form."""

import time
from collections.abc import Sequence
from secrets import token_hex
from typing import Any, Literal

Form = Literal["chat", "completion"]
Json = dict[str, Any]
OBJECTS = {"chat": "chat.completion", "completion": "text_completion"}
PREFIXES = {"chat": "chatcmpl-", "completion": "cmpl-"}


class Answer:
    """One answer, as a whole or in pieces."""

    def __init__(self, form: Form, model: str, logprobs: bool) -> None:
        self._form, self._logprobs = form, logprobs
        self._about = {"id": f"{PREFIXES[form]}{token_hex(12)}", "created": int(time.time()), "model": model}
        self._offset = 0
        self._first = True

    def piece(self, token: Json) -> Json:
        """A piece of a stream with one token."""
        choice: Json = {"index": 0, "finish_reason": None, "logprobs": self._of([token]) if self._logprobs else None}
        if self._form == "chat":
            role = {"role": "assistant"} if self._first else {}
            self._first = False
            return self._chunk([choice | {"delta": role | {"content": token["text"]}}])
        return self._chunk([choice | {"text": token["text"]}])

    def last(self, finish: str) -> Json:
        """The piece that says why the answer ends."""
        choice: Json = {"index": 0, "finish_reason": _reason(finish), "logprobs": None}
        nothing: Json = {"delta": {}} if self._form == "chat" else {"text": ""}
        return self._chunk([choice | nothing])

    def usage(self, finished: Json) -> Json:
        """A last piece with the number of tokens."""
        return self._chunk([]) | {"usage": _usage(finished)}

    def whole(self, tokens: Sequence[Json], finished: Json) -> Json:
        """The answer of a request without a stream."""
        text = "".join(token["text"] for token in tokens)
        choice: Json = {
            "index": 0,
            "finish_reason": _reason(finished["finish"]),
            "logprobs": self._of(tokens) if self._logprobs else None,
        }
        message = {"message": {"role": "assistant", "content": text, "refusal": None}}
        choice |= message if self._form == "chat" else {"text": text}
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


def _reason(finish: str) -> str:
    return "length" if finish == "length" else "stop"


def _usage(finished: Json) -> Json:
    prompt, written = finished["prompt_tokens"], finished["tokens"]
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
