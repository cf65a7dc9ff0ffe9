"""`vezna import`: files of results that were measured elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.client import Client
from app.cli.shared import LOCAL, Json, Url, show
from app.features.elsewhere.cli import result_files


def import_results(
    paths: Annotated[
        list[Path], typer.Argument(metavar="FILE|DIR…", help="Result files, or directories of .json files.")
    ],
    collection: Annotated[
        str, typer.Option("--collection", help="Collection of the results. Default: the directory's name.")
    ] = "",
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Import results that were measured elsewhere. The exit status is 1 if a file cannot be imported."""
    client, files = Client(url), result_files.result_files(paths)
    name = collection or (paths[0].resolve().name if len(paths) == 1 and paths[0].is_dir() else "imported")
    total = result_files.Total(name)
    for batch in result_files.batches(files):
        total.send(client, batch)
    show(total.as_json, as_json, lambda _answer: total.lines(client.address), wrap=False)
    if total.refused:
        raise typer.Exit(1)
