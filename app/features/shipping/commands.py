"""Commands of exports, pushes, parity checks, receipts and the registry."""

import typer

from app.features.shipping.cli import exports, parity, push, receipts, registry


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command(name="export-model")(exports.export_model)
    cli.command()(push.push)
    cli.command(name="check-serving")(parity.check_serving)
    cli.command()(receipts.verify)
    cli.add_typer(registry.registry, name="registry")
