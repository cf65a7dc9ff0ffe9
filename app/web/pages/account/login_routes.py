"""Logging in and out, the first admin, and links that set a password."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.accounts.policy import Role
from app.domain.accounts.users import NewUser
from app.domain.errors import Invalid, NotFound, TooMany, Unauthenticated
from app.domain.messages import _
from app.services.users import links, login, passwords, sessions
from app.services.users.first_start import PATH as FIRST_ADMIN
from app.services.users.login import CodeNeeded
from app.settings import Settings
from app.store.database.session import Database
from app.store.tables import UserRow
from app.web.forms.errors import validated
from app.web.http.access import drop_cookie, identity_of, set_cookie, visitor_of
from app.web.http.dependencies import Config, Db
from app.web.pages.account.accounts import OwnId, WithLogin
from app.web.pages.account.context import LoginPage, PasswordPage
from app.web.site import login_parts, sites
from app.web.templating import Renderer, RenderSignedOut

router = APIRouter(include_in_schema=False, dependencies=[WithLogin])

HOME = "/studies"
OWN_PATH = re.compile(r"/(?![/\\])[^\\\s]*")
"""A path of this server. Browsers read `//host` and `/\\host` as another one. Control characters, which PostgreSQL
does not store either, are in none (`own_path`)."""
Text = Annotated[str, Form(max_length=10_000)]


def own_path(path: str) -> str:
    """A path that a login may lead to; any other text leads home."""
    return path if OWN_PATH.fullmatch(path) and path.isprintable() else HOME


def login_page(settings: Settings, onward: str, email: str = "", refused: str = "") -> LoginPage:
    """The form of a login that leads to a path."""
    return LoginPage(onward, email, refused, login_parts(settings, onward))


def second_step(render: Renderer, onward: str, waiting: str) -> Response:
    """The page of a login that waits for its second step."""
    page = next(site.second_step for site in sites() if site.second_step)
    return uncached(render.page(*page(onward, waiting)))


@router.get("/login")
def show_login(request: Request, render: RenderSignedOut, settings: Config, next: str = HOME) -> Response:
    """The form; a browser with a session goes on."""
    if identity_of(request.scope) is not None:
        return RedirectResponse(own_path(next), 303)
    return uncached(render.page("account/login.html", login_page(settings, own_path(next))))


@router.post("/login")
def log_in(
    request: Request,
    db: Db,
    render: RenderSignedOut,
    settings: Config,
    email: Text = "",
    password: Text = "",
    next: Text = HOME,
) -> Response:
    """Begin a session, which replaces that of the browser, or show the form again."""
    before = identity_of(request.scope)
    page = login_page(settings, own_path(next), email.strip())
    try:
        secret = login.log_in(db, email, password, visitor_of(request), before)
    except CodeNeeded as login_waits:
        return second_step(render, page.next, login_waits.waiting)
    except Unauthenticated as error:
        return uncached(render.page("account/login.html", replace(page, refused=error.message), status=422))
    except TooMany as error:
        refused = render.page("account/login.html", replace(page, refused=error.message), status=429)
        refused.headers["Retry-After"] = str(error.retry_seconds)
        return uncached(refused)
    answer = RedirectResponse(page.next, 303)
    set_cookie(request, answer, secret)
    return answer


@router.post("/logout")
def log_out(request: Request, db: Db, own_id: OwnId) -> Response:
    identity = identity_of(request.scope)
    if identity is not None and identity.session_id is not None:
        with suppress(NotFound), db.transaction() as session:  # another logout was faster
            sessions.end(session, own_id, identity.session_id, Action.LOG_OUT)
    answer = RedirectResponse("/login", 303)
    drop_cookie(request, answer)
    answer.headers["Clear-Site-Data"] = '"cache"'  # or the browser's Back would still show pages
    return answer


@router.get("/first-admin/{secret}")
def show_first_admin(db: Db, render: RenderSignedOut, secret: str) -> Response:
    """The form that creates the first admin. Raises NotFound."""
    with db.reading() as session:
        if not links.first_admin_possible(session, secret):
            raise NotFound(links.GONE)
    return uncached(render.page("account/password.html", PasswordPage(FIRST_ADMIN + secret, "", first_admin=True)))


@router.post("/first-admin/{secret}")
def create_first_admin(
    request: Request,
    db: Db,
    render: RenderSignedOut,
    secret: str,
    email: Text = "",
    name: Text = "",
    password: Text = "",
    repeated: Text = "",
) -> Response:
    """Create the first admin, and log in."""
    with db.reading() as session:
        if not links.first_admin_possible(session, secret):
            raise NotFound(links.GONE)
    page = PasswordPage(FIRST_ADMIN + secret, email, name, first_admin=True)
    try:
        new = validated(NewUser, {"email": email, "name": name, "role": Role.ADMIN})
        stored = _accepted(password, repeated, new.email, new.name)
    except Invalid as error:
        return uncached(render.page("account/password.html", replace(page, errors=error.fields), status=422))
    return _logged_in(request, db, lambda session: links.create_first_admin(session, secret, new, stored))


@router.get("/password/{secret}")
def show_password(db: Db, render: RenderSignedOut, secret: str) -> Response:
    """The form that sets a password. Raises NotFound."""
    return uncached(render.page("account/password.html", _password_page(db, secret)))


@router.post("/password/{secret}")
def set_password(
    request: Request, db: Db, render: RenderSignedOut, secret: str, password: Text = "", repeated: Text = ""
) -> Response:
    page = _password_page(db, secret)
    try:
        stored = _accepted(password, repeated, page.email, page.name)
    except Invalid as error:
        return uncached(render.page("account/password.html", replace(page, errors=error.fields), status=422))
    return _logged_in(request, db, lambda session: links.set_password(session, secret, stored))


def _password_page(db: Database, secret: str) -> PasswordPage:
    with db.reading() as session:
        user = links.user_of(session, secret)
    return PasswordPage(f"/password/{secret}", user.email, user.name)


def _accepted(password: str, repeated: str, *known: str) -> str:
    """The hash of a password that was typed twice. Raises Invalid."""
    if password != repeated:
        raise Invalid.field("repeated", _("The passwords differ"), _("Type the same password twice"))
    return passwords.accepted(password, *known)


def _logged_in(request: Request, db: Database, use: Callable[[Session], UserRow]) -> Response:
    """Use a link and begin a session of its user; one with a second factor goes on to the login."""
    with db.transaction() as session:
        user = use(session)
        if login.needs_code(session, user.id):
            return RedirectResponse("/login", 303)
        secret = login.begin(session, user, visitor_of(request), identity_of(request.scope), by="link")
    answer = RedirectResponse(HOME, 303)
    set_cookie(request, answer, secret)
    return answer


def uncached(answer: Response) -> Response:
    answer.headers["Cache-Control"] = "no-store"
    return answer
