"""A client of OpenAI-compatible servers that users name: chat completions and completions, through the one outbound
client.

https://platform.openai.com/docs/api-reference

Errors name host, status and reason. Of a refusal they quote what the server says, without the API key.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from app.domain.errors import Unavailable
from app.domain.messages import _
from app.services.outbound.outbound import Outbound, Reply

SECONDS = 300.0
"""For a whole answer, behind those that a server has to write before it."""
FEWEST_BYTES = 64 << 10
BYTES_A_TOKEN = 512
"""Bytes for a token of an answer: text, and what a server may add to each token."""
CHARACTERS_A_TOKEN = 256
MOST_QUOTED = 200

Conversation = Sequence[Mapping[str, str]]


class ServerRefused(Unavailable):
    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class GarbledAnswer(Unavailable):
    """The server answered, but not as OpenAI's API does."""


class Completion(NamedTuple):
    text: str
    prompt_tokens: int | None
    """None where the server does not count them."""


class OpenAIServer:
    """A model of a server."""

    def __init__(
        self, outbound: Outbound, url: str, model: str, api_key: str = "", *, seconds: float = SECONDS
    ) -> None:
        """`url`: its base URL, to which paths such as `/completions` are appended. `seconds`: of an answer."""
        self._outbound, self._url, self._model, self._key = outbound, url, model, api_key
        self._seconds = seconds
        self._host = outbound.require_listed(url).netloc.decode()

    def complete(self, prompt: str | Conversation, max_tokens: int) -> Completion:
        """A greedy answer. Raises Invalid for an address that may not be reached, NotReached, ServerRefused, and
        GarbledAnswer."""
        chat = not isinstance(prompt, str)
        given = {"messages": list(prompt)} if chat else {"prompt": prompt}
        body = {"model": self._model, "max_tokens": max_tokens, "temperature": 0, "stream": False} | given
        reply = self._outbound.post(
            f"{self._url}/{'chat/completions' if chat else 'completions'}",
            json.dumps(body).encode(),
            {"authorization": f"Bearer {self._key}"} if self._key else {},
            seconds=self._seconds,
            most_bytes=FEWEST_BYTES + BYTES_A_TOKEN * max_tokens,
        )
        if not reply.succeeded:
            raise self._refused(reply)
        return self._read(reply, chat, CHARACTERS_A_TOKEN * max_tokens)

    def masked(self, text: str) -> str:
        """What the server wrote, without the API key, which a server may echo."""
        return text.replace(self._key, "***") if self._key else text

    def on_one_line(self, text: str) -> str:
        """What the server wrote, to be quoted: without the API key, and without characters that steer a terminal."""
        return " ".join("".join(c if c.isprintable() else " " for c in self.masked(text)).split())

    def _read(self, reply: Reply, chat: bool, most_characters: int) -> Completion:
        answer = _json(reply.body)
        choices = answer.get("choices") if isinstance(answer, dict) else None
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        message = choice.get("message")
        text = choice.get("text")
        if chat and isinstance(message, dict):
            # null: a model that reasons apart from its answer has used up max_tokens before it
            text = "" if "content" in message and message["content"] is None else message.get("content")
        if not isinstance(answer, dict) or not isinstance(text, str):
            place = "choices[0].message.content" if chat else "choices[0].text"
            raise GarbledAnswer(
                _(
                    "The answer of %(host)s is not that of an OpenAI-compatible server: it has no text at %(place)s. "
                    "Check the base URL.",
                    host=self._host,
                    place=place,
                )
            )
        if len(text) > most_characters:
            raise GarbledAnswer(
                _("%(host)s wrote far more than max_tokens, which it seems to ignore.", host=self._host)
            )
        usage = answer.get("usage")
        tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        counted = isinstance(tokens, int) and not isinstance(tokens, bool) and tokens > 0
        return Completion(text, tokens if counted else None)

    def _refused(self, reply: Reply) -> ServerRefused:
        values = {"host": self._host, "status": reply.status, "model": self._model}
        if reply.status in (401, 403):
            text = _("%(host)s does not accept the API key (HTTP %(status)s). Check the key.", **values)
            return ServerRefused(text, reply.status)
        values["why"] = self._quoted(reply.body) or _("without a reason")
        text = _("%(host)s refuses the request (HTTP %(status)s): %(why)s.", **values)
        if reply.status == 404:
            text = _(
                "%(host)s knows no model %(model)s, or its API is elsewhere (HTTP 404): %(why)s. Check the model's "
                "name and the base URL, which mostly ends in /v1.",
                **values,
            )
        return ServerRefused(text, reply.status)

    def _quoted(self, body: bytes) -> str:
        """What the server says of an error: `{"error": {"message": …}}` as OpenAI has it, or `{"message": …}`."""
        answer = _json(body)
        error = answer.get("error", answer) if isinstance(answer, dict) else {}
        text = error.get("message") if isinstance(error, dict) else error
        if not isinstance(text, str):
            return ""
        return self.on_one_line(text)[:MOST_QUOTED].rstrip(". ")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
