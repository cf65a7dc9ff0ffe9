"""`vezna user reset-factor`."""

import typer

from app.cli.shared import say
from app.cli.users.users import Email, open_database, users
from app.features.second_factor import service as second_factor
from app.services.users import users as user_service
from app.words.i18n import gettext as _


def reset_factor(email: Email) -> None:
    """Turn a user's second factor off, after the phone and the recovery codes are lost."""
    with open_database().transaction() as session:
        user = user_service.by_email(session, email, lock=True)
        removed = second_factor.remove(session, user)
    if removed:
        say(_("%(email)s logs in without a second factor now.", email=user.email))
    else:
        say(_("%(email)s has no second factor.", email=user.email))


def register(cli: typer.Typer) -> None:
    """Add it to the commands of users."""
    users.command()(reset_factor)
