"""A study whose runs are trained elsewhere: where each run stands, its verdict, and how a script reports."""

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from app.domain.comparison.runs import RunComparison
from app.domain.imports.declared import ExternalStudySpec
from app.features.elsewhere.services import studies as external
from app.features.elsewhere.services import tracker_exports
from app.features.elsewhere.services.tracker_exports import ExportState
from app.services.comparison import compare
from app.services.comparison.compare import Selection
from app.services.runs import reported
from app.store.studies import external as queries
from app.store.tables import CollectionRow, RunRow
from app.web.http.dependencies import Reading
from app.web.templating import Render

router = APIRouter(prefix="/external-studies", include_in_schema=False)


@dataclass(frozen=True)
class ShownRun:
    """A run and the state to show."""

    row: RunRow
    silent: bool
    quiet: bool
    """It goes on, and people are told when its script reported last."""

    @classmethod
    def of(cls, session: Session, row: RunRow) -> "ShownRun":
        return cls(row, reported.is_silent(session, row), reported.is_quiet(session, row))

    @property
    def state(self) -> str:
        """Of the run, or that there is no news of it."""
        return "no_news" if self.silent else self.row.status


@dataclass(frozen=True)
class ExternalStudyPage:
    """A declared study."""

    study: CollectionRow
    spec: ExternalStudySpec
    runs: Mapping[tuple[str, int], ShownRun]
    """The newest run of each arm and seed."""
    comparison: RunComparison | None
    """None until a run was opened."""
    address: str
    """Of this server."""
    tracker_export: ExportState | None
    """None unless the study has ended, or was exported, since the installation has an experiment tracker."""

    @property
    def has_results(self) -> bool:
        """A run has ended with scores."""
        return any(run.row.score is not None for run in self.runs.values())

    @property
    def ended(self) -> int:
        """Declared runs with a result."""
        return sum(run.row.score is not None for run in self.runs.values())

    @property
    def total(self) -> int:
        """Declared runs."""
        return len(self.spec.arms) * len(self.spec.seeds)


@router.get("/{collection_id:int}")
def show(request: Request, session: Reading, render: Render, collection_id: int) -> HTMLResponse:
    """The study."""
    study, spec = external.declared(session, collection_id)
    rows = queries.runs_of(session, collection_id)
    page = ExternalStudyPage(
        study,
        spec,
        {(run.arm, run.seed): ShownRun.of(session, run) for run in rows},
        compare.compare(session, Selection(collection=collection_id)).comparison if rows else None,
        str(request.base_url).rstrip("/"),
        tracker_exports.of_study(session, study),
    )
    return render.page("elsewhere/study.html", page, of=("collections", collection_id))
