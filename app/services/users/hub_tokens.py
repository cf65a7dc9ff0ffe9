"""A user's token of the Hugging Face hub: stored encrypted, never shown again, used for that user's work only.

    runs, their exports, and inference with them     the token of the run's owner
    inspecting a base model, fetching an upload      the token of its owner
    estimates, previews, baselines                   the token of the user they are for
    pushes                                           the token of the push's owner

Workers send it where the hub refuses without it (`worker.engine.models.hub.access`). Pushes use it always.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.accounts.policy import SCOPES, Scope
from app.domain.errors import Forbidden, NotFound
from app.domain.messages import _
from app.domain.models.hub_access import HubAccess
from app.domain.validation import invalid_field
from app.services.ownership.vault import Vault
from app.services.users import audit
from app.store.models import hub_tokens
from app.store.tables import HubTokenRow, UserRow, now
from app.store.users import queries as users

HINT = 4
"""Characters of a token that are shown."""
LEAST, MOST = 20, 300
"""Length of a token in characters; the hub's have 37."""


def _is_token(text: str) -> str:
    text = text.strip()
    if not re.fullmatch(r"[!-~]+", text, re.ASCII) or not LEAST <= len(text) <= MOST:
        raise invalid_field(
            "token",
            _("This is not a token of the hub"),
            _("Copy one from huggingface.co, Settings, Access Tokens; it begins with hf_"),
        )
    return text


class NewHubToken(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra={"example": {"token": "hf_abcdefghijklmnopqrstuvwxyzabcdefgh"}},
    )

    token: Annotated[str, Field(max_length=10_000, repr=False), AfterValidator(_is_token)]


def store(session: Session, vault: Vault, user: UserRow, new: NewHubToken) -> HubTokenRow:
    """Store a user's token, in place of an earlier one; `user` is locked. Raises Forbidden for a role without runs, and
    Unavailable without a key."""
    if Scope.RUN not in SCOPES[user.role]:
        raise Forbidden(_("Your role %(role)s starts no runs, so it needs no hub token.", role=user.role.value))
    row = hub_tokens.of_user(session, user.id)
    replaced = row is not None
    if row is None:
        row = HubTokenRow(user_id=user.id)
        session.add(row)
    row.token, row.hint, row.created_at = vault.encrypt(new.token), new.token[-HINT:], now()
    session.flush()
    audit.record(session, Action.SET_HUB_TOKEN, user.id, replaced=replaced)
    return row


def remove(session: Session, user_id: int) -> None:
    """Remove a user's token. Raises NotFound."""
    if not hub_tokens.remove(session, user_id):
        raise NotFound(_("There is no hub token."))
    audit.record(session, Action.REMOVE_HUB_TOKEN, user_id)


def access_of(session: Session, vault: Vault, user_id: int | None) -> HubAccess | None:
    """A user's access to the hub, for a worker; None without a token, without login, for a disabled user, and for a
    role that may not run. Raises Unavailable without the key."""
    user = users.find(session, user_id)
    may_run = user is not None and not user.disabled and Scope.RUN in SCOPES[user.role]
    row = hub_tokens.of_user(session, user.id) if user and may_run else None
    return HubAccess(user_id=row.user_id, token=vault.decrypt(row.token)) if row else None
