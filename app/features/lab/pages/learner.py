"""Whose progress a page of the Lab shows: the user's; without login, that of the name that this browser has chosen."""

import re
import secrets
from typing import Annotated

from fastapi import Depends, Request
from starlette.responses import Response

from app.web.http.dependencies import User

COOKIE = "vezna_learner"
VALUE = re.compile(r"[A-Za-z0-9_-]{22}")
GUEST = "guest "
"""Before the cookie's value, in the key of a learner without an account."""
A_YEAR = 365 * 24 * 3600


def learner_of(request: Request, user: User) -> str:
    """The key of the learner; empty without login, and without a name."""
    if user.user_id is not None:
        return user.owner
    sent = request.cookies.get(COOKIE, "")
    return f"{GUEST}{sent}" if VALUE.fullmatch(sent) else ""


Learner = Annotated[str, Depends(learner_of)]


def new_guest() -> str:
    """The key of another learner without an account."""
    return f"{GUEST}{secrets.token_urlsafe(16)}"


def remember(request: Request, answer: Response, learner: str) -> None:
    """Have this browser learn under a name from now on; nothing for users, whom the login names."""
    if learner.startswith(GUEST):
        secure = request.url.scheme == "https"
        value = learner.removeprefix(GUEST)
        answer.set_cookie(COOKIE, value, max_age=A_YEAR, secure=secure, httponly=True, samesite="lax")


def forget(request: Request, answer: Response) -> None:
    """Have this browser learn under no name."""
    answer.delete_cookie(COOKIE, secure=request.url.scheme == "https", httponly=True, samesite="lax")
