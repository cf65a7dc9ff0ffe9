"""A user's own account: sessions, API tokens, password."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.accounts.policy import SCOPES, Identity, Scope
from app.domain.errors import Invalid, TooMany, Unauthenticated
from app.domain.messages import _
from app.services.users import login, passwords, sessions, tokens
from app.services.users import users as user_service
from app.store.database.session import Database
from app.store.models import hub_tokens
from app.store.tables import now
from app.store.users import queries as users
from app.web.http.access import visitor_of
from app.web.http.dependencies import Db, Reading, RowId, User
from app.web.pages.account.accounts import OwnId
from app.web.pages.account.context import AccountPage
from app.web.site import account_parts, sites
from app.web.templating import Render
from app.words.i18n import marked

router = APIRouter(prefix="/account", include_in_schema=False)

PAGE = "account/show.html"
DONE = {
    "password": marked("The password is changed. Every other session has ended."),
    "sessions": marked("Every other session has ended."),
    "hub-token": marked("The hub token is stored."),
    "no-hub-token": marked("The hub token is removed."),
}
Text = Annotated[str, Form(max_length=10_000)]


def account_page(session: Session, user_id: int, session_id: int | None) -> AccountPage:
    user = users.get(session, user_id)
    return AccountPage(
        user=user,
        sessions=sessions.of_user(session, user_id),
        current_session=session_id,
        tokens=tokens.of_user(session, user_id),
        hub_token=hub_tokens.of_user(session, user_id),
        parts=account_parts(session, user),
        scopes=[scope for scope in Scope if scope in SCOPES[user.role]],
        now=now(),
    )


@router.get("")
def show(session: Reading, render: Render, own_id: OwnId, user: User, done: str = "") -> Response:
    """Sessions, tokens, and the form of a new password."""
    said = {**DONE, **{name: text for site in sites() for name, text in site.account_done.items()}}
    return render.page(PAGE, replace(account_page(session, own_id, user.session_id), done=said.get(done, "")))


@router.post("/sessions/others/end")
def end_other_sessions(db: Db, own_id: OwnId, user: User) -> Response:
    with db.transaction() as session:
        sessions.end_others(session, own_id, user.session_id)
    return RedirectResponse("/account?done=sessions", 303)


@router.post("/sessions/{session_id}/end")
def end_session(db: Db, own_id: OwnId, session_id: RowId) -> Response:
    with db.transaction() as session:
        sessions.end(session, own_id, session_id)
    return RedirectResponse("/account#sessions", 303)


@router.post("/password")
def change_password(
    request: Request,
    db: Db,
    render: Render,
    own_id: OwnId,
    user: User,
    current: Text = "",
    password: Text = "",
    repeated: Text = "",
) -> Response:
    """Change the password; it ends every other session."""
    try:
        if password != repeated:
            raise Invalid.field("repeated", _("The passwords differ"), _("Type the same password twice"))
        verified = verified_password(request, db, user, current)
        stored = passwords.accepted(password, user.email, user.name)
        _replace(db, own_id, user, verified, stored)
    except Invalid as error:
        with db.reading() as session:
            page = replace(account_page(session, own_id, user.session_id), errors=error.fields)
        return render.page(PAGE, page, status=422)
    return RedirectResponse("/account?done=password", 303)


def verified_password(request: Request, db: Database, user: Identity, current: str) -> str | None:
    """The hash of the current password; the attempt counts as a login. Raises Invalid."""
    try:
        return login.verify(db, user.email, current, visitor_of(request), lambda _session, row: row.password_hash)
    except Unauthenticated:
        raise Invalid.field("current", _("This is not the current password"), _("Type it again")) from None
    except TooMany as error:
        raise Invalid.field("current", error.message) from None


def _replace(db: Database, own_id: int, user: Identity, verified: str | None, password_hash: str) -> None:
    """Set the password if it still is the verified one. Raises Invalid."""
    with db.transaction() as session:
        row = users.get(session, own_id, lock=True)
        if row.disabled or row.password_hash != verified:
            raise Invalid.field("current", _("The password was changed meanwhile"), _("Type the new one"))
        user_service.set_password(session, row, password_hash, kept_session=user.session_id)
