"""`vezna user limit` and `vezna user limits`: quotas of roles and users, in this installation's database."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich import box
from rich.table import Table

from app.cli.shared import Json, say, show
from app.cli.users.users import open_database, users
from app.domain.errors import Invalid
from app.domain.validation import field_error
from app.features.quotas.rules import LimitChange, Limits
from app.features.quotas.services import quotas
from app.store.users import queries as user_queries
from app.words.i18n import gettext as _

HOUR, GIB = 3600, 2**30
OF_USERS = ("running", "used_seconds", "reserved_seconds", "stored_bytes")
"""Of the usage of a user; a role has none."""
UNLIMITED = "\N{INFINITY}"
"""In the table, whose columns are narrow."""


def limits(as_json: Json = False) -> None:
    """List the limits of roles, and of every user with this month's usage."""
    with open_database().reading() as session:
        rows = user_queries.all_of_them(session)
        accounts = quotas.accounts(session, rows)
        listed = [
            {"subject": role.value, **_limits(of_role), **dict.fromkeys(OF_USERS)}
            for role, of_role in quotas.role_limits(session).items()
        ]
        for row in rows:
            of_user, usage = accounts[row.id]
            used = {name: getattr(usage, name) for name in OF_USERS}
            listed.append({"subject": row.email, **_limits(of_user), **used})
    show(listed, as_json, _limits_table)


def limit(
    who: Annotated[str, typer.Argument(metavar="EMAIL|ROLE", help="A user's e-mail address, or a role.")],
    concurrent_runs: Annotated[
        str | None,
        typer.Option(
            help="Runs at the same time: a number, `unlimited`, or `default` (of a user the role's, of a role none)."
        ),
    ] = None,
    device_hours: Annotated[str | None, typer.Option(help="Device hours per calendar month (UTC), likewise.")] = None,
    stored_gib: Annotated[str | None, typer.Option(help="GiB in the files store, likewise.")] = None,
) -> None:
    """Set limits of a user or a role. What is queued or running stays."""
    try:
        change = LimitChange.model_validate(
            {
                "concurrent_runs": _limit(concurrent_runs, 1),
                "device_seconds": _limit(device_hours, HOUR),
                "stored_bytes": _limit(stored_gib, GIB),
            }
        )
    except ValidationError as error:
        raise Invalid.of([field_error(each, {}) for each in error.errors()]) from None
    if not change.given:
        raise Invalid(_("No limit is given. Give --concurrent-runs, --device-hours, or --stored-gib."))
    with open_database().transaction() as session:
        quotas.change_limits(session, quotas.subject_of(session, who), change)
    say(_("Changed the limits of %(who)s. List them with: vezna user limits", who=who))


def _limits(limits: Limits) -> dict[str, int | None]:
    """The limits, by names that differ from those of the usage."""
    values = asdict(limits)
    return values | {"stored_limit": values.pop("stored_bytes")}


def _limit(text: str | None, unit: int) -> str | int | None:
    """A limit as it is typed, in units."""
    if text is None or text in ("unlimited", "default"):
        return text
    try:
        number = float(text) * unit
        return round(number)
    except (ValueError, OverflowError):
        raise Invalid(_("%(text)s is not a limit. Give a number, unlimited, or default.", text=text)) from None


def _limits_table(rows: list[dict[str, Any]]) -> Table:
    headings = (
        _("Of"),
        _("Concurrent runs"),
        _("Running"),
        _("Device hours"),
        _("Used"),
        _("Reserved"),
        _("GiB stored at most"),
        _("Stored"),
    )
    table = Table(*headings, box=box.SIMPLE)
    for row in rows:
        table.add_row(
            row["subject"],
            _number(row["concurrent_runs"], UNLIMITED),
            _number(row["running"], ""),
            *(
                _number(None if row[name] is None else row[name] / HOUR, otherwise)
                for name, otherwise in (
                    ("device_seconds", UNLIMITED),
                    ("used_seconds", ""),
                    ("reserved_seconds", ""),
                )
            ),
            _number(None if row["stored_limit"] is None else row["stored_limit"] / GIB, UNLIMITED),
            _number(None if row["stored_bytes"] is None else row["stored_bytes"] / GIB, ""),
        )
    return table


def _number(value: float | None, otherwise: str) -> str:
    return otherwise if value is None else f"{round(value, 2):g}"


def register(cli: typer.Typer) -> None:
    """Add them to the commands of users."""
    users.command()(limits)
    users.command()(limit)
