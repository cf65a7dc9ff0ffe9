"""A user's second factor: set up, confirm, other recovery codes, turn off. What weakens it needs the password."""

from dataclasses import replace
from typing import Annotated

import segno
from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from markupsafe import Markup
from sqlalchemy.orm import Session

from app.domain.errors import Invalid, TooMany, Unauthenticated
from app.features.second_factor import service as second_factor
from app.features.second_factor.context import CodePage, FactorPage
from app.services.ownership.vault import Vault
from app.services.users import audit, login
from app.store.database.session import Database
from app.store.tables import UserRow
from app.store.users import queries as users
from app.web.http.access import actor_of, identity_of, set_cookie, visitor_of
from app.web.http.dependencies import Config, Db, RowId, Secrets, User
from app.web.pages.account.accounts import OwnId, WithLogin
from app.web.pages.account.login_routes import HOME, login_page, own_path, uncached
from app.web.pages.account.routes import verified_password
from app.web.templating import Render, RenderSignedOut

router = APIRouter(prefix="/account/factor", include_in_schema=False)
other_router = APIRouter(include_in_schema=False, dependencies=[WithLogin])

PAGE, CODE_PAGE = "second_factor/setup.html", "second_factor/code.html"
Text = Annotated[str, Form(max_length=10_000)]


@router.post("")
def begin(
    request: Request, db: Db, render: Render, vault: Secrets, own_id: OwnId, user: User, current: Text = ""
) -> Response:
    """Make a secret, and show it with its QR code."""
    try:
        verified_password(request, db, user, current)
    except Invalid as error:
        return _shown(render, FactorPage(errors=error.fields), 422)
    with db.transaction() as session:
        second_factor.begin(session, vault, users.get(session, own_id, lock=True))
    return _shown(render, _setup(db, vault, own_id))


@router.post("/confirm")
def confirm(db: Db, render: Render, vault: Secrets, own_id: OwnId, code: Text = "") -> Response:
    """Turn the factor on by a code, and show the recovery codes."""
    try:
        codes = second_factor.confirm(db, vault, own_id, code)
    except Invalid as error:
        return _shown(render, FactorPage(confirming=True, errors=error.fields), 422)
    return _shown(render, FactorPage(codes=tuple(codes)))


@router.post("/codes")
def renew_codes(request: Request, db: Db, render: Render, own_id: OwnId, user: User, current: Text = "") -> Response:
    """Replace the recovery codes, and show the new ones."""
    try:
        verified_password(request, db, user, current)
    except Invalid as error:
        return _shown(render, FactorPage(errors=error.fields), 422)
    with db.transaction() as session:
        codes = second_factor.renew_codes(session, users.get(session, own_id, lock=True))
    return _shown(render, FactorPage(codes=tuple(codes)))


@router.post("/remove")
def remove(request: Request, db: Db, render: Render, own_id: OwnId, user: User, current: Text = "") -> Response:
    """Turn the factor off."""
    try:
        verified_password(request, db, user, current)
    except Invalid as error:
        return _shown(render, FactorPage(errors=error.fields), 422)
    with db.transaction() as session:
        second_factor.remove(session, users.get(session, own_id, lock=True))
    return RedirectResponse("/account?done=factor#factor", 303)


@other_router.post("/users/{user_id}/factor/reset")
def reset(db: Db, user_id: RowId) -> Response:
    """Turn the second factor of a user off, who has lost it."""
    with db.transaction() as session:
        second_factor.remove(session, users.get(session, user_id, lock=True))
    return RedirectResponse("/users", 303)


@other_router.post("/login/code")
def finish_login(
    request: Request,
    db: Db,
    render: RenderSignedOut,
    settings: Config,
    vault: Secrets,
    waiting: Text = "",
    code: Text = "",
    next: Text = HOME,
) -> Response:
    """Begin the session of a login that waits for a code, or show its form again."""
    visitor, before = visitor_of(request), identity_of(request.scope)
    page = CodePage(own_path(next), waiting)
    audit.act_as(actor_of(None, visitor))  # not the user of the session that ends

    def begin(session: Session, user: UserRow) -> str:
        return second_factor.begin_after_code(session, settings, waiting, user, visitor, before)

    try:
        secret = login.finish(db, vault, waiting, code, begin)
    except Unauthenticated as error:  # it has expired
        again = login_page(settings, page.next, refused=error.message)
        return uncached(render.page("account/login.html", again, status=422))
    except Invalid as error:
        return uncached(render.page(CODE_PAGE, replace(page, errors=error.fields), status=422))
    except TooMany as error:
        refused = render.page(CODE_PAGE, replace(page, refused=error.message), status=429)
        refused.headers["Retry-After"] = str(error.retry_seconds)
        return uncached(refused)
    answer = RedirectResponse(page.next, 303)
    set_cookie(request, answer, secret)
    return answer


def _setup(db: Database, vault: Vault, own_id: int) -> FactorPage:
    with db.reading() as session:
        made = second_factor.setup_of(session, vault, users.get(session, own_id))
    if made is None:  # confirmed meanwhile, in another window
        return FactorPage()
    secret, address = made
    drawn = segno.make(address, error="m").svg_inline(scale=4, border=4, dark="#000", light="#fff", omitsize=True)
    return FactorPage(secret, Markup(drawn), confirming=True)  # noqa: S704 segno draws squares only


def _shown(render: Render, page: FactorPage, status: int = 200) -> Response:
    answer = render.page(PAGE, page, status=status)
    answer.headers["Cache-Control"] = "no-store"
    return answer
