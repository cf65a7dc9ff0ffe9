"""`vezna queue`: the order in which runs start, and changes of one's own, over REST."""

from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from app.cli.client import Client
from app.cli.shared import LOCAL, Json, Url, say, show
from app.domain.errors import Invalid
from app.domain.runs.listing.queue import Priority
from app.services.workers.queue_view import Turn
from app.words.i18n import gettext as _
from app.words.runs.queue import PRIORITIES, TURNS

queue = typer.Typer(help="The queue: list it; pause, resume, move and prioritize your own runs.", no_args_is_help=True)

Ident = Annotated[int, typer.Argument(metavar="ID", help="A study's number; a run's with --run.")]
Run = Annotated[bool, typer.Option("--run", help="The number is a run's.")]


@queue.command(name="list")
def list_queue(
    limit: Annotated[int, typer.Option(min=1, max=500, help="Rows to print.")] = 50,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """List waiting runs in the order in which they start as things are now, then paused ones."""
    show(Client(url).get("/queue", limit=limit), as_json, _table)


@queue.command()
def pause(ident: Ident, run: Run = False, url: Url = LOCAL) -> None:
    """Pause the runs of a study, or a single run. One that is running stops at a checkpoint."""
    _change(url, ident, run, {"paused": True})
    say(_("Paused: %(what)s.", what=_named(ident, run)))


@queue.command()
def resume(ident: Ident, run: Run = False, url: Url = LOCAL) -> None:
    """Resume the paused runs of a study, or a single run."""
    _change(url, ident, run, {"paused": False})
    say(_("Resumed: %(what)s.", what=_named(ident, run)))


@queue.command()
def move(
    ident: Ident,
    first: Annotated[bool, typer.Option("--first", help="Before your other waiting runs.")] = False,
    last: Annotated[bool, typer.Option("--last", help="After your other waiting runs.")] = False,
    before: Annotated[int | None, typer.Option(help="Before this waiting run of yours.")] = None,
    run: Run = False,
    url: Url = LOCAL,
) -> None:
    """Move the waiting runs of a study, or a single run, among your own of the same priority."""
    if [first, last, before is not None].count(True) != 1:
        raise Invalid(_("Say where to: --first, --last, or --before RUN."))
    change: dict[str, Any] = {"before": before} if before is not None else {"move": "first" if first else "last"}
    _change(url, ident, run, change)
    say(_("Moved: %(what)s.", what=_named(ident, run)))


@queue.command()
def priority(
    ident: Ident,
    level: Annotated[Priority, typer.Argument(help="high needs an admin.")],
    run: Run = False,
    url: Url = LOCAL,
) -> None:
    """Set the priority of the runs of a study, or of a single run."""
    _change(url, ident, run, {"priority": level.value})
    say(_("Changed the priority: %(what)s.", what=_named(ident, run)))


def _change(url: str, ident: int, run: bool, change: dict[str, Any]) -> None:
    Client(url).patch(f"/queue/{'runs' if run else 'studies'}/{ident}", change)


def _named(ident: int, run: bool) -> str:
    return _("run %(id)s", id=ident) if run else _("study %(id)s", id=ident)


def _table(view: dict[str, Any]) -> Table:
    table = Table(_("Position"), _("Run"), _("Study"), _("Owner"), _("Turn"), _("Priority"), box=box.SIMPLE_HEAD)
    for entry in view["entries"]:
        run = _("a run of another user") if entry["run_id"] is None else str(entry["run_id"])
        study = "" if entry["study_id"] is None else str(entry["study_id"])
        words = _(TURNS[Turn(entry["turn"])]), _(PRIORITIES[Priority(entry["priority"])])
        table.add_row(str(entry["position"] or "–"), run, study, escape(entry["owner"]), *words)
    return table
