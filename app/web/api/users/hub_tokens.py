"""The hub token of the request's user over REST: whether one is stored, never which."""

from datetime import datetime

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from app.domain.accounts.policy import Identity
from app.domain.errors import Conflict
from app.domain.messages import _
from app.services.ownership.vault import Vault
from app.services.users import hub_tokens as service
from app.services.users.hub_tokens import NewHubToken
from app.store.models import hub_tokens
from app.store.tables import HubTokenRow
from app.store.users import queries as users
from app.web.http.dependencies import Config, Db, Reading, User
from app.web.http.errors import problems

router = APIRouter(prefix="/hub-token", tags=["account"])


class HubTokenOut(BaseModel):
    """Whether the user has stored a token of the hub."""

    stored: bool
    ends_with: str = ""
    """Its last four characters."""
    stored_at: datetime | None = None

    @classmethod
    def of(cls, row: HubTokenRow | None) -> "HubTokenOut":
        return cls(stored=True, ends_with=row.hint, stored_at=row.created_at) if row else cls(stored=False)


@router.get("", operation_id="getHubToken", responses=problems(409))
def show(session: Reading, user: User) -> HubTokenOut:
    """Whether you have stored a token of the Hugging Face hub. No answer contains it."""
    return HubTokenOut.of(hub_tokens.of_user(session, _id_of(user)))


@router.put("", operation_id="setHubToken", responses=problems(403, 409, 413, 422, 503))
def store(db: Db, settings: Config, user: User, new: NewHubToken) -> HubTokenOut:
    """Store your token of the Hugging Face hub, encrypted, in place of an earlier one. Workers use it for your runs
    only."""
    with db.transaction() as session:
        row = service.store(session, Vault(settings), users.get(session, _id_of(user), lock=True), new)
        return HubTokenOut.of(row)


@router.delete("", status_code=204, operation_id="removeHubToken", responses=problems(403, 404, 409))
def remove(db: Db, user: User) -> Response:
    """Remove your token of the hub."""
    with db.transaction() as session:
        service.remove(session, _id_of(user))
    return Response(status_code=204)


def _id_of(user: Identity) -> int:
    if user.user_id is None:
        raise Conflict(_("This server has no login. Set VEZNA_HUB_TOKEN or HF_TOKEN of the workers instead."))
    return user.user_id
