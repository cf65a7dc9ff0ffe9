"""`vezna export-study`: write a study into an experiment tracker, from this machine, over REST."""

from dataclasses import asdict
from typing import Annotated

import typer

from app.cli.client import Client
from app.cli.shared import LOCAL, Json, Url, errors, show
from app.words.i18n import gettext as _
from vezna.trackers import export_study as export_to


def export_study(
    study: Annotated[int, typer.Argument(metavar="ID", help="Number of the study.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="ADDRESS",
            help="An MLflow server, http://127.0.0.1:5000, or tensorboard:DIR, trackio:PROJECT, wandb:PROJECT.",
        ),
    ],
    external: Annotated[
        bool, typer.Option("--external", help="The number is that of a study whose runs are trained elsewhere.")
    ] = False,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Export a study to an experiment tracker: runs, curves, scores, files, verdict and report. Exporting again updates
    what is there."""
    with errors.status(_("Exporting study %(id)s", id=study)), Client(url).for_scripts() as client:
        exported = export_to(client, study, to, external=external)
    show(
        asdict(exported),
        as_json,
        lambda _answer: [_("Study %(id)s is exported: %(url)s", id=study, url=exported.url)],
        wrap=False,
    )
