"""Every figure by its address: SVG and PNG in the colours of either theme, and its numbers as CSV."""

from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app.domain.errors import NotFound
from app.domain.messages import _
from app.web.address import Address
from app.web.figures import Figure, csv_rows, run_figures, study_figures
from app.web.figures.drawing import render
from app.web.figures.evidence import of_run as evidence_of_run
from app.web.figures.evidence import of_study as evidence_of_study
from app.web.http.csv_file import csv_file
from app.web.http.dependencies import Config, Reading
from app.web.pages.study.view_form import View

router = APIRouter(include_in_schema=False)

Ending = Literal["svg", "png", "csv"]
FORMER = {
    "score-memory": ("trade-off", {"x": "memory"}),
    "score-time": ("trade-off", {"x": "time"}),
    "loss": ("curves", {"curve": "loss"}),
    "validation": ("curves", {"curve": "validation"}),
}
"""Names that figures of a study once had, and what they are called now."""


@router.get("/studies/{study_id:int}/charts/{name}.{ending}")
def of_study(
    request: Request,
    session: Reading,
    settings: Config,
    study_id: int,
    name: str,
    ending: Ending,
    view: View,
    theme: render.Theme = "light",
) -> Response:
    """A figure of a study, as its address asks for it."""
    if name in FORMER:
        now, words = FORMER[name]
        address = Address.of(request, f"/studies/{study_id}/charts/{now}.{ending}")
        return RedirectResponse(address.to(words), status_code=308)
    figures = study_figures(evidence_of_study(session, settings, study_id), view)
    return chart_file(figures, name, ending, theme, f"study-{study_id}")


@router.get("/runs/{run_id:int}/charts/{name}.{ending}")
def of_run(
    session: Reading, settings: Config, run_id: int, name: str, ending: Ending, theme: render.Theme = "light"
) -> Response:
    """A figure of a run."""
    return chart_file(run_figures(evidence_of_run(session, settings, run_id)), name, ending, theme, f"run-{run_id}")


def chart_file(figures: dict[str, Figure], name: str, ending: Ending, theme: render.Theme, stem: str) -> Response:
    """A figure in one of its endings; `stem` begins its file's name. Raises NotFound."""
    if name not in figures:
        raise NotFound(
            _("There is no chart %(name)r. Choose from: %(names)s.", name=name, names=", ".join(figures) or "none yet")
        )
    figure = figures[name]
    file = f"{stem}-{name}.{ending}"
    if ending == "csv":
        return csv_file(csv_rows(figure.numbers), file)
    if figure.empty:
        raise NotFound(figure.empty)
    disposition = f'inline; filename="{file}"'
    if ending == "svg":
        return _answer(render.svg_file(figure.chart(), theme), "image/svg+xml", disposition)
    return _answer(render.png(figure.chart(), theme), "image/png", disposition)


def _answer(content: str | bytes, media_type: str, disposition: str) -> Response:
    return Response(
        content, media_type=media_type, headers={"Content-Disposition": disposition, "Cache-Control": "no-cache"}
    )
