"""Errors below /v1 in OpenAI's form, which its client reads.

Source: https://platform.openai.com/docs/guides/error-codes
"""

from collections.abc import Sequence
from typing import Any, Final

from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from app.domain.errors import FieldError
from app.web.http.errors import OVER_QUOTA
from app.words.i18n import localized

PREFIX: Final = "/v1"
"""Of the routes in OpenAI's form."""
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
CODES = {401: "invalid_api_key", 404: "not_found", 429: "rate_limit_exceeded"}
QUOTA: Final = "insufficient_quota"
"""Code where a user has no device time or room left."""
AS_400 = (409, 413, 422)
"""What that client would otherwise send again, or report without its field."""


class OpenAIError(BaseModel):
    """What is wrong, why, and what to do; `param` names the field."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIProblem(BaseModel):
    """An error answer."""

    error: OpenAIError


def openai_error(status: int, kind: str, detail: str, fields: Sequence[FieldError] = ()) -> Response:
    """The answer."""
    error = OpenAIError(
        message=" ".join(localized(field.located) for field in fields) or localized(detail),
        type=TYPES.get(status, "invalid_request_error" if status < 500 else "server_error"),
        param=fields[0].path or None if fields else None,
        code=QUOTA if kind == OVER_QUOTA else CODES.get(status, kind),
    )
    return JSONResponse(OpenAIProblem(error=error).model_dump(), status_code=400 if status in AS_400 else status)


def openai_problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for its documentation."""
    return {status: {"model": OpenAIProblem, "description": "Error"} for status in statuses}
