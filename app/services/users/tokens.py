"""API tokens: shown once, stored as SHA-256."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.domain.accounts import credentials
from app.domain.accounts.audit import Action
from app.domain.accounts.policy import SCOPES, Identity, Scope, of_token
from app.domain.accounts.users import MAX_NAME_LENGTH
from app.domain.errors import Conflict, Invalid, NotFound
from app.domain.messages import _, choose_from
from app.domain.validation import Name
from app.services.users import audit
from app.services.users.sessions import SEEN_EVERY, Visitor
from app.store.database.session import Database
from app.store.tables import ApiTokenRow, UserRow, now
from app.store.users import api_tokens

MOST_TOKENS = 50
"""Tokens of a user, without expired ones."""
DEFAULT_DAYS = 90
MOST_DAYS = 3650
LISTED = timedelta(days=30)
"""Time that an expired token stays in its user's list."""


class NewToken(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"example": {"name": "laptop", "scopes": ["read", "run"]}}
    )

    name: Annotated[Name, Field(max_length=MAX_NAME_LENGTH)]
    """For what or where it is used, for the list."""
    scopes: Annotated[list[Scope], Field(min_length=1)] = [Scope.READ, Scope.RUN]
    """`read`, `run`, `admin`; the user's role bounds them."""
    expires_days: Annotated[int, Field(ge=1, le=MOST_DAYS)] | None = DEFAULT_DAYS
    """Days until it expires; null: never."""


def create(session: Session, user: UserRow, new: NewToken) -> tuple[ApiTokenRow, str]:
    """Create a token. Returns its row and the token, which cannot be read again. Raises Invalid for a scope that the
    user's role lacks, and Conflict for one token too many."""
    allowed = SCOPES[user.role]
    if lacking := [scope.value for scope in new.scopes if scope not in allowed]:
        raise Invalid.field(
            "scopes",
            _("The role %(role)s does not have the scope %(scope)s", role=user.role.value, scope=lacking[0]),
            choose_from([scope.value for scope in Scope if scope in allowed]),
        )
    if api_tokens.count_of(session, user.id, now()) >= MOST_TOKENS:
        raise Conflict(_("There are %(most)s tokens, which is the limit. Revoke one first.", most=MOST_TOKENS))
    token = credentials.new_token()
    row = ApiTokenRow(
        user_id=user.id,
        name=new.name,
        secret_sha256=credentials.digest(token),
        hint=credentials.hint(token),
        scope_names=[scope.value for scope in Scope if scope in new.scopes],
        expires_at=None if new.expires_days is None else now() + timedelta(days=new.expires_days),
    )
    session.add(row)
    session.flush()
    audit.record(session, Action.CREATE_TOKEN, row.id, owner=user.email, token=row.hint, scopes=row.scope_names)
    return row, token


def authenticate(db: Database, token: str, visitor: Visitor) -> Identity | None:
    """The user of a token; None if there is none or it has expired. One query, and a write every `SEEN_EVERY`."""
    if not credentials.is_token(token):
        return None
    at = now()
    with db.reading() as session:
        pair = api_tokens.by_secret(session, credentials.digest(token))
    if pair is None or (pair[0].expires_at is not None and pair[0].expires_at <= at):
        return None
    row, user = pair
    if row.last_used_at is None or row.last_used_at <= at - SEEN_EVERY:
        with db.transaction() as session:
            api_tokens.used(session, row.id, at, visitor.address)
    return Identity(user.id, user.email, user.name, user.role, of_token(user.role, row.scopes), token_id=row.id)


def of_user(session: Session, user_id: int) -> Sequence[ApiTokenRow]:
    """A user's tokens, expired ones too, the newest first."""
    return api_tokens.of_user(session, user_id)


def revoke(session: Session, user_id: int, token_id: int) -> None:
    """Revoke a token of a user. Raises NotFound."""
    if not api_tokens.revoke(session, user_id, token_id):
        raise NotFound(_("There is no token %(token_id)s.", token_id=token_id))
    audit.record(session, Action.REVOKE_TOKEN, token_id)
