"""`vezna runs` and `vezna studies`: archive, unarchive and delete, by number."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from app.cli.client import Client
from app.cli.shared import LOCAL, Url, say
from app.domain.errors import Conflict
from app.domain.resources.devices import size

runs = typer.Typer(help="Archive, unarchive and delete runs.", no_args_is_help=True)
studies = typer.Typer(help="Archive, unarchive and delete studies.", no_args_is_help=True)

Ids = Annotated[list[int], typer.Argument(metavar="ID…", help="Numbers.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


@runs.command()
def archive(ids: Ids, url: Url = LOCAL) -> None:
    """Hide runs from lists. They keep their URLs and stay comparable."""
    _set_archived(url, "runs", ids, archived=True)


@runs.command()
def unarchive(ids: Ids, url: Url = LOCAL) -> None:
    """Show archived runs in lists again."""
    _set_archived(url, "runs", ids, archived=False)


@runs.command()
def delete(ids: Ids, yes: Yes = False, url: Url = LOCAL) -> None:
    """Permanently delete runs with their metrics and files. A run of a study is deleted with its study."""
    delete_after_confirmation(Client(url), [f"/runs/{number}" for number in ids], yes)


@studies.command(name="archive")
def archive_studies(ids: Ids, url: Url = LOCAL) -> None:
    """Hide studies and their runs from lists. They keep their URLs and stay comparable."""
    _set_archived(url, "studies", ids, archived=True)


@studies.command(name="unarchive")
def unarchive_studies(ids: Ids, url: Url = LOCAL) -> None:
    """Show archived studies and their runs in lists again."""
    _set_archived(url, "studies", ids, archived=False)


@studies.command(name="delete")
def delete_studies(ids: Ids, yes: Yes = False, url: Url = LOCAL) -> None:
    """Permanently delete studies with their runs, metrics and files."""
    delete_after_confirmation(Client(url), [f"/studies/{number}" for number in ids], yes)


def delete_after_confirmation(client: Client, paths: Sequence[str], yes: bool) -> None:
    """Delete resources of the API. Nothing is deleted if one is refused, or without confirmation."""
    previews = [client.get(f"{path}/deletion") for path in paths]
    if refused := [preview["refused"] for preview in previews if preview["refused"]]:
        raise Conflict(" ".join(refused))
    what = ", ".join(path.lstrip("/") for path in paths) + _contents(previews)
    if not yes:
        typer.confirm(f"Permanently delete {what}?", abort=True)
    for path in paths:
        client.delete(path)
    say(f"Deleted {what}.")


def _contents(previews: Sequence[dict[str, Any]]) -> str:
    """` (3 runs, 12 files, 1.2 GiB)`; empty if no run is deleted."""
    runs, files, total = (sum(preview[name] for preview in previews) for name in ("runs", "files", "bytes"))
    counts = [f"{n} {noun}{'' if n == 1 else 's'}" for n, noun in ((runs, "run"), (files, "file"))]
    return f" ({', '.join([*counts, size(total)] if files else counts)})" if runs else ""


def _set_archived(url: str, kind: str, ids: Sequence[int], *, archived: bool) -> None:
    client = Client(url)
    for number in ids:
        client.patch(f"/{kind}/{number}", {"archived": archived})
    names = ", ".join(f"{kind}/{number}" for number in ids)
    say(f"{'Archived' if archived else 'Unarchived'} {names}.")
