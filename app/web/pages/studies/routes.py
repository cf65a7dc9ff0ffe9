"""The list of studies."""

from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse

from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.studies.spec import StudyStatus, status_of
from app.services.studies import studies as study_service
from app.store.data import queries as datasets
from app.store.models import queries as base_models
from app.store.studies import external
from app.store.studies import queries as studies
from app.store.tables import CollectionRow, StudyRow
from app.web.bars import MarginScale
from app.web.figures.drawing import render as render_charts
from app.web.http.dependencies import After, Reading
from app.web.templating import Render
from app.words.i18n import gettext as _
from app.words.i18n import ngettext
from app.words.verdict.headline import phrase
from app.words.verdict.verdict import VERDICT_LABELS, difference_text


class Scale(MarginScale):
    """An arm's difference to the reference."""

    @classmethod
    def of(cls, arm: StudyArm, margin: float) -> "Scale | None":
        difference = arm.difference
        if difference is None:
            return None
        label = _("%(by)s points, %(word)s", by=difference_text(arm), word=_(VERDICT_LABELS[arm.verdict_kind]))
        return cls.placed(difference.delta, difference.low, difference.high, margin, label)


@dataclass(frozen=True)
class StudyLine:
    row: StudyRow
    comparison: StudyComparison
    base_model: str
    dataset: str

    def scale(self, arm: StudyArm) -> Scale | None:
        return Scale.of(arm, self.comparison.margin)

    @property
    def verdict(self) -> str:
        """Empty until every run has ended, and for a cancelled study."""
        cancelled = status_of(self.comparison.statuses) is StudyStatus.CANCELLED
        return phrase(self.comparison) if self.comparison.complete and not cancelled else ""

    @property
    def state(self) -> tuple[str, str]:
        """The icon, and the words where they say more than the state's own."""
        status, total = status_of(self.comparison.statuses), self.comparison.total
        failed = sum(times for _reason, times in self.comparison.failures)
        if status is StudyStatus.RUNNING:
            done = self.comparison.done
            return status.value, ngettext("%(done)s of %(num)s run", "%(done)s of %(num)s runs", total, done=done)
        if status is StudyStatus.FINISHED and failed:
            return "failed", ngettext(
                "%(failed)s of %(num)s run failed", "%(failed)s of %(num)s runs failed", total, failed=failed
            )
        return status.value, ""


@dataclass(frozen=True)
class StudiesPage:
    studies: tuple[StudyLine, ...]
    first: bool
    """The page that begins with the newest."""
    next_after: int | None
    archived: bool
    any_archived: bool
    elsewhere: tuple[CollectionRow, ...] = ()
    """Studies whose runs are trained elsewhere, on the first page."""


router = APIRouter(include_in_schema=False)

PAGE = 25


@router.get("/")
def home() -> RedirectResponse:
    """The list of studies is the first page."""
    return RedirectResponse("/studies", status_code=303)


@router.get("/studies")
def index(session: Reading, render: Render, after: After = None, archived: bool = False) -> HTMLResponse:
    """Studies, newest first, each with its verdict: the archived ones, or the others."""
    render_charts.warm()
    listed = studies.page(session, archived=archived, after=after, limit=PAGE)
    comparisons = study_service.comparisons(session, listed.rows)
    models = base_models.names(session)
    titles = {row.id: row.shown for row in datasets.all_versions(session)}
    page = StudiesPage(
        studies=tuple(
            StudyLine(row, comparisons[row.id], models.get(row.base_model_id, ""), titles.get(row.dataset_id, ""))
            for row in listed.rows
        ),
        first=after is None,
        next_after=listed.next_after,
        archived=archived,
        any_archived=studies.any_archived(session),
        elsewhere=tuple(external.studies(session)) if after is None and not archived else (),
    )
    return render.page("studies/index.html", page)
