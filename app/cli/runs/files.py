"""Commands for files: export a study as a table or a report."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from app.cli.client import Client
from app.cli.shared import LOCAL, Force, Url, new_file, say
from app.domain.errors import Invalid
from app.words.i18n import gettext as _

Form = Literal["csv", "json", "parquet"]
Exported = Literal["runs", "items", "steps"]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The file; - is standard output. Default: a file named after the study."),
]


def export(
    study: Annotated[int, typer.Argument(metavar="ID", help="Number of the study.")],
    form: Annotated[Form, typer.Option("--format", help="CSV and Parquet are tables; JSON is the comparison.")] = "csv",
    what: Annotated[
        Exported, typer.Option(help="One row per run, per test item and run, or per optimizer step and run.")
    ] = "runs",
    output: Output = None,
    force: Force = False,
    url: Url = LOCAL,
) -> None:
    """Export a study: runs, item scores or step metrics as a table, or the comparison as JSON."""
    if form == "json":
        if what != "runs":
            raise Invalid(_("--what %(what)s is a table. Choose --format csv or --format parquet.", what=what))
        _fetch(url, f"/studies/{study}/comparison", output, f"study-{study}.json", force=force)
        return
    _fetch(url, f"/studies/{study}/tables/{what}.{form}", output, f"study-{study}-{what}.{form}", force=force)


def report(
    study: Annotated[int, typer.Argument(metavar="ID", help="Number of the study.")],
    output: Output = None,
    force: Force = False,
    url: Url = LOCAL,
) -> None:
    """Export a study's page as one HTML file that works offline and can be printed."""
    _fetch(url, f"/studies/{study}/report", output, f"study-{study}.html", force=force)


def _fetch(url: str, path: str, output: Path | None, name: str, *, force: bool) -> None:
    client = Client(url)
    if output == Path("-"):
        client.download(path, sys.stdout.buffer)
    else:
        target = new_file(output or Path(name), force=force)
        client.save(path, target)
        say(_("Wrote %(target)s.", target=target), wrap=False)
