"""`vezna user`: create, list, disable and enable users and reset their passwords, in this installation's
database.

A password is typed, or read from a file: arguments of commands are visible to other users of the machine.
"""

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich import box
from rich.table import Table
from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.cli.shared import Json, say, show
from app.domain.accounts.policy import Role
from app.domain.accounts.users import MAX_PASSWORD_LENGTH, NewUser
from app.domain.errors import Invalid
from app.domain.validation import field_error
from app.services.data import baselines
from app.services.ownership import ownership
from app.services.users import audit, links, passwords, tokens
from app.services.users import users as user_service
from app.services.users.tokens import NewToken
from app.settings import load
from app.store.database import migrate
from app.store.database.session import Database
from app.store.tables import UserRow
from app.store.users import queries as user_queries
from app.words.i18n import gettext as _
from app.words.i18n import ngettext
from app.words.users.accounts import role_name

users = typer.Typer(help="Users: create, list, disable, enable, reset the password.", no_args_is_help=True)

Email = Annotated[str, typer.Argument(metavar="EMAIL", help="The user's e-mail address.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option("--password-file", help="Read the password from this file, or from standard input: -"),
]
Link = Annotated[
    bool, typer.Option("--link", help="Print a link by which the user chooses the password, instead of setting one.")
]
STANDARD_INPUT = Path("-")
PASSWORD_HOURS = int(links.PASSWORD.total_seconds() // 3600)


@users.command()
def create(
    email: Email,
    name: Annotated[str, typer.Option(help="Name that others see.")] = "",
    role: Annotated[
        Role, typer.Option(help="viewer reads, member submits too, admin manages users too.")
    ] = Role.MEMBER,
    password_file: PasswordFile = None,
    link: Link = False,
) -> None:
    """Create a user. The password is prompted for."""
    new = _new_user(email, name, role)
    database = open_database()
    password = None if link else passwords.accepted(_password(password_file), new.email, new.name)
    with database.transaction() as session:
        user = user_service.create(session, new, password)
        link_line = _link(session, user) if link else ""
    created = _("Created %(email)s, %(role)s.", email=new.email, role=role_name(new.role))
    say(f"{created} {link_line}" if link else created, wrap=False)


@users.command(name="list")
def list_all(as_json: Json = False) -> None:
    """List every user, disabled ones too."""
    with open_database().reading() as session:
        rows = [_shown(row) for row in user_queries.all_of_them(session)]
    show(rows, as_json, _table)


@users.command()
def disable(email: Email) -> None:
    """End a user's sessions, and refuse logins and API tokens of the user. What the user owns stays."""
    _set_disabled(email, disabled=True)


@users.command()
def enable(email: Email) -> None:
    """Enable a disabled user again."""
    _set_disabled(email, disabled=False)


@users.command()
def revoke(email: Email) -> None:
    """End every session, API token and password link of a user. The user can log in again."""
    with open_database().transaction() as session:
        user = user_service.revoke_access(session, user_service.by_email(session, email).id)
    say(_("Ended the sessions and revoked the tokens of %(email)s.", email=user.email))


@users.command()
def transfer(email: Email, to: Annotated[str, typer.Argument(help="E-mail address of the new owner.")]) -> None:
    """Give everything that a user owns to another: before the user is disabled, for example. It has to
    fit the limits of the other."""
    with open_database().transaction() as session:
        user, new = (user_service.by_email(session, address) for address in (email, to))
        objects = ownership.transfer_all(session, user.id, new.id)
        baselines.of_new_owner(session, Doorbell(load()), new.email)
    say(
        ngettext(
            "%(email)s owns %(num)s more object.", "%(email)s owns %(num)s more objects.", objects, email=new.email
        )
    )


@users.command()
def reset_password(email: Email, password_file: PasswordFile = None, link: Link = False) -> None:
    """Set a user's password, which is prompted for. It ends the user's sessions; API tokens stay."""
    database = open_database()
    if link:
        with database.transaction() as session:
            say(_link(session, user_service.by_email(session, email, lock=True)), wrap=False)
        return
    with database.reading() as session:
        user = user_service.by_email(session, email)
    stored = passwords.accepted(_password(password_file), user.email, user.name)
    with database.transaction() as session:
        user_service.set_password(session, user_queries.get(session, user.id, lock=True), stored)
    say(_("The password of %(email)s is set.", email=user.email))


@users.command()
def token(
    email: Email,
    name: Annotated[str, typer.Option(help="For what or where the token is used.")] = "vezna user token",
    scopes: Annotated[str, typer.Option(help="Scopes, with commas: read, run, admin.")] = "read,run",
    days: Annotated[int, typer.Option(help="Days until it expires.")] = tokens.DEFAULT_DAYS,
) -> None:
    """Create an API token of a user and print it, for programs."""
    try:
        new = NewToken.model_validate(
            {"name": name, "scopes": [scope.strip() for scope in scopes.split(",")], "expires_days": days}
        )
    except ValidationError as error:
        raise Invalid.of([field_error(each, {}) for each in error.errors()]) from None
    with open_database().transaction() as session:
        _row, secret = tokens.create(session, user_service.by_email(session, email, lock=True), new)
    print(secret)


def _link(session: Session, user: UserRow) -> str:
    path = f"/password/{links.for_password(session, user)}"
    return _(
        "This path of the server sets the password, once, within %(hours)s hours: %(path)s",
        hours=PASSWORD_HOURS,
        path=path,
    )


def _set_disabled(email: str, *, disabled: bool) -> None:
    with open_database().transaction() as session:
        user = user_service.set_disabled(session, user_service.by_email(session, email).id, disabled)
    say(_("Disabled: %(email)s.", email=user.email) if disabled else _("Enabled: %(email)s.", email=user.email))


def open_database() -> Database:
    """The database of this installation. Raises Unavailable if it is not migrated."""
    database = Database(load().database)
    migrate.require_current(database)
    audit.act_as_command()
    return database


def _new_user(email: str, name: str, role: Role) -> NewUser:
    try:
        return NewUser(email=email, name=name, role=role)
    except ValidationError as error:
        raise Invalid.of([field_error(each, {}) for each in error.errors()]) from None


def _password(file: Path | None) -> str:
    """From a file or standard input, whose last line break does not count, or typed twice."""
    if file is None and sys.stdin.isatty():
        return str(typer.prompt(_("Password"), hide_input=True, confirmation_prompt=True))
    if file is None:
        raise Invalid(
            _("There is no terminal to type a password in. Give a file with --password-file, or - for a pipe.")
        )
    try:
        if file == STANDARD_INPUT:
            text = sys.stdin.readline(MAX_PASSWORD_LENGTH + 2)
        else:
            text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Invalid(_("%(file)s is not UTF-8 text.", file=file)) from error
    return text.removesuffix("\n").removesuffix("\r")


def _shown(row: UserRow) -> dict[str, Any]:
    return {
        "email": row.email,
        "name": row.name,
        "role": row.role.value,
        "disabled": row.disabled,
        "created_at": row.created_at.isoformat(),
        "last_login_at": row.last_login_at.isoformat() if row.last_login_at else None,
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(_("E-mail"), _("Name"), _("Role"), _("State"), _("Created"), _("Last login"), box=box.SIMPLE)
    for row in rows:
        state = _("disabled") if row["disabled"] else _("active")
        created, last = _day(row["created_at"]), _day(row["last_login_at"]) or _("never")
        table.add_row(row["email"], row["name"], role_name(row["role"]), state, created, last)
    return table


def _day(moment: str | None) -> str:
    return f"{datetime.fromisoformat(moment):%Y-%m-%d}" if moment else ""
