"""A user's API tokens: create one, whose secret is shown once, and revoke."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import RedirectResponse, Response

from app.domain.errors import Conflict, FieldError, Invalid
from app.services.users import tokens
from app.services.users.tokens import NewToken
from app.store.users import queries as users
from app.web.forms.errors import validated
from app.web.http.dependencies import Db, RowId, User
from app.web.pages.account.accounts import OwnId
from app.web.pages.account.context import NewTokenForm, ShownToken
from app.web.pages.account.routes import PAGE, account_page
from app.web.templating import Render

router = APIRouter(prefix="/account/tokens", include_in_schema=False)


@router.post("")
def create(
    db: Db,
    render: Render,
    own_id: OwnId,
    user: User,
    name: Annotated[str, Form(max_length=10_000)] = "",
    scopes: Annotated[list[str], Form(max_length=20)] = [],  # noqa: B006
    expires_days: Annotated[str, Form(max_length=20)] = "",
) -> Response:
    """Create a token and show its secret."""
    form = NewTokenForm(name, tuple(scopes), expires_days)
    errors: tuple[FieldError, ...] = ()
    created: ShownToken | None = None
    try:
        new = validated(NewToken, {"name": name, "scopes": scopes, "expires_days": expires_days or None})
        with db.transaction() as session:
            _row, secret = tokens.create(session, users.get(session, own_id, lock=True), new)
        form, created = NewTokenForm(), ShownToken(new.name, secret)
    except Invalid as error:
        errors = error.fields
    except Conflict as error:
        errors = error.at("name")
    with db.reading() as session:
        page = account_page(session, own_id, user.session_id)
    answer = render.page(PAGE, replace(page, form=form, created=created, errors=errors), status=422 if errors else 200)
    answer.headers["Cache-Control"] = "no-store"
    return answer


@router.post("/{token_id}/revoke")
def revoke(db: Db, own_id: OwnId, token_id: RowId) -> Response:
    with db.transaction() as session:
        tokens.revoke(session, own_id, token_id)
    return RedirectResponse("/account#tokens", 303)
