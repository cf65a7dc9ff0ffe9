"""`vezna datasets`: from files to a dataset, and what is registered. By REST, as everything that asks a server."""

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from app.cli.client import Client
from app.cli.shared import LOCAL, Json, Url, console, errors, print_json
from app.cli.terminal import data
from app.domain.data.guesses import dataset_name
from app.domain.data.mapping import ROLES
from app.domain.errors import Invalid
from app.domain.tasks import Format

WAIT_SECONDS = 20
"""Of one question; it is asked again until the answer is there."""
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
Delimiter = Literal["comma", "semicolon", "tab", "bar"]
Column = Annotated[str, typer.Option(help="The column that it is; left out: as it is guessed.")]

datasets = typer.Typer(help="Data of one's own: add files, list, show, delete.", no_args_is_help=True)


@datasets.command()
def add(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE…", help="CSV, TSV, JSONL, JSON or Parquet; of several each is a split."),
    ] = None,
    name: Annotated[str, typer.Option(help="How specs call it; left out: after the file.")] = "",
    title: Annotated[str, typer.Option(help="How pages call it.")] = "",
    form: Annotated[Format | None, typer.Option("--format", help="What the rows are; left out: as guessed.")] = None,
    text: Column = "",
    label: Column = "",
    prompt: Column = "",
    context: Column = "",
    completion: Column = "",
    messages: Column = "",
    label_name: Annotated[
        list[str] | None, typer.Option(metavar="VALUE=NAME", help="A name for a label's value: 1=good.")
    ] = None,
    splits: Annotated[
        Literal["source", "made"] | None, typer.Option(help="The source's own splits, or made here; left out: guessed.")
    ] = None,
    validation: Annotated[float, typer.Option(help="Share of the rows to choose the best checkpoint by.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of the rows to test on.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of the splits that are made here.")] = 0,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-repeated", help="Keep one of rows that are the same.")
    ] = False,
    delimiter: Annotated[Delimiter | None, typer.Option(help="Left out: found out.")] = None,
    encoding: Annotated[str, typer.Option(help="Such as utf-8 or latin-1; left out: found out.")] = "",
    header: Annotated[bool | None, typer.Option(help="Whether the first row names the columns.")] = None,
    hub: Annotated[str, typer.Option(metavar="ID", help="A dataset of the hub instead of files.")] = "",
    config: Annotated[str, typer.Option(help="Of --hub.")] = "",
    revision: Annotated[str, typer.Option(help="Of --hub: a branch, a tag or a commit.")] = "",
    split: Annotated[str, typer.Option(help="Of --hub: one split alone.")] = "",
    directory: Annotated[str, typer.Option(help="A directory of the server's workers instead of files.")] = "",
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Make a dataset of files, and say what was found in them. Exit status 1 if it came to nothing."""
    if sum(map(bool, (files, hub, directory))) != 1:
        raise Invalid("No data is given. Give files, --hub ID or --directory DIR.")
    client = Client(url)
    if files:
        options = {"delimiter": DELIMITERS.get(delimiter or "", ""), "encoding": encoding}
        options |= {"header": "" if header is None else str(header).lower()}
        upload = _sent(client, files, {name: value for name, value in options.items() if value})
    else:
        source = {"source": "hub", "location": hub, "config": config, "revision": revision, "split": split}
        upload = client.post("/uploads/sources", source if hub else {"source": "directory", "location": directory})
    upload = _ended(client, f"/uploads/{upload['id']}", "reading")
    if upload["status"] == "failed":
        raise Invalid(upload["message"])
    if not as_json:
        errors.print(data.read(upload), highlight=False, markup=False)
    columns = {"text": text, "label": label, "prompt": prompt, "context": context, "completion": completion}
    chosen = {role: column for role, column in (columns | {"messages": messages}).items() if column}
    wanted = {
        "name": name or dataset_name(files[0].name if files else (hub or directory)),
        "title": title,
        "upload_id": upload["id"],
        "mapping": _mapping(upload["scan"], form, chosen, label_name or []),
        "splitting": _splitting(upload["scan"], splits)
        | {"validation": validation, "test": test, "seed": seed, "duplicates": "drop" if drop_duplicates else "keep"},
    }
    made = client.post("/datasets", wanted)
    found = _ended(client, f"/datasets/{quote(made['reference'])}", "preparing")
    _show(found, as_json)
    if found["status"] != "ready":
        raise typer.Exit(1)


@datasets.command(name="list")
def list_all(url: Url = LOCAL, as_json: Json = False) -> None:
    """Every version of every dataset."""
    found = Client(url).get("/datasets")
    if as_json:
        print_json(found)
    else:
        console.print(data.table(found))


@datasets.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="NAME, or NAME@2 for one version.")],
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """A dataset: its splits, its labels, what was found in it."""
    _show(Client(url).get(f"/datasets/{quote(name)}"), as_json)


@datasets.command()
def delete(
    name: Annotated[str, typer.Argument(metavar="NAME", help="NAME, or NAME@2 for one version.")], url: Url = LOCAL
) -> None:
    """Delete a version of a dataset; refused while runs or studies use it."""
    Client(url).delete(f"/datasets/{quote(name)}")
    console.print(f"{name} is deleted.", markup=False, highlight=False)


def _sent(client: Client, files: list[Path], options: dict[str, str]) -> dict[str, Any]:
    """Upload them, with a bar."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=28), DownloadColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        found: dict[str, Any] = client.upload(
            "/uploads", files, options, lambda path: progress.open(path, "rb", description=path.name)
        )
        return found


def _ended(client: Client, path: str, working: str) -> dict[str, Any]:
    """What a worker has made of it."""
    with errors.status("A worker is at it"):
        while True:
            found: dict[str, Any] = client.get(path, wait=WAIT_SECONDS)
            if found["status"] != working:
                return found


def _mapping(scan: dict[str, Any], form: str | None, columns: dict[str, str], names: list[str]) -> dict[str, Any]:
    """The guess, changed by what was said; what was said of columns tells the format."""
    guess: dict[str, Any] = scan["mapping"] or {"format": None, "columns": {}}
    found = form or _format(columns, guess["format"])
    if found is None:
        raise Invalid(f"{scan['reason']} Give --text and --label, or --prompt and --completion, or --messages.")
    known = guess["columns"] if guess["format"] == found else {}
    if "messages" in columns:
        known = {}
    pairs = dict(pair.split("=", 1) for pair in names if "=" in pair)
    if len(pairs) != len(names):
        raise Invalid("A --label-name has the form VALUE=NAME, such as 1=good.")
    return {"format": found, "columns": known | columns, "label_names": pairs}


def _format(columns: dict[str, str], guessed: str | None) -> str | None:
    if not columns:
        return guessed
    able = [form for form, roles in ROLES.items() if set(columns) <= {*roles.required, *roles.optional}]
    return guessed if guessed in able else next(iter(able), None)


def _splitting(scan: dict[str, Any], kind: str | None) -> dict[str, Any]:
    """The source's splits as they are guessed, unless they are to be made here."""
    guess: dict[str, Any] = scan["splitting"]
    if kind == "made" or guess["kind"] == "made":
        return {"kind": kind or "made"}
    return {"kind": "predefined", "column": guess["column"], "names": guess["names"]}


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for line in data.lines(found):
        console.print(line, markup=False, highlight=False)
