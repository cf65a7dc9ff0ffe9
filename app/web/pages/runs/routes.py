"""The list of runs, as a page and as a CSV file, and the comparison of selected runs."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.errors import Invalid
from app.domain.messages import Message
from app.domain.runs.listing.filters import Is
from app.store.runs import groups as run_groups
from app.store.runs import listing as run_list
from app.store.studies import queries as studies
from app.store.studies import tags
from app.web.http.dependencies import After, Db, Reading
from app.web.pages.runs import listing as runs_listing
from app.web.pages.runs.context import FilterHelpPage, RunsPage
from app.web.pages.runs.csv import runs_file
from app.web.pages.runs.form import ViewParams
from app.web.templating import Render

router = APIRouter(include_in_schema=False)

PAGE = 50

Word = Annotated[str, Query(max_length=200)]
Text = Annotated[str, Query(max_length=4000)]


def view_of(
    filter: Text = "",
    sort: Word = "",
    columns: Annotated[list[Text], Query(max_length=100)] = [],  # noqa: B006 FastAPI copies it
    group: Word = "",
    baseline: Word = "",
    open: Word = "",
    status: Word = "",
    method: Word = "",
    study: Word = "",
) -> ViewParams:
    """The list's parameters; `status`, `method` and `study` become part of the filter."""
    shortcuts = {"status": status, "method": method, "study": study}
    parts = [f"{name} = {word if name == 'study' else _quoted(word)}" for name, word in shortcuts.items() if word]
    if filter.strip():
        parts.insert(0, f"({filter})" if parts else filter)
    return ViewParams.of(" and ".join(parts), sort, columns, group, baseline, open)


def _quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


View = Annotated[ViewParams, Depends(view_of)]


@router.get("/runs")
def index(session: Reading, render: Render, view: View, after: After = None) -> HTMLResponse:
    return render.page("runs/index.html", _page(session, view, after))


@router.get("/runs.csv")
def as_csv(db: Db, view: View) -> Response:
    """Every run that the filter matches, in the columns and the order of the page."""
    if view.error is not None:
        raise view.error
    return runs_file(db, view)


@router.get("/runs/words")
def filter_help(render: Render) -> HTMLResponse:
    return render.page("runs/filter_help.html", FilterHelpPage())


@router.get("/runs/selection")
def selection(run: Annotated[list[Text], Query(max_length=1000)] = []) -> RedirectResponse:  # noqa: B006
    """Compare the selected runs, and the runs of selected groups."""
    ids = dict.fromkeys(part for ticked in run for part in ticked.split(",") if part.isdecimal())
    if not ids:
        raise Invalid.field("run", Message("No run is selected"), Message("Go back and select two or more"))
    return RedirectResponse(f"/compare?runs={','.join(ids)}", status_code=303)


def _page(session: Session, view: ViewParams, after: int | None) -> RunsPage:
    if view.error is not None:
        return RunsPage(view)
    listing = runs_listing.page(session, view, after, PAGE)
    if view.grouped:
        total, groups = run_groups.count(session, view.condition)
    else:
        total, groups = run_list.count(session, view.condition), None
    return RunsPage(
        view=view,
        listing=listing,
        baseline=runs_listing.baseline(session, view),
        total=total,
        groups=groups,
        any=total > 0 or run_list.count(session, None) > 0,
        any_archived=run_list.count(session, Is("archived")) > 0,
        studies=studies.names(session, {run.values["study"] for run in listing.shown if run.values["study"]}),
        tags=tags.of_runs(session, [run.id for run in listing.shown]) if "tag" in view.columns else {},
    )
