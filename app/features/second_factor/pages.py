"""A user's second factor: set up, confirm, other recovery codes, turn off. What weakens it needs the password."""

from typing import Annotated

import segno
from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from markupsafe import Markup

from app.domain.errors import Invalid
from app.features.second_factor import service as second_factor
from app.services.ownership.vault import Vault
from app.store.database.session import Database
from app.store.users import queries as users
from app.web.http.dependencies import Db, Secrets, User
from app.web.pages.account.accounts import OwnId
from app.web.pages.account.context import FactorPage
from app.web.pages.account.routes import verified_password
from app.web.templating import Render

router = APIRouter(prefix="/account/factor", include_in_schema=False)

PAGE = "account/factor_setup.html"
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
