"""A run's page: live while it works, then what it reached and what it cost."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session

from app.domain.runs import RunStatus
from app.domain.verdict import Estimate, estimate
from app.services import runs as run_service
from app.store.queries import evaluations, runs
from app.web.contexts.run import RunPage, SpecFormat
from app.web.dependencies import Bell, Db, Reading
from app.web.evidence import of_run as evidence_of_run
from app.web.figures import Drawn, drawn, run_figures
from app.web.specs import as_curl, as_json, as_yaml
from app.web.templating import Render

router = APIRouter(prefix="/runs/{run_id:int}", include_in_schema=False)


@router.get("")
def show(request: Request, session: Reading, render: Render, run_id: int, spec: SpecFormat = "yaml") -> HTMLResponse:
    """The whole page; how the spec is written is in its address."""
    return render.page("pages/runs/show.html", _page(request, session, run_id, spec, figures=_figures(session, run_id)))


@router.get("/live")
def live(request: Request, session: Reading, render: Render, run_id: int) -> HTMLResponse:
    """Where a run stands, for htmx; once it has ended, the browser is told to ask for the page."""
    page = _page(request, session, run_id, "yaml", figures={})
    if page.live is None:
        return HTMLResponse("", headers={"HX-Refresh": "true", "Cache-Control": "no-cache"})
    return render.page("partials/run/update.html", page)


@router.get("/figures")
def figures(request: Request, session: Reading, render: Render, run_id: int) -> HTMLResponse:
    """The curves so far, for htmx: less often than the rest, because they are drawn on the machine that may train."""
    page = _page(request, session, run_id, "yaml", figures=_figures(session, run_id))
    return render.page("partials/run/curves.html", page)


@router.post("/cancel")
def cancel(db: Db, run_id: int) -> RedirectResponse:
    """Cancel it: at once while it is queued, with its worker's next report while it runs."""
    with db.transaction() as session:
        run_service.cancel(session, run_id)
    return RedirectResponse(f"/runs/{run_id}", status_code=303)


@router.post("/clone")
def clone(db: Db, bell: Bell, run_id: int) -> RedirectResponse:
    """Submit the same spec again, as a run of its own."""
    with db.transaction() as session:
        run = run_service.submit(session, bell, runs.get(session, run_id).spec)
    return RedirectResponse(f"/runs/{run.id}", status_code=303)


def _page(
    request: Request, session: Session, run_id: int, spec_format: SpecFormat, *, figures: dict[str, Drawn]
) -> RunPage:
    view = run_service.view(session, run_id)
    spec = view.row.spec
    match spec_format:
        case "yaml":
            text = as_yaml(spec)
        case "json":
            text = as_json(spec)
        case "curl":
            text = as_curl(spec, f"{request.base_url}api/v1/runs")
    succeeded = view.row.status == RunStatus.SUCCEEDED
    return RunPage.of(
        view,
        figures=figures,
        spec_format=spec_format,
        spec=text,
        interval=_interval(session, run_id) if succeeded else None,
    )


def _figures(session: Session, run_id: int) -> dict[str, Drawn]:
    return {
        name: drawn(f, f"/runs/{run_id}/charts") for name, f in run_figures(evidence_of_run(session, run_id)).items()
    }


def _interval(session: Session, run_id: int) -> Estimate | None:
    """Over the test items; what another seed would change is not in it."""
    found = evaluations.test_scores(session, [run_id]).get((run_id, "adapted"))
    return estimate(found.scores[None, :]) if found and len(found.scores) > 1 else None
