"""`vezna push`: push an export with its model card and receipt to the Hugging Face hub, over REST."""

import sys
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from app.cli.client import Client
from app.cli.shared import LOCAL, Json, Url, show
from app.cli.work import once_succeeded
from app.words.i18n import gettext as _


def push(
    export: Annotated[int, typer.Argument(metavar="EXPORT", help="Number of the export.")],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the hub; created if absent.")],
    public: Annotated[bool, typer.Option("--public", help="Make the repository public (scope admin).")] = False,
    reason: Annotated[
        str, typer.Option(help="Why it is published; required unless its gate is pass. The model card shows it.")
    ] = "",
    card: Annotated[bool, typer.Option("--card", help="Print the model card, and push nothing.")] = False,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Have a worker push an export to a repository of the hub, private unless --public, and wait for it. Your hub
    token is used (vezna hub-token), without one the worker's own (VEZNA_HUB_TOKEN)."""
    client = Client(url)
    if card:
        query = urlencode({"repository": repository, "reason": reason})
        client.download(f"/exports/{export}/card?{query}", sys.stdout.buffer)
        return
    request = {"repository": repository, "private": not public, "reason": reason}
    pushed = client.post(f"/exports/{export}/pushes", request)
    pushed = once_succeeded(client, "/pushes", pushed, _("Push %(id)s", id=pushed["id"]))
    show(pushed, as_json, lambda _push: [_done(pushed)], wrap=False)


def _done(pushed: dict[str, Any]) -> str:
    values = {"export": pushed["export_id"], "url": pushed["url"], "commit": pushed["commit"][:12]}
    if pushed["private"]:
        return _("Pushed export %(export)s to %(url)s (private), commit %(commit)s.", **values)
    return _("Pushed export %(export)s to %(url)s (public), commit %(commit)s.", **values)
