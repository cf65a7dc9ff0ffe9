"""The query of the audit log, for its page and for the API."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Query
from pydantic import AfterValidator, BeforeValidator, Field

from app.domain.accounts.audit import Action, AuditFilter
from app.domain.messages import _, choose_from
from app.domain.validation import Line, invalid_field

FIRST, LAST = datetime(1970, 1, 2, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
ACTIONS = (*sorted({action.noun for action in Action}), *sorted(action.value for action in Action))


def _action(text: str) -> str:
    if text and text not in ACTIONS:
        raise invalid_field("", _("There is no action %(action)s", action=text[:40]), choose_from(list(ACTIONS)))
    return text


def _in_utc(at: datetime) -> datetime:
    """A time without a zone is UTC."""
    aware = at if at.tzinfo else at.replace(tzinfo=UTC)
    if not FIRST <= aware <= LAST:
        raise invalid_field("", _("The time is outside of the years 1970 to 9998"), _("Write it as 2026-11-30"))
    return aware


Moment = Annotated[datetime, AfterValidator(_in_utc)]
Given = Annotated[Moment | None, BeforeValidator(lambda text: text or None)]


def _filter(
    action: Annotated[
        Annotated[Line, AfterValidator(_action)],
        Query(description="An action such as `run.submit`, or the noun of several: `run`."),
    ] = "",
    name: Annotated[
        Annotated[Line, Field(max_length=300)],
        Query(description="E-mail address of the user; of a command, the name of the operating system's user."),
    ] = "",
    subject: Annotated[
        Annotated[Line, Field(max_length=300)],
        Query(description="Number or name of what the action is about: `12` of a run, `news@1` of a dataset."),
    ] = "",
    since: Annotated[Given, Query(description="Entries at this time and later; without a zone it is UTC.")] = None,
    until: Annotated[Given, Query(description="Entries before this time.")] = None,
) -> AuditFilter:
    return AuditFilter(action, name.lower() if "@" in name else name, subject, since, until)


Which = Annotated[AuditFilter, Depends(_filter)]
