"""Commands that predict and serve."""

import typer

from app.features.serving.cli import predict, serve


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command()(predict.predict)
    cli.command()(serve.serve)
