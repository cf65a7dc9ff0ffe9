"""`vezna runs` and `vezna studies`: archive, unarchive and delete, by number."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from app.cli.client import Client
from app.cli.shared import LOCAL, Url, say
from app.domain.errors import Conflict
from app.words.format import memory
from app.words.i18n import gettext as _
from app.words.i18n import ngettext, stored

Ids = Annotated[list[int], typer.Argument(metavar="ID…", help="Numbers.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


def _commands(kind: str, *, help: tuple[str, str, str, str]) -> typer.Typer:
    """The commands for runs, or for studies. `help`: of the group, of archive, unarchive and delete."""
    group = typer.Typer(help=help[0], no_args_is_help=True)

    @group.command(help=help[1])
    def archive(ids: Ids, url: Url = LOCAL) -> None:
        _set_archived(url, kind, ids, archived=True)

    @group.command(help=help[2])
    def unarchive(ids: Ids, url: Url = LOCAL) -> None:
        _set_archived(url, kind, ids, archived=False)

    @group.command(help=help[3])
    def delete(ids: Ids, yes: Yes = False, url: Url = LOCAL) -> None:
        delete_after_confirmation(Client(url), [f"/{kind}/{number}" for number in ids], yes)

    return group


def delete_after_confirmation(client: Client, paths: Sequence[str], yes: bool) -> None:
    """Delete resources of the API. Nothing is deleted if one is refused, or without confirmation."""
    previews = [client.get(f"{path}/deletion") for path in paths]
    if refused := [preview["refused"] for preview in previews if preview["refused"]]:
        raise Conflict(" ".join(map(stored, refused)))
    what = ", ".join(path.lstrip("/") for path in paths) + _contents(previews)
    if not yes:
        typer.confirm(_("Permanently delete %(what)s?", what=what), abort=True)
    for path in paths:
        client.delete(path)
    say(_("Deleted %(what)s.", what=what))


def _contents(previews: Sequence[dict[str, Any]]) -> str:
    """` (3 runs, 12 files, 1.2 GiB)`; empty if no run is deleted."""
    runs, files, total = (sum(preview[name] for preview in previews) for name in ("runs", "files", "bytes"))
    counts = [ngettext("%(num)s run", "%(num)s runs", runs), ngettext("%(num)s file", "%(num)s files", files)]
    return f" ({', '.join([*counts, memory(total)] if files else counts)})" if runs else ""


def _set_archived(url: str, kind: str, ids: Sequence[int], *, archived: bool) -> None:
    client = Client(url)
    for number in ids:
        client.patch(f"/{kind}/{number}", {"archived": archived})
    names = ", ".join(f"{kind}/{number}" for number in ids)
    say(_("Archived: %(names)s.", names=names) if archived else _("Unarchived: %(names)s.", names=names))


runs = _commands(
    "runs",
    help=(
        "Archive, unarchive and delete runs.",
        "Hide runs from lists. They keep their URLs and stay comparable.",
        "Show archived runs in lists again.",
        "Permanently delete runs with their metrics and files. A run of a study is deleted with its study.",
    ),
)
studies = _commands(
    "studies",
    help=(
        "Archive, unarchive and delete studies.",
        "Hide studies and their runs from lists. They keep their URLs and stay comparable.",
        "Show archived studies and their runs in lists again.",
        "Permanently delete studies with their runs, metrics and files.",
    ),
)
