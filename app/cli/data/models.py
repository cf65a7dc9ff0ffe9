"""`vezna models`: add, list, show and delete base models, over REST."""

import time
from pathlib import PurePath
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from app.cli.client import Client
from app.cli.runs.archive import Yes, delete_after_confirmation
from app.cli.shared import LOCAL, Json, Url, errors
from app.cli.shared import show as show_answer
from app.domain.errors import Invalid, Unavailable
from app.domain.models.base_model import SAMPLE_MODELS, SAMPLE_NOTES
from app.words.format import count, file_size
from app.words.i18n import gettext as _
from app.words.i18n import localized, stored
from app.words.runs.states import state_word

PATIENCE_SECONDS = 180.0
"""How long to wait for an inspection."""
EVERY_SECONDS = 0.5
Sample = Literal["minilm", "smollm2", "digits"]
PARAMETERS = 2
"""Their place among the columns of the list."""
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
        Sample | None,
        typer.Option(help="A packaged model: all-MiniLM-L6-v2, SmolLM2-135M-Instruct, or digits-vit, trained here."),
    ] = None,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Register a base model and print the result of its inspection. The exit status is 1 if it cannot be used."""
    if bool(location) == bool(sample):
        raise Invalid(_("Name a model of the hub or a directory, or a packaged one with --sample, but not both."))
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
        raise Invalid(stored(model["message"]))
    show_answer(model, as_json, _lines, wrap=False)


@models.command(name="list")
def list_all(url: Url = LOCAL, as_json: Json = False) -> None:
    """List every base model."""
    show_answer(Client(url).get("/models"), as_json, _table)


def _table(models: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for place, title in enumerate((_("Model"), _("Architecture"), _("Parameters"), _("Tasks"), _("State"))):
        table.add_column(title, justify="right" if place == PARAMETERS else "left")
    for model in models:
        parameters = count(model["parameters"]) if model["parameters"] else ""
        failed = model["status"] == "failed"
        state = escape(stored(model["message"])) if failed else state_word(model["status"])
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
    with errors.status(_("A worker is inspecting the model")):
        while model["status"] == "inspecting":
            if time.monotonic() > until:
                raise Unavailable(
                    _(
                        "No worker has inspected %(name)s yet. Check that a control worker is running: the "
                        "inspection then starts by itself.",
                        name=model["name"],
                    )
                )
            time.sleep(EVERY_SECONDS)
            model = client.get(f"/models/{quote(model['name'])}")
    return model


def _lines(model: dict[str, Any]) -> list[str]:
    facts = _facts(model)
    width = max(len(name) for name, _text in facts)
    return [f"{name:<{width}} {text}" for name, text in facts]


def _facts(model: dict[str, Any]) -> list[tuple[str, str]]:
    facts = model["facts"]
    source = f"{model['source']} {model['location']}".strip()
    rows = [(_("model"), model["name"]), (_("source"), source)]
    if model["source"] == "sample" and (note := SAMPLE_NOTES.get(model["location"])):
        rows.append((_("note"), localized(note)))
    if model["revision"]:
        rows.append((_("revision"), model["revision"]))
    if facts is None:
        return [*rows, (_("state"), stored(model["message"]) or state_word(model["status"]))]
    rows.append(
        (
            _("architecture"),
            _(
                "%(architecture)s, %(parameters)s parameters",
                architecture=facts["architecture"],
                parameters=count(facts["parameters"]),
            ),
        )
    )
    if weights := sum(file["bytes"] for file in facts["files"] if file["name"].endswith(".safetensors")):
        rows.append((_("on disk"), ", ".join(filter(None, [file_size(weights), facts["dtype"]]))))
    if facts["tokenizer"]:
        rows.append(
            (
                _("tokenizer"),
                _(
                    "%(kind)s, %(vocabulary)s tokens",
                    kind=facts["tokenizer"]["kind"],
                    vocabulary=count(facts["tokenizer"]["vocabulary"]),
                ),
            )
        )
    rows += [(_("task"), f"{name}: {task['architecture']}") for name, task in facts["tasks"].items()]
    return rows + [(_("unsupported"), f"{task}: {stored(why)}") for task, why in facts["unable"].items()]
