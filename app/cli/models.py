"""`vezna models`: add, list, show and delete base models, over REST."""

import time
from pathlib import PurePath
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from app.cli.archive import Yes, delete_after_confirmation
from app.cli.client import Client
from app.cli.shared import LOCAL, Json, Url, errors
from app.cli.shared import show as show_answer
from app.domain.errors import Invalid, Unavailable
from app.domain.models.base_model import SAMPLE_MODELS, SAMPLE_NOTES
from app.domain.resources.devices import size

PATIENCE_SECONDS = 180.0
"""How long to wait for an inspection."""
EVERY_SECONDS = 0.5
Sample = Literal["minilm", "smollm2"]
PATHS = ("/", "~", ".")
"""Beginnings of directories; no hub id begins like this."""

models = typer.Typer(help="Base models: add one of the hub or a directory, list, show.", no_args_is_help=True)


@models.command()
def add(
    location: Annotated[
        str,
        typer.Argument(metavar="ID|DIR", help="A hub id, or a directory on the workers."),
    ] = "",
    name: Annotated[str, typer.Option(help="Name of the model. Default: the hub id, or the directory's name.")] = "",
    revision: Annotated[str, typer.Option(help="Branch, tag or commit. Default: the newest.")] = "",
    sample: Annotated[
        Sample | None, typer.Option(help="A packaged model: all-MiniLM-L6-v2, or SmolLM2-135M-Instruct.")
    ] = None,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Register a base model and print the result of its inspection. The exit status is 1 if it cannot be used."""
    if bool(location) == bool(sample):
        raise Invalid("Name a model of the hub or a directory, or a packaged one with --sample, but not both.")
    if sample:
        source, location = "sample", "" if sample == "minilm" else sample
        default = SAMPLE_MODELS[location]
    elif location.startswith(PATHS):
        source, default = "directory", PurePath(location).name
    else:
        source, default = "hub", location
    registration = {"name": name or default, "source": source, "location": location, "revision": revision}
    client = Client(url)
    model = _inspected(client, client.post("/models", registration))
    if model["status"] == "failed":
        raise Invalid(model["message"])
    show_answer(model, as_json, _lines, wrap=False)


@models.command(name="list")
def list_all(url: Url = LOCAL, as_json: Json = False) -> None:
    """List every base model."""
    show_answer(Client(url).get("/models"), as_json, _table)


def _table(models: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("Model", "Architecture", "Parameters", "Tasks", "State"):
        table.add_column(title, justify="right" if title == "Parameters" else "left")
    for model in models:
        parameters = f"{model['parameters']:,}" if model["parameters"] else ""
        state = escape(model["message"]) if model["status"] == "failed" else model["status"]
        tasks = ", ".join(model["tasks"])
        table.add_row(escape(model["name"]), escape(model["architecture"] or ""), parameters, tasks, state)
    return table


@models.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.")],
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Show a base model: commit, architecture, supported tasks and why others are not supported."""
    show_answer(Client(url).get(f"/models/{quote(name)}"), as_json, _lines, wrap=False)


@models.command()
def delete(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.")],
    yes: Yes = False,
    url: Url = LOCAL,
) -> None:
    """Delete a base model that no study and no run uses. The workers keep its weights."""
    delete_after_confirmation(Client(url), [f"/models/{quote(name)}"], yes)


def _inspected(client: Client, model: dict[str, Any]) -> dict[str, Any]:
    """The model, once a worker has inspected it."""
    until = time.monotonic() + PATIENCE_SECONDS
    with errors.status("A worker is inspecting the model"):
        while model["status"] == "inspecting":
            if time.monotonic() > until:
                raise Unavailable(
                    f"No worker has inspected {model['name']} yet. Check that a control worker is running: the "
                    "inspection then starts by itself."
                )
            time.sleep(EVERY_SECONDS)
            model = client.get(f"/models/{quote(model['name'])}")
    return model


def _lines(model: dict[str, Any]) -> list[str]:
    return [f"{name:<13}{text}" for name, text in _facts(model)]


def _facts(model: dict[str, Any]) -> list[tuple[str, str]]:
    facts = model["facts"]
    rows = [("model", model["name"]), ("source", f"{model['source']} {model['location']}".strip())]
    if model["source"] == "sample" and (note := SAMPLE_NOTES.get(model["location"])):
        rows.append(("note", str(note)))
    if model["revision"]:
        rows.append(("revision", model["revision"]))
    if facts is None:
        return [*rows, ("state", model["message"] or model["status"])]
    rows.append(("architecture", f"{facts['architecture']}, {facts['parameters']:,} parameters"))
    if weights := sum(file["bytes"] for file in facts["files"] if file["name"].endswith(".safetensors")):
        rows.append(("on disk", ", ".join(filter(None, [size(weights), facts["dtype"]]))))
    if facts["tokenizer"]:
        rows.append(("tokenizer", f"{facts['tokenizer']['kind']}, {facts['tokenizer']['vocabulary']:,} tokens"))
    rows += [("task", f"{name}: {task['architecture']}") for name, task in facts["tasks"].items()]
    return rows + [("unsupported", f"{task}: {why}") for task, why in facts["unable"].items()]
