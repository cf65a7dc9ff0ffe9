"""The list of runs, as a page and as a CSV file, and the comparison of selected runs.

It is streamed page by page: 100,000 runs are never in memory at once, and no transaction stays open.
"""

import io
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from sqlalchemy.orm import Session

from app.domain.comparison.fairness.confounders import RunConditions, field_confounder
from app.domain.errors import Invalid
from app.domain.messages import Message
from app.domain.runs.listing.fields import FIELDS
from app.domain.runs.listing.filters import Is
from app.store.database.session import Database
from app.store.runs import groups as run_groups
from app.store.runs import listing as run_list
from app.store.runs.groups import SUMMED, Group
from app.store.runs.listing import RunValues
from app.store.studies import queries as studies
from app.store.studies import tags
from app.web.http.dependencies import After, Db, Reading
from app.web.http.files.csv_file import write_csv
from app.web.pages.runs import listing as runs_listing
from app.web.pages.runs.context import FilterHelpPage, RunsPage
from app.web.pages.runs.form import ViewParams
from app.web.pages.runs.listing import Baseline, baseline, conditions_of, conditions_of_group, page
from app.web.templating import Render
from app.words.runs.run_fields import PLAIN

AT_ONCE = 1000
BASE_UNITS = {"bytes": "_bytes", "seconds": "_seconds"}
SHARED = ("model", "data", "task", "metric", "method")
"""Texts that all runs of a group share."""


def runs_file(database: Database, view: ViewParams) -> StreamingResponse:
    """The file. With a baseline, a column of differences follows each number."""
    headers = {"Content-Disposition": 'attachment; filename="runs.csv"', "Cache-Control": "no-cache"}
    return StreamingResponse(_text(_rows(database, view)), media_type="text/csv", headers=headers)


def _text(rows: Iterator[list[Any]]) -> Iterator[str]:
    text = io.StringIO()
    for number, row in enumerate(rows, start=1):
        write_csv(text, [row])
        if number % 100 == 0:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


def _rows(database: Database, view: ViewParams) -> Iterator[list[Any]]:
    with database.reading() as session:
        pinned = baseline(session, view)
    yield _head(view, pinned)
    after: int | None = None
    while True:
        with database.reading() as session:
            listing = page(session, view, after, AT_ONCE)
            names = studies.names(session, {run.values["study"] for run in listing.shown if run.values["study"]})
            tagged = tags.of_runs(session, [run.id for run in listing.runs]) if "tag" in view.columns else {}
        for run in listing.runs:
            yield _run(run, view, pinned, names, tagged.get(run.id, []))
        for group in listing.groups:
            yield _group(group, view, pinned)
        if listing.next_after is None:
            return
        after = listing.next_after


def _head(view: ViewParams, pinned: Baseline | None) -> list[str]:
    head = ["first_run", "arm", "runs", "score_n", "score_lower"] if view.grouped else ["run", "arm"]
    for name in view.columns:
        own = name + BASE_UNITS.get(FIELDS[name].kind, "")
        if view.grouped and name in SUMMED:
            head += [f"{own}_mean", f"{own}_sd"]
        elif not view.grouped or name in SHARED:
            head += [own, "study_name"] if name == "study" else [own]
        else:
            continue
        if pinned and _differs(name):
            head.append(f"{own}_minus_baseline")
    return head


def _run(run: RunValues, view: ViewParams, pinned: Baseline | None, names: dict[int, str], own: list[str]) -> list[Any]:
    row: list[Any] = [run.id, run.values["arm"]]
    for name in view.columns:
        value = run.values.get(name)
        if name == "tag":
            row.append(", ".join(own))
        elif name == "study":
            row += [value, names.get(value or 0, "")]
        else:
            row.append(value.isoformat(timespec="seconds") if isinstance(value, datetime) else value)
        if pinned and _differs(name):
            row.append(_difference(name, value, conditions_of(run), pinned))
    return row


def _group(group: Group, view: ViewParams, pinned: Baseline | None) -> list[Any]:
    values, score = group.first.values, group.spreads["score"]
    row: list[Any] = [group.first.id, values["arm"], len(group.runs), score.n, score.lower]
    for name in view.columns:
        if name in SUMMED:
            spread = group.spreads[name]
            row += [spread.mean, spread.sd]
            if pinned and _differs(name):
                row.append(_difference(name, spread.mean, conditions_of_group(group), pinned))
        elif name in SHARED:
            row.append(values.get(name))
    return row


def _differs(name: str) -> bool:
    return FIELDS[name].numeric and name not in PLAIN


def _difference(name: str, value: Any, conditions: RunConditions, pinned: Baseline) -> Any:
    there = pinned.numbers.get(name)
    if value is None or there is None or field_confounder(FIELDS[name], conditions, pinned.conditions):
        return None
    return value - there


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
