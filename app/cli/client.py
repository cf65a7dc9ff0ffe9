"""The client of `vezna.client` for the command line: with the user's token, in the user's language, and with the errors
of `app.domain.errors`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from app.cli.tracker_errors import tracker_error
from app.cli.users.credentials import require_no_user_name, token_for
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
from app.words.i18n import language
from vezna.client import Client as ScriptsClient
from vezna.errors import BROKE_OFF, ClientError, NotVezna, Refused, TrackerError, Unreachable, WrongAddress
from vezna.sending.connection import Request, new_key, without_credentials

KINDS: dict[int, type[VeznaError]] = {403: Forbidden, 404: NotFound, 409: Conflict, 503: Unavailable}
LOGIN = "/login"


class Client:
    """A client of one server. It returns the API's JSON, and raises the errors of `domain.errors`."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """`token`: by default the one that the user has for this server."""
        self.address = without_credentials(url.rstrip("/"))
        """The server's address for people, without a user name and password."""
        token = token_for(url) if token is None else token
        if token:
            require_no_user_name(url)
        with in_words():
            self._connection = ScriptsClient(url, token=token, language=language())

    def get(self, path: str, **query: Any) -> Any:
        return self._ask(Request("GET", path, query))

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        return self._ask(Request("POST", path, query, body, new_key()))

    def ask(self, path: str, body: Any, seconds: float) -> Any:
        """POST what changes nothing, so that it needs no key, and wait up to `seconds` for the answer."""
        return self._ask(Request("POST", path, body=body, seconds=seconds))

    def patch(self, path: str, body: Any) -> Any:
        return self._ask(Request("PATCH", path, body=body))

    def put(self, path: str, body: Any) -> Any:
        return self._ask(Request("PUT", path, body=body))

    def delete(self, path: str) -> None:
        self._ask(Request("DELETE", path))

    def upload(
        self, path: str, files: Sequence[Path], fields: Mapping[str, str], opened: Callable[[Path], BinaryIO]
    ) -> Any:
        """POST files below /api/v1 as a form, each as it is `opened`; they are read as they are sent."""
        with in_words():
            return self._connection.upload(path, files, fields, opened)

    def download(self, path: str, target: IO[bytes]) -> None:
        """GET a file below /api/v1 in pieces."""
        with in_words():
            self._connection.download(path, target)

    def save(self, path: str, target: Path) -> None:
        """Download to a file, which is either complete or absent."""
        with in_words():
            self._connection.save(path, target)

    def events(self, path: str) -> Iterator[dict[str, Any]]:
        """The `progress` snapshots of a stream of events until its `end`; reconnects after a break."""
        with in_words():
            yield from self._connection.events(path)

    @contextmanager
    def for_scripts(self) -> Iterator[ScriptsClient]:
        """The client of `vezna.client`, as the same user; what it raises are errors of the domain."""
        with in_words():
            yield self._connection

    def _ask(self, request: Request) -> Any:
        with in_words(login=request.path == LOGIN):
            return self._connection.request(request)


@contextmanager
def in_words(*, login: bool = False) -> Iterator[None]:
    """Turn the errors of the client into those of the domain."""
    try:
        yield
    except ClientError as error:
        raise _error(error, login=login) from error


def _error(error: ClientError, *, login: bool) -> VeznaError:
    if isinstance(error, Refused):
        return _refusal(error, login=login)
    if isinstance(error, TrackerError):
        return tracker_error(error)
    if isinstance(error, WrongAddress):
        return Invalid(
            _(
                "%(address)s is not an address. Write it as http://host:8000, with --url or VEZNA_URL.",
                address=error.address,
            )
        )
    if isinstance(error, NotVezna) and error.status:
        values = {"address": error.address, "status": error.status}
        return VeznaError(_("%(address)s answered %(status)s, but not as Vezna does. Check the address.", **values))
    if isinstance(error, Unreachable) and (error.stream or error.status):
        why = Message(error.why)
        if error.status:
            why = _("it answered %(status)s", status=error.status)
        elif error.why == BROKE_OFF:
            why = _("the stream broke off")
        return Unavailable(
            _("The server at %(address)s no longer answers: %(why)s. Check its log.", address=error.address, why=why)
        )
    if isinstance(error, Unreachable):
        values = {"address": error.address, "error": error.why}
        return Unavailable(
            _(
                "No server answers at %(address)s (%(error)s). Start one with: vezna up, or name another "
                "with VEZNA_URL.",
                **values,
            )
        )
    address = error.address if isinstance(error, NotVezna) else ""
    return VeznaError(_("The server at %(address)s is not Vezna. Check the address.", address=address))


def _refusal(error: Refused, *, login: bool) -> VeznaError:
    if error.status == 422:
        fields = [FieldError(field.path, Message(field.message), Message(field.remedy)) for field in error.fields]
        return Invalid(error.detail, fields)
    if error.status == 401:
        first = error.detail.split(". ")[0].rstrip(".")
        if login:
            return Unauthenticated(first + ".")
        return Unauthenticated(_("%(detail)s. Run: vezna login, or set VEZNA_TOKEN to an API token.", detail=first))
    if error.in_progress:
        return InProgress(error.detail)
    return KINDS.get(error.status, VeznaError)(error.detail)
