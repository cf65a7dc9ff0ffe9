"""A user's token of the hub: store it, and remove it."""

from contextlib import suppress
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import RedirectResponse, Response

from app.domain.errors import Invalid, NotFound, Unavailable
from app.services.ownership.vault import Vault
from app.services.users import hub_tokens
from app.services.users.hub_tokens import NewHubToken
from app.store.users import queries as users
from app.web.forms.errors import validated
from app.web.http.dependencies import Config, Db, User
from app.web.pages.account.accounts import OwnId
from app.web.pages.account.routes import PAGE, account_page
from app.web.templating import Render

router = APIRouter(prefix="/account/hub-token", include_in_schema=False)
FIELD = "hub_token"


@router.post("")
def store(
    db: Db,
    settings: Config,
    render: Render,
    own_id: OwnId,
    user: User,
    hub_token: Annotated[str, Form(max_length=10_000)] = "",
) -> Response:
    """Store the token, in place of an earlier one. No answer contains it."""
    try:
        new = validated(NewHubToken, {"token": hub_token})
        with db.transaction() as session:
            hub_tokens.store(session, Vault(settings), users.get(session, own_id, lock=True), new)
    except Invalid as error:
        errors = tuple(replace(field, path=FIELD) for field in error.fields)
    except Unavailable as error:
        errors = error.at(FIELD)
    else:
        return RedirectResponse("/account?done=hub-token#hub-token", 303)
    with db.reading() as session:
        page = account_page(session, own_id, user.session_id)
    return render.page(PAGE, replace(page, errors=errors), status=422)


@router.post("/remove")
def remove(db: Db, own_id: OwnId) -> Response:
    """Remove the token; one that is gone already is removed."""
    with suppress(NotFound), db.transaction() as session:
        hub_tokens.remove(session, own_id)
    return RedirectResponse("/account?done=no-hub-token#hub-token", 303)
