"""`vezna hub-token`: the user's token of the Hugging Face hub, over REST. It is typed or piped, never an argument."""

import sys
from typing import Any

import typer

from app.cli.client import Client
from app.cli.shared import LOCAL, Json, Url, errors, say, show
from app.cli.users.credentials import is_plain
from app.words.i18n import gettext as _

hub_token = typer.Typer(
    help="Your token of the Hugging Face hub, for your own runs: store, show whether one is stored, remove.",
    no_args_is_help=True,
)


@hub_token.command(name="set")
def store(url: Url = LOCAL) -> None:
    """Store a token, which is asked for, or read from standard input. It replaces an earlier one."""
    if is_plain(url):
        errors.print(_("The connection is not encrypted, so others may read the token. Use https."), style="yellow")
    token = typer.prompt(_("Hub token"), hide_input=True) if sys.stdin.isatty() else sys.stdin.readline().strip()
    stored = Client(url).put("/hub-token", {"token": token})
    say(_("Stored the hub token that ends with %(end)s.", end=stored["ends_with"]))


@hub_token.command(name="show")
def show_stored(url: Url = LOCAL, as_json: Json = False) -> None:
    """Show whether a token is stored: its last four characters."""
    show(Client(url).get("/hub-token"), as_json, _sentence)


@hub_token.command()
def remove(url: Url = LOCAL) -> None:
    """Remove the token. Runs that load gated models fail from then on."""
    Client(url).delete("/hub-token")
    say(_("Removed the hub token."))


def _sentence(stored: dict[str, Any]) -> list[str]:
    if not stored["stored"]:
        return [_("No hub token is stored.")]
    return [_("A hub token that ends with %(end)s is stored.", end=stored["ends_with"])]
