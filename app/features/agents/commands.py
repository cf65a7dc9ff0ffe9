"""`vezna mcp`: the agent interface over standard input and output."""

from functools import partial

import typer

from app.cli.shared import LOCAL, Url
from app.cli.users.credentials import require_no_user_name, token_for


def mcp(url: Url = LOCAL) -> None:
    """Give an agent Vezna's tools, by MCP over standard input and output: plan a study, submit
    it, wait, read its verdict. A server has the same tools at /mcp."""
    from app.features.agents.ask import Ask, at_address  # noqa: PLC0415 over a second of imports
    from app.features.agents.tools import server  # noqa: PLC0415

    token = token_for(url)
    if token:
        require_no_user_name(url)
    server(Ask(partial(at_address, url, token))).run("stdio", show_banner=False)


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command()(mcp)
