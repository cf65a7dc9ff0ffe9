"""The only place that turns exceptions into HTTP answers: problem+json (RFC 9457) for programs, a page for people."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from app.domain.errors import (
    Conflict,
    FieldError,
    Forbidden,
    InProgress,
    Invalid,
    NotFound,
    OverQuota,
    SyntaxFieldError,
    TooMany,
    Unauthenticated,
    Unavailable,
    VeznaError,
)
from app.domain.messages import Message, _, choose_from
from app.domain.methods import METHODS
from app.domain.validation import SENTENCES, UNKNOWN, field_error, path_of
from app.store.database.errors import disk_full, undone
from app.web.site import error_form
from app.web.templating import error_page
from app.words.i18n import gettext, localized, marked

log = structlog.get_logger()

STATUS: dict[type[VeznaError], tuple[int, str]] = {
    Invalid: (422, marked("Invalid request")),
    Unauthenticated: (401, marked("Unauthorized")),
    Forbidden: (403, marked("Forbidden")),
    NotFound: (404, marked("Not found")),
    Conflict: (409, marked("Conflict")),
    TooMany: (429, marked("Too many requests")),
    Unavailable: (503, marked("Service unavailable")),
}
METHODS_OF_HTTP = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
AGENTS = "/mcp"
"""The agent interface."""
OVER_QUOTA = "over-quota"
"""Kind of an error, for other forms."""
CONFLICT_KEY = "vezna.conflict"
"""In the scope of a request whose transaction was undone by such a conflict."""
DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)
CHALLENGE = 'Bearer realm="Vezna"'
"""`WWW-Authenticate` of a 401 (RFC 6750)."""
TOO_LARGE = marked("Content too large")
INTERNAL = marked("Internal server error")
PHRASES = (marked("Not Found"), marked("Method Not Allowed"))
"""Titles, like every sentence, are said in the language that the client prefers."""


class Problem(BaseModel):
    """An error as in RFC 9457; `errors` names the fields, and for a syntax error the column, from 1."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:vezna:invalid",
                "title": "Invalid request",
                "status": 422,
                "detail": "BertModel has no linear module 'q_proj'",
                "errors": [
                    {
                        "path": "method.target_modules",
                        "message": "BertModel has no linear module 'q_proj'",
                        "remedy": 'choose from: query, key, value, dense, or "all-linear"',
                    }
                ],
            }
        }
    )

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str | int]] = []


TUNINGS = ("none", "grid", "random", "halving", "tpe")

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": title, "content": {"application/problem+json": {"schema": Problem.model_json_schema()}}}
    for status, title in (*STATUS.values(), (400, "Bad request"), (413, TOO_LARGE))
}
"""For `responses=` of a route: PROBLEMS[404] and the like."""
SECONDS = {"description": "Seconds after which to try again", "schema": {"type": "integer", "minimum": 1}}
for later in (429, 503):
    PROBLEMS[later]["headers"] = {"Retry-After": SECONDS}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for its documentation."""
    return {status: PROBLEMS[status] for status in statuses}


def install(app: FastAPI) -> None:
    """Install handlers that answer every exception and every malformed request in the same form."""
    app.add_exception_handler(VeznaError, answer_to)
    for away in DATABASE_AWAY:
        app.add_exception_handler(away, database_away)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _internal)


UNKNOWN_FIELD = {UNKNOWN: _("Remove it, or look up its name in /api/v1/openapi.json")}


def field_errors(errors: Sequence[Any]) -> tuple[FieldError, ...]:
    """Pydantic's errors with paths that lack `body` and the names of union branches."""
    return tuple(_field_error(error) for error in errors)


def _field_error(error: Mapping[str, Any]) -> FieldError:
    kind, path = error["type"], _path(error["loc"])
    if not kind.startswith("union_tag"):
        return field_error({**error, "loc": path}, UNKNOWN_FIELD)
    valid, unknown = (
        (TUNINGS, marked("There is no tuning %(tag)r"))
        if "tuning" in path
        else (METHODS, marked("There is no method %(tag)r"))
    )
    message = SENTENCES["missing"] if kind == "union_tag_not_found" else Message(unknown, tag=error["ctx"]["tag"])
    return FieldError(path_of(path), message, choose_from(valid))


def _path(loc: Sequence[str | int]) -> list[str]:
    parts = [str(part) for part in loc]
    if parts[:1] in (["body"], ["query"], ["path"], ["header"]):
        parts = parts[1:]
    return [part for place, part in enumerate(parts) if not _is_branch(parts, place)]


def _is_branch(parts: Sequence[str], place: int) -> bool:
    """Whether a part is the name of a union branch: of `method`, of an entry of `methods`, or of `tuning`."""
    part, before = parts[place], parts[:place]
    if part in TUNINGS and before[-1:] == ["tuning"]:
        return True
    return part in METHODS and (before[-1:] == ["method"] or before[-2:-1] == ["methods"])


def status_of(error: VeznaError) -> int:
    """The HTTP status of an error, for a form that is shown again with it."""
    return next((status for kind, (status, _title) in STATUS.items() if isinstance(error, kind)), 500)


