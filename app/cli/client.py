"""A client of the REST API, for the command line."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, BinaryIO, cast
from uuid import uuid4

import httpx2

from app.cli.credentials import require_no_user_name, token_for
from app.domain.errors import (
    Conflict,
    FieldError,
    Forbidden,
    InProgress,
    Invalid,
    NotFound,
    Unauthenticated,
    Unavailable,
    VeznaError,
)
from app.domain.messages import Message, _
from app.web.i18n import language

PATIENCE_SECONDS = 30.0
"""Time during which the client reconnects to a broken stream: a restart of the server takes some seconds."""
LONGEST_PAUSE = 5.0
UPLOAD_TIMEOUT = httpx2.Timeout(30.0, read=600.0, write=600.0)
"""A remote store may be slow to finish a large file."""
AWAY = (502, 503, 504)

KINDS: dict[int, type[VeznaError]] = {403: Forbidden, 404: NotFound, 409: Conflict, 503: Unavailable}
LOGIN = "/api/v1/login"


def without_credentials(url: str) -> str:
    """A URL without user name and password, for people: without all that stands before its last @, since a password may
    have any character. A path is returned as it is."""
    return url if url.startswith(("/", ".")) else re.sub(r"^(\w+://)?.*@", r"\1", url)


class Client:
    """A client of one server. It returns the API's JSON, and raises the errors of `domain.errors`."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """`token`: by default the one that the user has for this server."""
        self.address = without_credentials(url.rstrip("/"))
        """The server's address for people, without a user name and password."""
        token = token_for(url) if token is None else token
        if token:
            require_no_user_name(url)
        headers = {"Accept-Language": language()} | ({"Authorization": f"Bearer {token}"} if token else {})
        timeout = httpx2.Timeout(30.0, read=60.0)
        try:
            self._http = httpx2.Client(base_url=f"{url.rstrip('/')}/api/v1", timeout=timeout, headers=headers)
        except httpx2.InvalidURL as error:
            raise Invalid(
                _(
                    "%(address)s is not an address. Write it as http://host:8000, with --url or VEZNA_URL.",
                    address=self.address,
                )
            ) from error

    def get(self, path: str, **query: Any) -> Any:
        """GET below /api/v1."""
        return self._answer("GET", path, params=query)

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        """POST below /api/v1."""
        key = _new_key()
        return self._read(self._once(lambda: self._http.request("POST", path, json=body, params=query, headers=key)))

    def ask(self, path: str, body: Any, seconds: float) -> Any:
        """POST what changes nothing, so that it needs no key, and wait up to `seconds` for the answer."""
        return self._read(self._sent(lambda: self._http.request("POST", path, json=body, timeout=seconds)))

    def patch(self, path: str, body: Any) -> Any:
        """PATCH below /api/v1."""
        return self._answer("PATCH", path, json=body)

    def delete(self, path: str) -> None:
        """DELETE below /api/v1."""
        self._sent(lambda: self._http.request("DELETE", path))

    def upload(
        self, path: str, files: Sequence[Path], fields: Mapping[str, str], opened: Callable[[Path], BinaryIO]
    ) -> Any:
        """POST files below /api/v1 as a form, each as it is `opened`; they are read as they are sent."""
        key = _new_key()

        def send() -> httpx2.Response:
            with ExitStack() as stack:
                parts = [("file", (file.name, stack.enter_context(opened(file)))) for file in files]
                return self._http.request(
                    "POST", path, files=parts, data=dict(fields), headers=key, timeout=UPLOAD_TIMEOUT
                )

        return self._read(self._once(send))

    def download(self, path: str, target: IO[bytes]) -> None:
        """GET a file below /api/v1 in pieces."""
        try:
            with self._http.stream("GET", path) as answer:
                if not answer.is_success:
                    answer.read()
                    raise _error(answer)
                for piece in answer.iter_bytes():
                    target.write(piece)
        except httpx2.TransportError as error:
            raise self._away(error) from error
        except httpx2.InvalidURL as error:
            raise self._stranger() from error

    def save(self, path: str, target: Path) -> None:
        """Download to a file, which is either complete or absent."""
        part = target.with_name(f".{target.name}.part")
        try:
            with part.open("wb") as file:
                self.download(path, file)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def events(self, path: str) -> Iterator[dict[str, Any]]:
        """The `progress` snapshots of a stream of events until its `end`; reconnects after a break."""
        pause, broken_at = 0.5, 0.0
        while True:
            try:
                with self._http.stream("GET", path) as answer:
                    if answer.is_success:
                        for event in httpx2.EventSource(answer):
                            pause, broken_at = 0.5, 0.0
                            if event.event == "progress":
                                yield cast(dict[str, Any], event.json())
                            elif event.event == "end":
                                return
                        why = _("the stream broke off")
                    else:
                        answer.read()
                        if answer.status_code not in AWAY:
                            raise _error(answer)
                        why = _("it answered %(status)s", status=answer.status_code)
            except (httpx2.SSEError, httpx2.InvalidURL, ValueError) as error:
                raise self._stranger() from error
            except httpx2.TransportError as error:
                why = Message.joined([str(error)])
            broken_at = broken_at or time.monotonic()
            if time.monotonic() - broken_at > PATIENCE_SECONDS:
                raise Unavailable(
                    _(
                        "The server at %(address)s no longer answers: %(why)s. Check its log.",
                        address=self.address,
                        why=why,
                    )
                )
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _answer(self, method: str, path: str, **options: Any) -> Any:
        return self._read(self._sent(lambda: self._http.request(method, path, **options)))

    def _read(self, answer: httpx2.Response) -> Any:
        try:
            return answer.json()
        except ValueError as error:
            raise self._stranger() from error

    def _once(self, send: Callable[[], httpx2.Response]) -> httpx2.Response:
        """Send a request that has a key, and again if the connection breaks before its answer: it may have been
        accepted, and the key keeps it from being accepted twice. A server that was never reached is not waited for."""
        pause, broken_at = 0.5, 0.0
        while True:
            try:
                return self._sent(send)
            except (Unavailable, InProgress) as error:
                answered = isinstance(error, Unavailable) and error.__cause__ is None
                unreached = isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout)
                if answered or (unreached and not broken_at):
                    raise
                broken_at = broken_at or time.monotonic()
                if time.monotonic() - broken_at > PATIENCE_SECONDS:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _sent(self, send: Callable[[], httpx2.Response]) -> httpx2.Response:
        try:
            answer = send()
        except httpx2.TransportError as error:
            raise self._away(error) from error
        except httpx2.InvalidURL as error:
            raise self._stranger() from error
        if not answer.is_success:
            raise _error(answer)
        return answer

    def _away(self, error: Exception) -> Unavailable:
        return Unavailable(
            _(
                "No server answers at %(address)s (%(error)s). Start one with: vezna up, or name another "
                "with VEZNA_URL.",
                address=self.address,
                error=error,
            )
        )

    def _stranger(self) -> VeznaError:
        return VeznaError(_("The server at %(address)s is not Vezna. Check the address.", address=self.address))


def _error(answer: httpx2.Response) -> VeznaError:
    try:
        problem = answer.json()
        fields = [FieldError(e["path"], Message(e["message"]), Message(e["remedy"])) for e in problem.get("errors", [])]
        detail = problem["detail"]
    except (ValueError, KeyError, TypeError, AttributeError):
        address = answer.url.copy_with(userinfo=b"")
        return VeznaError(
            _(
                "%(address)s answered %(status)s, but not as Vezna does. Check the address.",
                address=address,
                status=answer.status_code,
            )
        )
    if answer.status_code == 422:
        return Invalid(detail, fields)
    if answer.status_code == 401:
        first = detail.split(". ")[0].rstrip(".")
        if answer.url.path == LOGIN:
            return Unauthenticated(first + ".")
        return Unauthenticated(_("%(detail)s. Run: vezna login, or set VEZNA_TOKEN to an API token.", detail=first))
    if answer.status_code == 409 and "retry-after" in answer.headers:
        return InProgress(detail)
    return KINDS.get(answer.status_code, VeznaError)(detail)


def _new_key() -> dict[str, str]:
    """The header of a request that is accepted once, however often it is sent."""
    return {"Idempotency-Key": f'"{uuid4()}"'}
