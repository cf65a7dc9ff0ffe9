"""The list of runs."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from app.domain.methods import METHODS
from app.domain.runs import RunStatus
from app.store.queries import run_list, studies
from app.store.queries.page import LARGEST_ID
from app.store.queries.run_list import COLUMNS, RunFilter, Sort
from app.web.contexts.runs import RunLine, RunsPage
from app.web.contexts.shell import Option
from app.web.dependencies import After, Reading
from app.web.templating import Render

router = APIRouter(include_in_schema=False)

PAGE = 50
OFFERED_STUDIES = 100

Word = Annotated[str, Query(max_length=100)]


@router.get("/runs")
def index(
    session: Reading,
    render: Render,
    status: Word = "",
    method: Word = "",
    study: Word = "",
    sort: Word = "newest",
    after: After = None,
) -> HTMLResponse:
    """Runs, newest first or by a number. A word that means nothing asks for nothing: an old link still shows runs."""
    order: Sort = sort if sort in COLUMNS else "newest"
    which = RunFilter(
        status=RunStatus(status) if status in set(RunStatus) else None,
        method=method if method in METHODS else None,
        study_id=int(study) if study.isdecimal() and int(study) <= LARGEST_ID else None,
    )
    query = {
        "status": which.status.value if which.status else "",
        "method": which.method or "",
        "study": str(which.study_id) if which.study_id is not None else "",
        "sort": order if order != "newest" else "",
    }
    found = run_list.page(session, which, sort=order, after=after, limit=PAGE)
    recent = {row.id: row.name for row in studies.page(session, limit=OFFERED_STUDIES).rows}
    shown = {row.study_id for row in found.rows if row.study_id} | ({which.study_id} if which.study_id else set())
    names = recent | studies.names(session, shown - set(recent))
    page = RunsPage(
        runs=tuple(RunLine.of(row, names) for row in found.rows),
        next_after=found.next_after,
        total=run_list.count(session, which),
        any=which == RunFilter() or run_list.count(session, RunFilter()) > 0,
        query={name: word for name, word in query.items() if word},
        studies=tuple(Option(str(i), name, i == which.study_id) for i, name in sorted(names.items(), reverse=True)),
    )
    return render.page("pages/runs/index.html", page)
