"""`vezna user remove-identity`."""

import typer

from app.cli.shared import say
from app.cli.users.users import Email, open_database, users
from app.features.single_sign_on.services import openid
from app.services.users import users as user_service
from app.words.i18n import gettext as _


def remove_identity(email: Email) -> None:
    """Remove a user's identity of single sign-on. The next verified login with the user's address joins again."""
    with open_database().transaction() as session:
        user = user_service.by_email(session, email, lock=True)
        removed = openid.remove_identities(session, user)
    if removed:
        say(_("%(email)s has no identity of single sign-on any more.", email=user.email))
    else:
        say(_("%(email)s had no identity of single sign-on.", email=user.email))


def register(cli: typer.Typer) -> None:
    """Add it to the commands of users."""
    users.command()(remove_identity)
