"""`vezna registry`: registered models, their versions and champions, over REST."""

from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from app.cli.client import Client
from app.cli.shared import LOCAL, Json, Url, show
from app.domain.errors import NotFound
from app.features.shipping.rules.registry import Stage
from app.features.shipping.words.registry import stage_change, stage_name
from app.words.i18n import gettext as _
from app.words.runs.states import state_word

registry = typer.Typer(help="Registered models: list, register, promote, champion.", no_args_is_help=True)

ModelName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the registered model.")]
Version = Annotated[int, typer.Argument(metavar="VERSION", help="Number of the version.")]
Why = Annotated[str, typer.Option("--reason", help="Why. Required if the gate of the export is fail or undecided.")]


@registry.command(name="list")
def list_all(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only this name, with its history.")] = None,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """List every registered model with its versions; or one, with every change of their stages."""
    client = Client(url)
    if name is None:
        show(client.get("/registry"), as_json, _versions)
    else:
        show(client.get(f"/registry/{name}"), as_json, lambda model: _versions([model]), _history)


@registry.command()
def register(
    name: ModelName,
    export: Annotated[int, typer.Argument(metavar="EXPORT", help="Id of the export, as `export-model --json` has it.")],
    stage: Annotated[Stage, typer.Option(help="candidate, or champion at once.")] = Stage.CANDIDATE,
    reason: Why = "",
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Make an export the next version of a name. A new name is created."""
    client = Client(url)
    body = {"export": export, "stage": stage.value, "reason": reason, "revision": _revision(client, name)}
    registered = client.post(f"/registry/{name}/versions", body)
    show(registered, as_json, lambda version: [_("Registered %(version)s", version=_line(version))])


@registry.command()
def promote(
    name: ModelName,
    version: Version,
    stage: Annotated[Stage, typer.Option(help="champion, candidate, or retired.")] = Stage.CHAMPION,
    reason: Why = "",
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Make a version the champion; the champion so far retires. With --stage retired, retire it. A change of the name
    that comes in between is not overwritten: the command then fails."""
    client = Client(url)
    body = {"stage": stage.value, "reason": reason, "revision": client.get(f"/registry/{name}")["revision"]}
    changed = client.post(f"/registry/{name}/versions/{version}/stage", body)
    show(changed, as_json, lambda version: [_("Changed %(version)s", version=_line(version))])


@registry.command()
def champion(name: ModelName, url: Url = LOCAL, as_json: Json = False) -> None:
    """Print the champion of a name; exit status 1 if it has none."""
    show(Client(url).get(f"/registry/{name}/champion"), as_json, lambda version: [_line(version)])


def _revision(client: Client, name: str) -> int:
    """Of the name; 0 for a new one."""
    try:
        return int(client.get(f"/registry/{name}")["revision"])
    except NotFound:
        return 0


def _line(version: dict[str, Any]) -> str:
    """`headlines 3: champion, run 12, merged-bfloat16, export 4, gate: pass.`"""
    facts = [
        stage_name(version["stage"]),
        _("run %(id)s", id=version["run_id"]),
        version["format"],
        _("export deleted") if version["export_id"] is None else _("export %(id)s", id=version["export_id"]),
        _("gate: %(gate)s", gate=state_word(version["gate"])),
    ]
    return f"{version['name']} {version['version']}: {', '.join(facts)}."


def _versions(models: list[dict[str, Any]]) -> Table | list[str]:
    if not models:
        return [_("No registered models. Register an export with: vezna registry register NAME EXPORT")]
    table = Table(
        _("Name"), _("Version"), _("Stage"), _("Format"), _("Gate"), _("Run"), _("Export"), box=box.SIMPLE_HEAD
    )
    for model in models:
        for v in model["versions"]:
            export = _("deleted") if v["export_id"] is None else str(v["export_id"])
            table.add_row(
                model["name"],
                str(v["version"]),
                stage_name(v["stage"]),
                v["format"],
                state_word(v["gate"]),
                str(v["run_id"]),
                export,
            )
    return table


def _history(model: dict[str, Any]) -> Table:
    table = Table(_("When"), _("Version"), _("Change"), _("By"), _("Reason"), box=box.SIMPLE_HEAD)
    changes = [
        (change["at"], version["version"], change) for version in model["versions"] for change in version["changes"]
    ]
    for at, number, change in sorted(changes, key=lambda entry: entry[0]):
        what = stage_change(change["before"], change["after"])
        table.add_row(at[:19].replace("T", " "), str(number), what, change["by"], change["reason"])
    return table
