"""Limits of roles and users with their usage, for admins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.accounts.policy import Role
from app.domain.errors import FieldError, Invalid
from app.domain.messages import _
from app.features.quotas.rules import LimitChange, Limits, Quota, Usage
from app.features.quotas.services import quotas as service
from app.store.database.session import Database
from app.store.tables import UserRow
from app.store.users import queries as users
from app.web.forms.errors import HasErrors, validated
from app.web.http.dependencies import Db, Reading
from app.web.pages.account.accounts import WithLogin
from app.web.templating import Render
from app.words.format import typed
from app.words.i18n import gettext

router = APIRouter(prefix="/users/limits", include_in_schema=False, dependencies=[WithLogin])

PAGE = "quotas/limits.html"
HOUR, GIB = 3600, 2**30
Text = Annotated[str, Form(max_length=300)]
FIELDS = {
    Quota.CONCURRENT_RUNS: "concurrent_runs",
    Quota.DEVICE_SECONDS: "device_hours",
    Quota.STORED_BYTES: "stored_gib",
}
UNITS = {Quota.CONCURRENT_RUNS: 1, Quota.DEVICE_SECONDS: HOUR, Quota.STORED_BYTES: GIB}
"""Of the fields of the form."""


@dataclass(frozen=True)
class LimitsLine:
    """A role or a user, with the limits that are set for it and those in effect."""

    subject: str
    """A role, or an e-mail address."""
    user: UserRow | None
    fields: dict[str, str]
    """As typed; empty: the default."""
    limits: Limits
    usage: Usage | None = None
    """Of a user."""


@dataclass(frozen=True)
class LimitsPage(HasErrors):
    """Every role and user."""

    lines: Sequence[LimitsLine]
    refused: str = ""
    """The subject whose change was refused."""
    errors: tuple[FieldError, ...] = ()


@router.get("")
def show(session: Reading, render: Render) -> Response:
    """Limits and usage of everyone."""
    return render.page(PAGE, LimitsPage(_lines(session)))


@router.post("")
def change(
    db: Db,
    render: Render,
    subject: Text,
    concurrent_runs: Text = "",
    device_hours: Text = "",
    stored_gib: Text = "",
) -> Response:
    """Set the limits of a role or a user: an empty field leaves it to the role, or to none."""
    sent = {"concurrent_runs": concurrent_runs, "device_hours": device_hours, "stored_gib": stored_gib}
    try:
        chosen = validated(LimitChange, {quota.value: _value(quota, sent[name]) for quota, name in FIELDS.items()})
    except Invalid as error:
        return _refused(db, render, subject, sent, error)
    with db.transaction() as session:
        service.change_limits(session, service.subject_of(session, subject), chosen)
    return RedirectResponse("/users/limits", 303)


def _refused(db: Database, render: Render, subject: str, sent: dict[str, str], error: Invalid) -> Response:
    with db.reading() as session:
        service.subject_of(session, subject)
        lines = [
            LimitsLine(line.subject, line.user, sent, line.limits, line.usage) if line.subject == subject else line
            for line in _lines(session)
        ]
    return render.page(PAGE, LimitsPage(lines, subject, error.fields), status=422)


def _value(quota: Quota, text: str) -> int | str:
    """What a field says. Raises Invalid."""
    text = text.strip()
    if not text:
        return "default"
    if text.casefold() in ("unlimited", gettext("unlimited").casefold()):
        return "unlimited"
    try:
        number = float(text.replace(",", ".")) * UNITS[quota]
        return round(number) if 0 <= number < float("inf") else int(text)
    except (ValueError, OverflowError):
        raise Invalid.field(
            FIELDS[quota],
            _("%(text)s is not a limit", text=text[:40]),
            _("Type a number, or unlimited, or nothing for the default"),
        ) from None


def _lines(session: Session) -> list[LimitsLine]:
    rows = users.all_of_them(session)
    accounts, own = service.accounts(session, rows), service.own_limits(session, rows)
    of_roles = service.role_limits(session)
    lines = [
        LimitsLine(role.value, None, {FIELDS[q]: _typed(q, getattr(limits, q.value), "") for q in Quota}, limits)
        for role, limits in of_roles.items()
        if role is not Role.VIEWER
    ]
    for user in rows:
        fields = {
            FIELDS[q]: _typed(q, own[user.id][q], gettext("unlimited")) if q in own[user.id] else "" for q in Quota
        }
        lines.append(LimitsLine(user.email, user, fields, *accounts[user.id]))
    return lines


def _typed(quota: Quota, amount: int | None, unlimited: str) -> str:
    return unlimited if amount is None else typed(amount / UNITS[quota])
