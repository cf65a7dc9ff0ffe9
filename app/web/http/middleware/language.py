"""The language of an answer: that of the user's account, else that of the cookie, both of which the switch in the
footer sets, else the one that the client prefers (Accept-Language), else English.

A request with an API token has neither account setting nor cookie, so its header alone decides.
"""

from functools import lru_cache

from babel import negotiate_locale
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.domain.accounts.policy import Identity
from app.words.i18n import DEFAULT, LANGUAGES, language, speak

COOKIE = "vezna-language"
UNVARIED = ("/static/", "/livez", "/readyz", "/metrics")
"""Beginnings of paths whose answers are alike in every language."""
TABLES = (".csv", ".parquet")
"""Ends of paths whose answers are for programs, so always in English."""
WORDS = ("text/html", "application/json", "application/problem+json", "image/svg+xml", "image/png")
"""Types of answers with sentences of a language. Names, states and numbers of JSON are the same in all of them."""


class Language:
    """Answers each request in its language, and says so."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Choose the language, and add `Content-Language` and `Vary` to the answer."""
        if scope["type"] != "http" or scope["path"].startswith(UNVARIED):
            speak(DEFAULT)
            await self.app(scope, receive, send)
            return
        speak(DEFAULT if scope["path"].endswith(TABLES) else _requested(Headers(scope=scope)))

        async def labelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": list(message.get("headers", ()))}
                headers = MutableHeaders(raw=message["headers"])
                headers.add_vary_header("Accept-Language, Cookie")
                if headers.get("content-type", "").partition(";")[0] in WORDS:
                    headers.setdefault("content-language", language())
            await send(message)

        await self.app(scope, receive, labelled)


def of_user(identity: Identity | None, path: str) -> None:
    """Answer a request for a path in the language that the user has chosen, if there is one."""
    if identity is not None and identity.language in LANGUAGES and not path.endswith(TABLES):
        speak(identity.language)


def _requested(headers: Headers) -> str:
    chosen = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
    return chosen if chosen in LANGUAGES else preferred(headers.get("accept-language", ""))


@lru_cache(256)
def preferred(header: str) -> str:
    """The language of Vezna that a client prefers, by the weights of its header Accept-Language (RFC 9110, 12.5.4)."""
    weighed = []
    for part in header.split(","):
        name, _semicolon, parameter = part.strip().partition(";")
        try:
            weight = float(parameter.strip().removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
        if weight > 0:
            weighed.append((name.strip().lower(), weight))
    names = [name for name, _weight in sorted(weighed, key=lambda pair: -pair[1])]
    return negotiate_locale(names, list(LANGUAGES), sep="-") or DEFAULT
