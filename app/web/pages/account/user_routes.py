"""Users, for admins: create, change role, disable, and make a link that sets a password."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.accounts.policy import Role
from app.domain.accounts.users import NewUser
from app.domain.errors import Conflict, Invalid
from app.services.users import links
from app.services.users import users as user_service
from app.store.database.session import Database
from app.store.users import queries as users
from app.web.forms.errors import validated
from app.web.http.dependencies import Db, Reading, RowId, User
from app.web.pages.account.accounts import WithLogin
from app.web.pages.account.context import NewUserForm, ShownLink, UsersPage
from app.web.site import users_parts
from app.web.templating import Render

router = APIRouter(prefix="/users", include_in_schema=False, dependencies=[WithLogin])

PAGE = "account/users.html"
Text = Annotated[str, Form(max_length=10_000)]


@router.get("")
def show(session: Reading, render: Render, user: User) -> Response:
    """Every user, and the form of a new one."""
    return render.page(PAGE, _listed(session, UsersPage((), user.user_id)))


@router.post("")
def create(
    request: Request, db: Db, render: Render, user: User, email: Text = "", name: Text = "", role: Text = ""
) -> Response:
    """Create a user and show the link by which it chooses a password."""
    page = UsersPage((), user.user_id, form=NewUserForm(email, name, role))
    try:
        new = validated(NewUser, {"email": email, "name": name, "role": role or Role.MEMBER})
        with db.transaction() as session:
            row = user_service.create(session, new)
            link = _link(request, links.for_password(session, row), row.email)
    except Invalid as error:
        return _page(db, render, replace(page, errors=error.fields), 422)
    except Conflict as error:
        return _page(db, render, replace(page, errors=error.at("email")), 409)
    return _page(db, render, replace(page, form=NewUserForm(), link=link))


@router.post("/{user_id}/link")
def make_link(request: Request, db: Db, render: Render, user: User, user_id: RowId) -> Response:
    """Show a link by which a user chooses a new password. It replaces an earlier one."""
    with db.transaction() as session:
        row = users.get(session, user_id, lock=True)
        link = _link(request, links.for_password(session, row), row.email)
    return _page(db, render, UsersPage((), user.user_id, link=link))


@router.post("/{user_id}/role")
def change_role(db: Db, render: Render, user: User, user_id: RowId, role: Annotated[Role, Form()]) -> Response:
    return _changed(db, render, user.user_id, lambda session: user_service.set_role(session, user_id, role))


@router.post("/{user_id}/disabled")
def set_disabled(db: Db, render: Render, user: User, user_id: RowId, disabled: Annotated[bool, Form()]) -> Response:
    return _changed(db, render, user.user_id, lambda session: user_service.set_disabled(session, user_id, disabled))


@router.post("/{user_id}/revoke")
def revoke_access(db: Db, render: Render, user: User, user_id: RowId) -> Response:
    """End the sessions of a user and revoke the API tokens."""
    return _changed(db, render, user.user_id, lambda session: user_service.revoke_access(session, user_id))


def _changed(db: Database, render: Render, own_id: int | None, change: Callable[[Session], object]) -> Response:
    try:
        with db.transaction() as session:
            change(session)
    except Conflict as error:
        return _page(db, render, UsersPage((), own_id, refused=error.message), 409)
    return RedirectResponse("/users", 303)


def _listed(session: Session, page: UsersPage) -> UsersPage:
    return replace(page, users=users.all_of_them(session), parts=users_parts(session))


def _page(db: Database, render: Render, page: UsersPage, status: int = 200) -> Response:
    with db.reading() as session:
        page = _listed(session, page)
    answer = render.page(PAGE, page, status=status)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _link(request: Request, secret: str, email: str) -> ShownLink:
    return ShownLink(email, f"{request.base_url}password/{secret}")
