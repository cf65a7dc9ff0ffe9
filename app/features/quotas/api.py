"""Quotas over REST: a user's own usage, and for admins the limits and usage of all."""

from typing import Annotated

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.domain.accounts.policy import Role
from app.domain.errors import Conflict
from app.domain.messages import _
from app.features.quotas.rules import LimitChange, month_of
from app.features.quotas.services import quotas as service
from app.features.quotas.services.quotas import Account
from app.store.tables import UserRow, now
from app.store.users import queries as users
from app.web.api.answer import Answer
from app.web.http.dependencies import Db, Reading, User
from app.web.http.errors import problems

router = APIRouter(tags=["quotas"])


class LimitsOut(Answer):
    """Limits; null: unlimited."""

    concurrent_runs: int | None
    device_seconds: int | None
    """Per calendar month (UTC)."""
    stored_bytes: int | None


class UsageOut(Answer):
    """What a user uses of the quotas."""

    running: int
    waiting: int
    used_seconds: float
    """Device-seconds of ended attempts of this month, as measured."""
    reserved_seconds: float
    """Device-seconds reserved for runs that are queued, running, or to be queued by tuning, as predicted."""
    stored_bytes: int
    """Of uploads, datasets, artifacts, exports and checkpoints of paused runs."""
    expected_bytes: int
    """That runs and exports in progress are predicted to add, where that is known."""


class AccountUsage(BaseModel):
    """A user's usage, and the limits in effect."""

    email: str
    month: str
    """In UTC: `2026-11`."""
    limits: LimitsOut
    usage: UsageOut

    @classmethod
    def of(cls, user: UserRow, account: Account) -> "AccountUsage":
        return cls(
            email=user.email,
            month=f"{month_of(now()):%Y-%m}",
            limits=LimitsOut.from_object(account.limits),
            usage=UsageOut.from_object(account.usage),
        )


class QuotasOut(BaseModel):
    """Limits of the roles, and every user's limits and usage."""

    roles: dict[Role, LimitsOut]
    users: list[AccountUsage]


@router.get("/me/usage", operation_id="getOwnUsage", responses=problems(409))
def own(session: Reading, user: User) -> AccountUsage:
    """What the user of the request uses this month, and the limits in effect."""
    if user.user_id is None:
        raise Conflict(_("This server has no login, so there are no quotas."))
    return AccountUsage.of(users.get(session, user.user_id), service.account_of(session, user.user_id))


@router.get("/quotas", operation_id="listQuotas")
def listing(session: Reading) -> QuotasOut:
    """Limits of the roles, and the usage of every user this month."""
    return _listed(session)


@router.patch("/quotas/{subject}", operation_id="changeLimits", responses=problems(404))
def change(
    db: Db,
    subject: Annotated[str, Path(description="A role, or a user's e-mail address.", max_length=300)],
    change: Annotated[LimitChange, Body()],
) -> QuotasOut:
    """Set limits of a role or of a user. `unlimited` lifts a limit; `default` leaves a user to the limit of the role,
    and a role to none. A lower limit ends nothing: it refuses what comes next."""
    with db.transaction() as session:
        service.change_limits(session, service.subject_of(session, subject), change)
        return _listed(session)


def _listed(session: Session) -> QuotasOut:
    rows = users.all_of_them(session)
    accounts = service.accounts(session, rows)
    roles = {role: LimitsOut.from_object(limits) for role, limits in service.role_limits(session).items()}
    return QuotasOut(roles=roles, users=[AccountUsage.of(row, accounts[row.id]) for row in rows])
