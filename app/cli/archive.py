"""`vezna runs` and `vezna studies`: archive, unarchive and delete, by number."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from app.cli.client import Client
from app.cli.shared import LOCAL, Url, say
from app.domain.errors import Conflict
from app.domain.resources.devices import size

Ids = Annotated[list[int], typer.Argument(metavar="ID…", help="Numbers.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


def _commands(kind: str, what: str, deletes: str) -> typer.Typer:
    """The commands for runs, or for studies."""
    group = typer.Typer(help=f"Archive, unarchive and delete {kind}.", no_args_is_help=True)

    @group.command(help=f"Hide {what} from lists. They keep their URLs and stay comparable.")
    def archive(ids: Ids, url: Url = LOCAL) -> None:
        _set_archived(url, kind, ids, archived=True)

    @group.command(help=f"Show archived {what} in lists again.")
    def unarchive(ids: Ids, url: Url = LOCAL) -> None:
        _set_archived(url, kind, ids, archived=False)

    @group.command(help=f"Permanently delete {deletes}")
    def delete(ids: Ids, yes: Yes = False, url: Url = LOCAL) -> None:
        delete_after_confirmation(Client(url), [f"/{kind}/{number}" for number in ids], yes)

    return group


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


runs = _commands("runs", "runs", "runs with their metrics and files. A run of a study is deleted with its study.")
studies = _commands("studies", "studies and their runs", "studies with their runs, metrics and files.")