def answer_to(request: Request, error: Exception) -> Response:
    """The answer to an error that was raised on purpose."""
    assert isinstance(error, VeznaError)  # noqa: S101
    kind = next((k for k in STATUS if isinstance(error, k)), None)
    status, title = STATUS[kind] if kind else (500, INTERNAL)
    fields = error.fields if isinstance(error, Invalid) else ()
    name = kind.__name__.lower() if kind else "internal"
    if isinstance(error, OverQuota) and error_form(request.url.path):
        name = OVER_QUOTA
    answer = _answer(request, status, name, title, error.message, fields)
    if isinstance(error, Unauthenticated):
        answer.headers["WWW-Authenticate"] = CHALLENGE
    if isinstance(error, TooMany):
        return _later(answer, error.retry_seconds)
    return _later(answer) if isinstance(error, Unavailable | InProgress) else answer


def database_away(request: Request, error: Exception) -> Response:
    """The answer while the database does not answer, or has undone the transaction."""
    status, title = STATUS[Unavailable]
    if undone(error):
        request.scope[CONFLICT_KEY] = True
        detail = _("Two requests changed the same rows at the same time, and this one was undone. Send it again.")
    elif disk_full(error):
        log.error("the database's disk is full", path=request.url.path, error=str(error))
        detail = _("The disk of the database is full. Free some space there, then try again: nothing was queued.")
    else:
        log.warning("the database is away", path=request.url.path, error=str(error))
        detail = _("The database does not answer. Nothing that was accepted is lost: try again in a few seconds.")
    return _later(_answer(request, status, "unavailable", title, detail))


def busy(request: Request) -> Response:
    """The answer to one request too many."""
    detail = _("The server has too many requests to answer at once. Try again in a few seconds.")
    return _later(_answer(request, 503, "unavailable", STATUS[Unavailable][1], detail))


def nothing_here(request: Request) -> Response:
    """The answer at a port that does not serve this path."""
    return _http(request, HTTPException(404))


def body_too_large(request: Request) -> Response:
    """The answer to a body above the limit of its route."""
    detail = _("The request is too large. Send fewer things at once; files are uploaded on the page Data.")
    return _answer(request, 413, "too-large", TOO_LARGE, detail)


def too_many_requests(request: Request, seconds: int) -> Response:
    """The answer to a client that has used up its requests of a minute."""
    detail = _("This client sends more requests than the server allows. Try again in %(seconds)s s.", seconds=seconds)
    return answer_to(request, TooMany(detail, seconds))


def _later(answer: Response, seconds: int = 5) -> Response:
    answer.headers["Retry-After"] = str(seconds)
    return answer


def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    fields = field_errors(error.errors())
    return _answer(
        request, 422, "invalid", STATUS[Invalid][1], Message.joined(field.located for field in fields), fields
    )


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    title = STATUS[NotFound][1] if error.status_code == 404 else str(error.detail)
    where, why = f"{request.method} {request.url.path}", Message(str(error.detail))
    detail = Message("%(request)s: %(reason)s", request=where, reason=why)
    answer = _answer(request, error.status_code, "http", title, detail)
    answer.headers.update(error.headers or {})
    if error.status_code == 405:
        answer.headers["Allow"] = ", ".join(_allowed(request))
    return answer


def _allowed(request: Request) -> list[str]:
    """The methods that the routes of an address have together; Starlette's own header names those of the first.
    No route matches below a mount, whose files can only be read."""

    def taken(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return list(filter(taken, METHODS_OF_HTTP)) or ["GET", "HEAD"]


def _gone(request: Request, error: Exception) -> Response:
    """The browser dropped the request unread, because its form changed again. No client gets this answer."""
    return Response(status_code=400)


def _internal(request: Request, error: Exception) -> Response:
    log.error("unexpected error", path=request.url.path, exc_info=error)
    detail = _("This is a bug in Vezna: report it with the server's log. Nothing that was accepted is lost.")
    return _answer(request, 500, "internal", INTERNAL, detail)


def _answer(
    request: Request, status: int, kind: str, title: str, detail: str, fields: Sequence[FieldError] = ()
) -> Response:
    if form := error_form(request.url.path):
        return form(status, kind, detail, fields)
    if not wants_json(request):
        return error_page(request, status=status, title=gettext(title), message=detail)
    return problem(status, kind, title, detail, fields)


def problem(status: int, kind: str, title: str, detail: str, fields: Sequence[FieldError] = ()) -> Response:
    """The answer for a program."""
    errors = [
        {"path": f.path, "message": localized(f.message), "remedy": localized(f.remedy)} | _place(f) for f in fields
    ]
    said = gettext(title), localized(detail)
    body = {"type": f"urn:vezna:{kind}", "title": said[0], "status": status, "detail": said[1], "errors": errors}
    return JSONResponse(body, status_code=status, media_type="application/problem+json")


def _place(error: FieldError) -> dict[str, int]:
    return {"column": error.column} if isinstance(error, SyntaxFieldError) else {}


def wants_json(request: Request) -> bool:
    """Whether a program made the request: all paths below /api, those with errors in another form, the agent
    interface, and the probes."""
    path = request.url.path
    return path.startswith(("/api/", "/livez", "/readyz", "/metrics")) or path == AGENTS or bool(error_form(path))
