"""What both clients share: addresses, requests, when to send again, how to read an answer."""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx2

from vezna.errors import ClientError, NotVezna, Refused, Unreachable, WrongAddress, WrongField

LOCAL = "http://127.0.0.1:8000"
PATIENCE_SECONDS = 30.0
"""Time during which a broken connection is tried again: a restart of the server takes some seconds."""
LONGEST_PAUSE = 5.0
TIMEOUT = httpx2.Timeout(30.0, read=60.0)
UPLOAD_TIMEOUT = httpx2.Timeout(30.0, read=600.0, write=600.0)
"""A remote store may be slow to finish a large file."""
AWAY = (502, 503, 504)
"""What a proxy answers for a server that restarts."""
API = "/api/v1"


def without_credentials(url: str) -> str:
    """A URL without user name and password, for people: without all that stands before its last @, since a password may
    have any character. A path is returned as it is."""
    return url if url.startswith(("/", ".")) else re.sub(r"^(\w+://)?.*@", r"\1", url)


def token_of_environment() -> str:
    """The API token in VEZNA_TOKEN, or in the file that VEZNA_TOKEN_FILE names; empty without one. Raises OSError."""
    file = os.environ.get("VEZNA_TOKEN_FILE")
    return os.environ.get("VEZNA_TOKEN", "") or (Path(file).read_text(encoding="utf-8").strip() if file else "")


@dataclass(frozen=True)
class Server:
    """Which server, and as whom."""

    url: str
    """Address of its API."""
    address: str
    """For people: without user name and password."""
    headers: Mapping[str, str]

    @classmethod
    def of(cls, url: str | None, token: str | None, language: str) -> "Server":
        """From arguments or, where they are None, from VEZNA_URL, VEZNA_TOKEN and VEZNA_TOKEN_FILE. Raises
        WrongAddress."""
        url = (os.environ.get("VEZNA_URL") or LOCAL if url is None else url).rstrip("/")
        token = token_of_environment() if token is None else token
        address = without_credentials(url)
        try:
            if not urlsplit(url).hostname:
                raise WrongAddress(address)
            httpx2.URL(url)
        except (ValueError, httpx2.InvalidURL) as error:
            raise WrongAddress(address) from error
        headers = {"Accept-Language": language} if language else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return cls(f"{url}{API}", address, headers)


@dataclass(frozen=True)
class Request:
    """A request below /api/v1."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    key: str = ""
    """Idempotency-Key: the server does the request once, however often it is sent."""
    seconds: float | None = None
    """How long to wait for the answer; None takes the usual time."""

    @property
    def repeatable(self) -> bool:
        """It may be sent again if its answer was lost."""
        return bool(self.key) or self.method == "GET"

    @property
    def options(self) -> dict[str, Any]:
        """For httpx2."""
        values = {name: value for name, value in self.query.items() if value is not None}
        options: dict[str, Any] = {"params": values, "headers": key_header(self.key)}
        if self.body is not None:
            options["json"] = self.body
        if self.seconds is not None:
            options["timeout"] = self.seconds
        return options


def new_key() -> str:
    """A value of Idempotency-Key for one request."""
    return str(uuid4())


def key_header(key: str) -> dict[str, str]:
    """The header of a request that is done once."""
    return {"Idempotency-Key": f'"{key}"'} if key else {}


class Patience:
    """How long to wait before a request is sent again, or a broken stream is opened again."""

    def __init__(self) -> None:
        self._pause, self._broken_at = 0.5, 0.0

    def mended(self) -> None:
        """The stream goes on."""
        self._pause, self._broken_at = 0.5, 0.0

    def pause_after(self, error: ClientError) -> float:
        """Seconds to wait; raises the error if it is final. A server that was never reached is not waited for, and an
        answer is final unless it says that the same request is in progress."""
        lost = isinstance(error, Unreachable) and (error.connected or error.stream or bool(self._broken_at))
        if not lost and not (isinstance(error, Refused) and error.in_progress):
            raise error
        self._broken_at = self._broken_at or time.monotonic()
        if time.monotonic() - self._broken_at > PATIENCE_SECONDS:
            raise error
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        return pause


def broken(server: Server, error: Exception, *, stream: bool = False) -> ClientError:
    """What an error of httpx2 means."""
    if isinstance(error, httpx2.TransportError) and not isinstance(error, httpx2.SSEError):
        connected = not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
        return Unreachable(server.address, str(error) or type(error).__name__, connected=connected, stream=stream)
    return NotVezna(server.address)


def away(server: Server, status: int) -> Unreachable:
    """That a stream was opened again and the server is not ready for it."""
    return Unreachable(server.address, f"it answered {status}", stream=True, status=status)


def json_of(server: Server, answer: httpx2.Response) -> Any:
    """The JSON of an answer; None of an empty one. Raises NotVezna."""
    if answer.status_code == 204:
        return None
    try:
        return answer.json()
    except ValueError as error:
        raise NotVezna(server.address) from error


def problem_of(answer: httpx2.Response) -> ClientError:
    """The error that an answer stands for."""
    try:
        problem = answer.json()
        fields = tuple(WrongField(e["path"], e["message"], e["remedy"]) for e in problem.get("errors", []))
        detail = str(problem["detail"])
    except (ValueError, KeyError, TypeError, AttributeError):
        address = str(answer.url.copy_with(userinfo=b""))
        if answer.status_code in AWAY:  # a reverse proxy, while the server restarts
            return Unreachable(address, f"it answered {answer.status_code}", connected=True, status=answer.status_code)
        return NotVezna(address, answer.status_code)
    after = answer.headers.get("retry-after", "")
    return Refused(answer.status_code, detail, fields, retry_seconds=float(after) if after.isdecimal() else None)
