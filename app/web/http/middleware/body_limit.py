"""FastAPI with what has to lie outside of every middleware: the answer to a body above the limit of its route, which
FastAPI itself gives as plain text, the headers of every answer, also of an internal error, and its
language."""

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from app.web.http.errors import body_too_large
from app.web.http.middleware.language import Language
from app.web.http.middleware.security import SafeHeaders

TOO_LARGE = 413


class Application(FastAPI):
    """FastAPI, whose limit of a body and whose internal errors lie outside of every middleware."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await SafeHeaders(Language(self._explained))(scope, receive, send)

    async def _explained(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        replaced = False

        async def explaining(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] == TOO_LARGE:
                replaced = Headers(raw=message["headers"]).get("content-type", "").startswith("text/plain")
                if replaced:
                    await body_too_large(Request(scope))(scope, receive, send)
            if not replaced:
                await send(message)

        await super().__call__(scope, receive, explaining)
