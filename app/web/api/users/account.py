"""The account of a request over REST: its user, and API tokens in exchange for a password."""

from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.accounts.policy import Role, Scope
from app.domain.errors import Conflict, Invalid
from app.domain.messages import _
from app.domain.validation import Verbatim
from app.services.ownership.vault import Vault
from app.services.users import audit, login, tokens
from app.services.users.login import CodeNeeded
from app.services.users.tokens import NewToken
from app.store.tables import UserRow
from app.web.http.access import visitor_of
from app.web.http.dependencies import Config, Db, User
from app.web.http.errors import problems

login_router = APIRouter(tags=["account"])
router = APIRouter(prefix="/me", tags=["account"])

NO_LOGIN = _("This server has no login. Send requests without a token.")


class Credentials(BaseModel):
    """A password, and the token to be created for it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"email": "ada@example.org", "password": "seven grey herons wait", "token": {"name": "laptop"}}
        },
    )

    email: Annotated[Verbatim, Field(max_length=1000)]
    password: Annotated[str, Field(max_length=10_000)]
    token: NewToken
    code: Annotated[str, Field(max_length=100)] = ""
    """Second factor of an account that has one: a code of the app, or a recovery code."""


class TokenCreated(BaseModel):
    """A new token. It cannot be read again."""

    id: int
    token: str
    name: str
    scopes: list[Scope]
    expires_at: datetime | None


class Account(BaseModel):
    """The user of the request, and what the request may do."""

    email: str
    """Empty where the server has no login."""
    name: str
    role: Role
    scopes: list[Scope]


@login_router.post(
    "/login", status_code=201, operation_id="login", responses=problems(400, 401, 409, 413, 422, 429, 503)
)
def log_in(request: Request, db: Db, settings: Config, credentials: Credentials) -> TokenCreated:
    """Create an API token for a password, and for a code where the account has a second factor. Failed logins are
    limited by account and by address."""
    if not settings.login_required:
        raise Conflict(NO_LOGIN)

    def create(session: Session, user: UserRow, by: str = "password") -> TokenCreated:
        audit.record(session, Action.LOG_IN, user=user, by=f"{by}, for a token")
        row, token = tokens.create(session, user, credentials.token)
        return TokenCreated(
            id=row.id, token=token, name=row.name, scopes=list(map(Scope, row.scope_names)), expires_at=row.expires_at
        )

    try:
        return login.verify_first(db, credentials.email, credentials.password, visitor_of(request), create)
    except CodeNeeded as login_waits:
        if not credentials.code:
            raise Invalid.field(
                "code",
                _("The account has a second factor"),
                _("Send the code of the authenticator app, or a recovery code"),
            ) from None
        with_code = partial(create, by="password and code")
        return login.finish(db, Vault(settings), login_waits.waiting, credentials.code, with_code)


@router.get("", operation_id="getAccount")
def show(user: User) -> Account:
    """The user of the request, and the scopes of its session or token."""
    scopes = [scope for scope in Scope if user.may(scope)]
    return Account(email=user.email, name=user.name, role=user.role, scopes=scopes)


@router.delete("/token", status_code=204, operation_id="revokeOwnToken", responses=problems(404, 409))
def revoke(db: Db, user: User) -> Response:
    """Revoke the token that the request was sent with."""
    if user.user_id is None or user.token_id is None:
        raise Conflict(_("The request was sent without an API token, so there is none to revoke."))
    with db.transaction() as session:
        tokens.revoke(session, user.user_id, user.token_id)
    return Response(status_code=204)
