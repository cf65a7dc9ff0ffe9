"""Every figure by its address: SVG and PNG in the colours of either theme, and its numbers as CSV."""

import csv
import io
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import Response
from sqlalchemy.orm import Session

from app.domain.errors import NotFound
from app.domain.runs import RunStatus
from app.services import studies as study_service
from app.store.queries import evaluations, runs, steps
from app.web.charts import render
from app.web.dependencies import Reading
from app.web.figures import Figure, RunEvidence, StudyEvidence, csv_rows, run_figures, study_figures
from app.web.figures.curves import Checkpoint

router = APIRouter(include_in_schema=False)

Ending = Literal["svg", "png", "csv"]


@router.get("/studies/{study_id:int}/charts/{name}.{ending}")
def of_study(session: Reading, study_id: int, name: str, ending: Ending, theme: render.Theme = "light") -> Response:
    """A figure of a study."""
    figures = study_figures(evidence_of_study(session, study_id))
    return _file(figures, name, ending, theme, f"study-{study_id}")


@router.get("/runs/{run_id:int}/charts/{name}.{ending}")
def of_run(session: Reading, run_id: int, name: str, ending: Ending, theme: render.Theme = "light") -> Response:
    """A figure of a run."""
    return _file(run_figures(evidence_of_run(session, run_id)), name, ending, theme, f"run-{run_id}")


def evidence_of_study(session: Session, study_id: int) -> StudyEvidence:
    """What a study's figures are made of. Raises NotFound."""
    found = study_service.comparison(session, study_id)
    ids = [run.run_id for run in found.runs]
    checkpoints: dict[int, list[Checkpoint]] = {}
    for row in evaluations.of_runs(session, ids, "validation"):
        checkpoints.setdefault(row.run_id, []).append(Checkpoint(row.step, row.epoch, row.n, row.accuracy))
    return StudyEvidence(found, steps.read_many(session, ids), checkpoints)


def evidence_of_run(session: Session, run_id: int) -> RunEvidence:
    """What a run's figures are made of. Raises NotFound."""
    run = runs.get(session, run_id)
    seen = evaluations.of_runs(session, [run_id], "validation")
    return RunEvidence(
        method_kind=run.method_kind,
        status=RunStatus(run.status),
        total_steps=run.total_steps,
        steps=steps.read(session, run_id),
        validation=[(row.step, row.loss) for row in seen if row.subject == "adapted"],
        result=run.result,
    )


def _file(figures: dict[str, Figure], name: str, ending: Ending, theme: render.Theme, stem: str) -> Response:
    if name not in figures:
        raise NotFound(f"there is no chart {name!r}: choose from {', '.join(figures)}")
    figure = figures[name]
    file = f"{stem}-{name}.{ending}"
    if ending == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(csv_rows(figure.numbers))
        return _answer(text.getvalue(), "text/csv", f'attachment; filename="{file}"')
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
