"""`vezna audit`: the audit log of a server as JSON lines, over REST."""

import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import typer

from app.cli.client import Client
from app.cli.shared import LOCAL, Force, Url, new_file


def audit(
    action: Annotated[str, typer.Option(help="An action such as run.submit, or the noun of several: run.")] = "",
    user: Annotated[str, typer.Option(help="E-mail address of a user.")] = "",
    subject: Annotated[str, typer.Option(help="Number or name of what the action is about.")] = "",
    since: Annotated[str, typer.Option(help="Entries at this time and later, such as 2026-11-30 (UTC).")] = "",
    until: Annotated[str, typer.Option(help="Entries before this time.")] = "",
    after: Annotated[int, typer.Option(help="Entries after this id, to continue an earlier export.")] = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; default: print.")] = None,
    force: Force = False,
    url: Url = LOCAL,
) -> None:
    """Export the audit log as JSON lines, the oldest entry first. It needs a token of an admin with the scope admin."""
    given = {"action": action, "name": user, "subject": subject, "since": since, "until": until, "after": after}
    query = urlencode({name: value for name, value in given.items() if value})
    path = f"/audit?{query}" if query else "/audit"
    if output is None:
        Client(url).download(path, sys.stdout.buffer)
    else:
        Client(url).save(path, new_file(output, force=force))
