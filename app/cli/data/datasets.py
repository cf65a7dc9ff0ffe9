"""`vezna datasets`: create datasets from files, list, show, preview and delete them, over REST."""

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from app.cli.client import Client
from app.cli.shared import LOCAL, Json, Url, errors, say
from app.cli.shared import show as show_answer
from app.cli.terminal import data
from app.domain.data.guesses.guessed_names import dataset_name
from app.domain.data.guesses.mapping import ROLES
from app.domain.errors import Invalid
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import Format, Task
from app.words.i18n import gettext as _
from app.words.i18n import stored

WAIT_SECONDS = 20
"""Seconds of one request, which is repeated until the worker is done."""
DEFAULT_LENGTH: int = TrainingArguments.model_fields["max_length"].default
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
Delimiter = Literal["comma", "semicolon", "tab", "bar"]
Column = Annotated[str, typer.Option(help="Name of the column. Default: detected automatically.")]

datasets = typer.Typer(help="Create datasets from files, list, show, preview and delete them.", no_args_is_help=True)


@datasets.command()
def add(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE…",
            help="CSV, TSV, JSONL, JSON, Parquet, or a zip of images. Several files are predefined splits.",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the dataset. Default: the file's.")] = "",
    title: Annotated[str, typer.Option(help="Title on pages.")] = "",
    form: Annotated[Format | None, typer.Option("--format", help="Format of the rows. Default: guessed.")] = None,
    text: Column = "",
    label: Column = "",
    tokens: Column = "",
    tags: Column = "",
    prompt: Column = "",
    context: Column = "",
    completion: Column = "",
    messages: Column = "",
    query: Column = "",
    passage: Column = "",
    chosen: Column = "",
    rejected: Column = "",
    image: Column = "",
    group: Annotated[
        str, typer.Option(help="Column of groups (user, document, template), which stay in one split. Default: none.")
    ] = "",
    label_name: Annotated[
        list[str] | None, typer.Option(metavar="VALUE=NAME", help="Rename a label, for example 1=good.")
    ] = None,
    splits: Annotated[
        Literal["predefined", "random"] | None,
        typer.Option(help="Kind of splits. Default: predefined if there are any."),
    ] = None,
    validation: Annotated[float, typer.Option(help="Share of the rows in the validation split.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of the rows in the test split.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Seed of random splits.")] = 0,
    drop_duplicates: Annotated[bool, typer.Option("--drop-duplicates", help="Drop duplicate rows.")] = False,
    delimiter: Annotated[Delimiter | None, typer.Option(help="Default: detected automatically.")] = None,
    encoding: Annotated[str, typer.Option(help="For example utf-8 or latin-1. Default: detected automatically.")] = "",
    header: Annotated[bool | None, typer.Option(help="Whether the first row holds column names.")] = None,
    hub: Annotated[str, typer.Option(metavar="ID", help="A hub dataset instead of files.")] = "",
    config: Annotated[str, typer.Option(help="Config of the hub dataset.")] = "",
    revision: Annotated[str, typer.Option(help="Branch, tag or commit of the hub dataset.")] = "",
    split: Annotated[str, typer.Option(help="A single split of the hub dataset.")] = "",
    directory: Annotated[str, typer.Option(help="A directory on the workers instead of files.")] = "",
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Create a dataset from files and print its findings. The exit status is 1 if that fails."""
    if sum(map(bool, (files, hub, directory))) != 1:
        raise Invalid(_("No data is given. Give files, --hub ID or --directory DIR."))
    client = Client(url)
    if files:
        options = {"delimiter": DELIMITERS.get(delimiter or "", ""), "encoding": encoding}
        options |= {"header": "" if header is None else str(header).lower()}
        upload = _uploaded(client, files, {name: value for name, value in options.items() if value})
    else:
        source = {"source": "hub", "location": hub, "config": config, "revision": revision, "split": split}
        upload = client.post("/uploads/sources", source if hub else {"source": "directory", "location": directory})
    upload = _finished(client, f"/uploads/{upload['id']}", "reading")
    if upload["status"] == "failed":
        raise Invalid(stored(upload["message"]))
    if not as_json:
        say(data.upload_line(upload), to=errors, wrap=False)
    columns = {"text": text, "label": label, "tokens": tokens, "tags": tags, "messages": messages}
    columns |= {"prompt": prompt, "context": context, "completion": completion, "query": query, "passage": passage}
    columns |= {"chosen": chosen, "rejected": rejected, "image": image}
    assigned = {role: column for role, column in columns.items() if column}
    mapping = _mapping(upload["scan"], form, assigned, label_name or [])
    mapping["columns"] |= {"group": group} if group else {}
    request = {
        "name": name or dataset_name(files[0].name if files else (hub or directory)),
        "title": title,
        "upload_id": upload["id"],
        "mapping": mapping,
        "splitting": _splitting(upload["scan"], splits)
        | {"validation": validation, "test": test, "seed": seed, "duplicates": "drop" if drop_duplicates else "keep"},
    }
    version = client.post("/datasets", request)
    version = _finished(client, f"/datasets/{quote(version['reference'])}", "preparing")
    show_answer(version, as_json, data.lines)
    if version["status"] != "ready":
        raise typer.Exit(1)


@datasets.command(name="list")
def list_all(url: Url = LOCAL, as_json: Json = False) -> None:
    """List every version of every dataset."""
    show_answer(Client(url).get("/datasets"), as_json, data.table)


@datasets.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="NAME, or NAME@2 for one version.")],
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Show a dataset: its splits, labels and findings."""
    show_answer(Client(url).get(f"/datasets/{quote(name)}"), as_json, data.lines)


@datasets.command()
def preview(
    name: Annotated[str, typer.Argument(metavar="NAME", help="NAME, or NAME@2 for one version.")],
    model: Annotated[str, typer.Option(help="A registered base model.")],
    task: Annotated[Task | None, typer.Option(help="Default: the first task that can use the rows.")] = None,
    max_length: Annotated[int, typer.Option(help="Most tokens of a row.")] = DEFAULT_LENGTH,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Show five rows as a base model sees them, and which tokens are in the loss."""
    query = {"model": model, "max_length": max_length} | ({"task": task} if task else {})
    seen = _finished(Client(url), f"/datasets/{quote(name)}/preview", "working", **query)
    if seen["state"] == "failed":
        raise Invalid(stored(seen["message"]))
    show_answer(seen, as_json, data.seen, wrap=False)


@datasets.command()
def delete(
    name: Annotated[str, typer.Argument(metavar="NAME", help="NAME, or NAME@2 for one version.")], url: Url = LOCAL
) -> None:
    """Delete a version of a dataset; fails while runs or studies use it."""
    Client(url).delete(f"/datasets/{quote(name)}")
    say(_("Deleted %(name)s.", name=name))


def _uploaded(client: Client, files: list[Path], options: dict[str, str]) -> dict[str, Any]:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=28), DownloadColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        upload: dict[str, Any] = client.upload(
            "/uploads", files, options, lambda path: progress.open(path, "rb", description=path.name)
        )
        return upload


def _finished(client: Client, path: str, working: str, **query: Any) -> dict[str, Any]:
    """The resource, once a worker has finished it."""
    with errors.status(_("Waiting for a worker")):
        while True:
            resource: dict[str, Any] = client.get(path, wait=WAIT_SECONDS, **query)
            if resource.get("status", resource.get("state")) != working:
                return resource


def _mapping(scan: dict[str, Any], form: str | None, columns: dict[str, str], names: list[str]) -> dict[str, Any]:
    """The guess with the options applied; columns determine the format."""
    guess: dict[str, Any] = scan["mapping"] or {"format": None, "columns": {}}
    chosen = form or _format(columns, guess["format"])
    if chosen is None:
        raise Invalid(
            _(
                "%(reason)s Give --text and --label, --image and --label, --tokens and --tags, --prompt and "
                "--completion, --messages, --query and --passage, or --chosen and --rejected.",
                reason=stored(scan["reason"]),
            )
        )
    known = guess["columns"] if guess["format"] == chosen else {}
    if "messages" in columns:
        known = {}
    pairs = dict(pair.split("=", 1) for pair in names if "=" in pair)
    if len(pairs) != len(names):
        raise Invalid(_("A --label-name has the form VALUE=NAME, such as 1=good."))
    return {"format": chosen, "columns": known | columns, "label_names": pairs}


def _format(columns: dict[str, str], guessed: str | None) -> str | None:
    if not columns:
        return guessed
    able = [form for form, roles in ROLES.items() if set(columns) <= {*roles.required, *roles.optional}]
    return guessed if guessed in able else next(iter(able), None)


def _splitting(scan: dict[str, Any], kind: str | None) -> dict[str, Any]:
    """The predefined splits as guessed, unless random splits are requested."""
    guess: dict[str, Any] = scan["splitting"]
    if kind == "random" or guess["kind"] == "random":
        return {"kind": kind or "random"}
    return {"kind": "predefined", "column": guess["column"], "names": guess["names"]}
