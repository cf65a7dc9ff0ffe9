"""`vezna list` and `vezna cancel`: runs and studies, over REST."""

from typing import Annotated, Any, Literal

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from app.cli.client import Client
from app.cli.shared import LOCAL, Json, Url, errors, say, show
from app.domain.errors import Invalid
from app.domain.runs.status import RunStatus
from app.words.format import percent
from app.words.i18n import gettext as _
from app.words.i18n import ngettext
from app.words.runs.states import state_word

MOST = 500
"""Rows of a page of the API."""


def list_all(
    what: Annotated[Literal["studies", "runs"], typer.Argument(help="What to list.")] = "studies",
    where: Annotated[
        str, typer.Option("--filter", help="A filter of runs, such as 'score > 0.9 and not failed'.")
    ] = "",
    status: Annotated[RunStatus | None, typer.Option(help="Runs with this status only.")] = None,
    study: Annotated[int | None, typer.Option(help="Runs of this study only.")] = None,
    method: Annotated[str, typer.Option(help="Runs of this method only.")] = "",
    sort: Annotated[str, typer.Option(help="A field to sort runs by; -score: in descending order.")] = "",
    archived: Annotated[bool, typer.Option("--archived", help="Archived studies.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=MOST, help="Rows to print.")] = 50,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """List studies, or runs that match a filter, newest first."""
    of_runs = {"filter": where, "status": status and status.value, "study": study, "method": method, "sort": sort}
    given = {name: value for name, value in of_runs.items() if value}
    if what == "studies" and given:
        raise Invalid(_("--%(name)s is for runs: vezna list runs --%(name)s …", name=next(iter(given))))
    if what == "runs" and archived:
        raise Invalid(_("--archived is for studies. For archived runs: vezna list runs --filter archived"))
    query = given | ({"archived": True} if archived else {})
    answer = Client(url).get(f"/{what}", limit=limit, **query)
    show(answer["items"], as_json, _studies if what == "studies" else _runs)
    if answer["has_more"] and not as_json:
        say(_("These are the first %(limit)s. More: --limit %(most)s", limit=limit, most=MOST), to=errors)


def cancel(
    ident: Annotated[int, typer.Argument(metavar="ID", help="A study's number; a run's with --run.")],
    run: Annotated[bool, typer.Option("--run", help="The number is a run's.")] = False,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Cancel every run of a study that has not ended, or a single run. What runs stops within seconds."""
    answer = Client(url).post(f"/{'runs' if run else 'studies'}/{ident}/cancel")
    show(answer, as_json, lambda answer: [_cancelled(ident, run, state_word(answer["status"]))])


def _cancelled(ident: int, run: bool, state: str) -> str:
    if run:
        return _("Run %(id)s is being cancelled: it is %(state)s.", id=ident, state=state)
    return _("Study %(id)s is being cancelled: it is %(state)s.", id=ident, state=state)


def _studies(studies: list[dict[str, Any]]) -> Table:
    table = Table(_("Study"), _("Name"), _("State"), _("Ended"), _("Model"), _("Dataset"), box=box.SIMPLE_HEAD)
    for study in studies:
        spec, total = study["spec"], len(study["runs"]) + len(study["trials"])
        ended = ngettext("%(done)s of %(num)s run", "%(done)s of %(num)s runs", total, done=study["done"])
        names = (study["name"], state_word(study["status"]), ended, spec["base_model"], spec["dataset"])
        table.add_row(str(study["id"]), *map(escape, names))
    return table


def _runs(runs: list[dict[str, Any]]) -> Table:
    table = Table(
        _("Run"), _("Study"), _("Arm"), _("Seed"), _("State"), _("Score"), _("Model"), _("Dataset"), box=box.SIMPLE_HEAD
    )
    for run in runs:
        score = "" if run["score"] is None else percent(run["score"])
        state = state_word(run["status"]) + (f": {run['failure_code']}" if run["failure_code"] else "")
        study = "" if run["study_id"] is None else str(run["study_id"])
        names = (run["base_model"] or "", run["dataset"] or "")
        cells = (study, run["arm"], str(run["seed"]), state, score, *names)
        table.add_row(str(run["id"]), *map(escape, cells))
    return table
