"""From exceptions to answers: problem+json (RFC 9457) for programs, a page for people. Nowhere else."""

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

from app.domain.errors import Conflict, FieldError, Invalid, NotFound, Unavailable, VeznaError
from app.domain.methods import METHODS
from app.domain.names import OF_KEY, legible
from app.web.i18n import gettext, marked
from app.web.templating import error_page

log = structlog.get_logger()

STATUS: dict[type[VeznaError], tuple[int, str]] = {
    Invalid: (422, marked("This cannot be done as asked")),
    NotFound: (404, marked("There is no such thing")),
    Conflict: (409, marked("Not in its present state")),
    Unavailable: (503, marked("Not available for now")),
}
MISTAKE = marked("Vezna made a mistake")
"""Titles are English for programs, and in the reader's language on a page."""


class Problem(BaseModel):
    """An error as RFC 9457 has it; `errors` names the fields, and of a text with a grammar the column, from 1."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:vezna:invalid",
                "title": "This cannot be done as asked",
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


TUNINGS = ("none", "grid", "halving")

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": title, "content": {"application/problem+json": {"schema": Problem.model_json_schema()}}}
    for status, title in STATUS.values()
}
"""For `responses=` of a route: PROBLEMS[404] and the like."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for its documentation."""
    return {status: PROBLEMS[status] for status in statuses}


def install(app: FastAPI) -> None:
    """Answer every exception of the tree, and every mistake in a request, in one shape."""
    app.add_exception_handler(VeznaError, _known)
    for away in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(away, _database_away)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _mistake)


REMEDIES = {
    "missing": "give it",
    "extra_forbidden": "remove it, or look up its spelling in /api/v1/openapi.json",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "too_short": "at least {min_length}",
    "too_long": "at most {max_length}",
    "literal_error": "choose from: {expected}",
    "enum": "choose from: {expected}",
    "finite_number": "a number such as 0.01",
    "float_type": "a number such as 0.01",
    "float_parsing": "a number such as 0.01",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text, in quotes",
    "list_type": "a list, in brackets",
    "json_invalid": "send JSON",
}
"""What to do, by pydantic's type of error; its context fills the braces."""


def field_errors(errors: Sequence[Any]) -> tuple[FieldError, ...]:
    """Pydantic's errors with paths as a person would write them: no `body`, no name of a union's branch."""
    return tuple(_field_error(error["type"], error["loc"], str(error["msg"]), error.get("ctx", {})) for error in errors)


def _field_error(kind: str, loc: Sequence[str | int], message: str, context: Mapping[str, Any]) -> FieldError:
    if kind == "wrong":  # one of ours: see domain.names
        return FieldError(_path([*loc, *filter(None, [context["path"]])]), message, context["remedy"])
    if kind.startswith("union_tag"):
        of_tuning = "tuning" in loc
        if kind == "union_tag_invalid":
            message = f"there is no {'tuning' if of_tuning else 'method'} {context['tag']!r}"
        return FieldError(_path(loc), message, f"choose from: {', '.join(TUNINGS if of_tuning else METHODS)}")
    values = {name: f"{value:g}" if isinstance(value, float) else value for name, value in context.items()}
    return FieldError(_path(loc), message.removeprefix("Value error, "), REMEDIES.get(kind, "").format(**values))


def _path(loc: Sequence[str | int]) -> str:
    parts = [str(part) for part in loc if part != OF_KEY]
    if parts[:1] in (["body"], ["query"], ["path"], ["header"]):
        parts = parts[1:]
    return legible(".".join(part for place, part in enumerate(parts) if not _is_branch(parts, place)))


def _is_branch(parts: Sequence[str], place: int) -> bool:
    """Whether a part is the name of a union's branch: of `method`, of an entry of `methods`, or of `tuning`."""
    part, before = parts[place], parts[:place]
    if part in TUNINGS and before[-1:] == ["tuning"]:
        return True
    return part in METHODS and (before[-1:] == ["method"] or before[-2:-1] == ["methods"])


def _known(request: Request, error: Exception) -> Response:
    kind = next((k for k in STATUS if isinstance(error, k)), None)
    status, title = STATUS[kind] if kind else (500, MISTAKE)
    fields = error.fields if isinstance(error, Invalid) else ()
    answer = _answer(request, status, kind.__name__.lower() if kind else "mistake", title, str(error), fields)
    return _later(answer) if status == 503 else answer


def _database_away(request: Request, error: Exception) -> Response:
    log.warning("the database is away", path=request.url.path, error=str(error))
    status, title = STATUS[Unavailable]
    detail = "The database does not answer. Nothing that was accepted is lost; try again in a few seconds."
    return _later(_answer(request, status, "unavailable", title, detail))


def _later(answer: Response) -> Response:
    answer.headers["Retry-After"] = "5"
    return answer


def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    fields = field_errors(error.errors())
    detail = "; ".join(f"{f.path}: {f.message}" if f.path else f.message for f in fields)
    return _answer(request, 422, "invalid", STATUS[Invalid][1], detail, fields)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    title = marked("There is no such page") if error.status_code == 404 else str(error.detail)
    answer = _answer(request, error.status_code, "http", title, f"{request.method} {request.url.path}: {error.detail}")
    answer.headers.update(error.headers or {})
    return answer


def _gone(request: Request, error: Exception) -> Response:
    """Who asked left before the request was read: a form that was changed again. Nobody reads this answer."""
    return Response(status_code=400)


def _mistake(request: Request, error: Exception) -> Response:
    log.error("unexpected error", path=request.url.path, exc_info=error)
    return _answer(
        request,
        500,
        "mistake",
        MISTAKE,
        "The server's log says more. Nothing that was accepted is lost.",
    )


def _answer(
    request: Request, status: int, kind: str, title: str, detail: str, fields: Sequence[FieldError] = ()
) -> Response:
    if not wants_json(request):
        return error_page(request, status=status, title=gettext(title), message=detail)
    return problem(status, kind, title, detail, fields)


def problem(status: int, kind: str, title: str, detail: str, fields: Sequence[FieldError] = ()) -> Response:
    """An answer for a program."""
    errors = [{"path": f.path, "message": f.message, "remedy": f.remedy} | _place(f) for f in fields]
    body = {"type": f"urn:vezna:{kind}", "title": title, "status": status, "detail": detail, "errors": errors}
    return JSONResponse(body, status_code=status, media_type="application/problem+json")


def _place(error: FieldError) -> dict[str, int]:
    return {"column": error.column} if error.column is not None else {}


def wants_json(request: Request) -> bool:
    """A program asks: everything below /api and the probes."""
    return request.url.path.startswith(("/api/", "/livez", "/readyz", "/metrics"))
