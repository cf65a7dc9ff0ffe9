"""Commands of studies whose runs are trained elsewhere."""

import typer

from app.features.elsewhere.cli import import_results, import_runs


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command(name="import")(import_results.import_results)
    cli.command(name="import-runs")(import_runs.import_runs)
