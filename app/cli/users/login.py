"""`vezna login` and `vezna logout`: the API token of the command line."""

import socket
import sys
from contextlib import suppress
from typing import Annotated

import typer

from app.cli.client import Client
from app.cli.shared import LOCAL, Url, errors, say
from app.cli.users import credentials
from app.domain.accounts.credentials import is_token
from app.domain.accounts.policy import Scope
from app.domain.errors import Invalid, Unauthenticated, VeznaError
from app.words.i18n import gettext as _
from app.words.users.accounts import role_name


def login(
    url: Url = LOCAL,
    email: Annotated[str, typer.Option(help="E-mail address of the account; prompted for if empty.")] = "",
    scopes: Annotated[str, typer.Option(help="Scopes of the token, with commas: read, run, admin.")] = "read,run",
    days: Annotated[int, typer.Option(help="Days until the token expires.")] = 90,
    with_token: Annotated[
        bool, typer.Option("--with-token", help="Read a token from standard input instead of asking for a password.")
    ] = False,
) -> None:
    """Store an API token for a server: create one with your password, or read an existing one with --with-token. It
    replaces an earlier one, which is revoked."""
    if credentials.is_plain(url):
        errors.print(_("The connection is not encrypted, so others may read the password. Use https."), style="yellow")
    credentials.require_no_user_name(url)
    if with_token:
        token = sys.stdin.readline().strip()
        if not is_token(token):
            raise Invalid(
                _("Standard input has no API token, which begins with vezna_. Create one on the page Account.")
            )
    else:
        token = _created(url, email, [scope.strip() for scope in scopes.split(",")], days)
    account = Client(url, token).get("/me")
    replaced = credentials.stored_for(url)
    path = credentials.store(url, token)
    if replaced not in ("", token):
        with suppress(VeznaError):  # it has expired, or was revoked before
            Client(url, replaced).delete("/me/token")
    say(
        _(
            "Logged in as %(email)s, %(role)s; the token is in %(path)s.",
            email=account["email"],
            role=role_name(account["role"]),
            path=path,
        )
    )
    if credentials.given():
        say(
            _(
                "The token of %(one)s or %(other)s takes precedence over it.",
                one=credentials.VARIABLE,
                other=credentials.FILE_VARIABLE,
            )
        )


def logout(url: Url = LOCAL) -> None:
    """Revoke the stored API token of a server and remove it."""
    token = credentials.stored_for(url)
    if not token:
        raise Invalid(_("No token for %(url)s is stored in %(file)s.", url=url, file=credentials.file()))
    try:
        Client(url, token).delete("/me/token")
    except Unauthenticated:
        say(_("The token had expired or was revoked before."))
    credentials.store(url, "")
    say(_("Logged out of %(url)s.", url=url))


def _created(url: str, email: str, scopes: list[str], days: int) -> str:
    if unknown := set(scopes) - set(Scope):
        raise Invalid(
            _("There is no scope %(scope)s. Choose from: %(scopes)s.", scope=min(unknown), scopes=", ".join(Scope))
        )
    if not sys.stdin.isatty():
        raise Invalid(_("There is no terminal to type a password in. Pipe a token in with --with-token."))
    email = email or str(typer.prompt(_("E-mail address")))
    password = str(typer.prompt(_("Password"), hide_input=True))
    wanted = {"name": f"vezna login on {socket.gethostname()}"[:120], "scopes": scopes, "expires_days": days}
    body = {"email": email, "password": password, "token": wanted}
    try:
        answer = Client(url, "").post("/login", body)
    except Invalid as error:
        if [field.path for field in error.fields] != ["code"]:
            raise
        code = str(typer.prompt(_("Code of the authenticator app, or a recovery code")))
        answer = Client(url, "").post("/login", body | {"code": code})
    return str(answer["token"])
