"""The list of studies."""

from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse

from app.domain.comparison.baselines import unbeaten
from app.domain.comparison.statistics.verdict import VerdictKind
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.errors import FieldError
from app.domain.methods import Family
from app.domain.studies.spec import StudyStatus, status_of
from app.services.studies import studies as study_service
from app.store.data import queries as datasets
from app.store.models import queries as base_models
from app.store.studies import external
from app.store.studies import queries as studies
from app.store.tables import CollectionRow, StudyRow
from app.web.bars import MarginScale
from app.web.figures.drawing import render as render_charts
from app.web.forms.errors import HasErrors
from app.web.http.dependencies import After, Config, Reading
from app.web.templating import Render
from app.words.format import points_between
from app.words.i18n import gettext as _
from app.words.i18n import ngettext
from app.words.verdict.headline import phrase
from app.words.verdict.lead import memory_share
from app.words.verdict.verdict import difference_text


@dataclass(frozen=True)
class IntervalMark:
    """The difference that a row's verdict rests on."""

    family: Family
    name: str
    """What is compared with what."""
    text: str
    """In points, with its interval."""
    scale: MarginScale

    @classmethod
    def of_arm(cls, arm: StudyArm, margin: float) -> "IntervalMark | None":
        """An arm against the reference."""
        if arm.difference is None:
            return None
        by = arm.difference
        return cls._placed(arm, arm.title, by.delta, by.low, by.high, margin, difference_text(arm))

    @classmethod
    def of_learning(cls, study: StudyComparison) -> "IntervalMark | None":
        """The reference against the strongest baseline that it does not beat."""
        baseline = next(iter(unbeaten(study.baselines)), None)
        if baseline is None or baseline.difference is None:
            return None
        by, arm = baseline.difference, study.reference  # of the baseline against the reference
        name = _("%(arm)s against “%(baseline)s”", arm=arm.title, baseline=_(baseline.title))
        text = points_between(-by.mean, -by.high, -by.low)
        return cls._placed(arm, name, -by.mean, -by.high, -by.low, study.margin, text)

    @classmethod
    def _placed(
        cls, arm: StudyArm, name: str, delta: float, low: float, high: float, margin: float, text: str
    ) -> "IntervalMark":
        label = _("%(arm)s: %(difference)s points", arm=name, difference=text)
        return cls(arm.family, name, text, MarginScale.placed(delta, low, high, margin, label))


@dataclass(frozen=True)
class StudyLine:
    row: StudyRow
    comparison: StudyComparison
    base_model: str
    dataset: str

    @property
    def decided(self) -> bool:
        """Every run has ended, and the study was not cancelled."""
        return self.comparison.complete and status_of(self.comparison.statuses) is not StudyStatus.CANCELLED

    @property
    def verdict(self) -> str:
        """Empty until it is decided."""
        return phrase(self.comparison) if self.decided else ""

    @property
    def answer(self) -> str:
        """What the verdict comes to, as an icon: `succeeded`, `failed` or `undecided`."""
        kind = self.comparison.focus.verdict_kind if self.comparison.focus else VerdictKind.NONE
        if self.comparison.learning.closed or kind is VerdictKind.WORSE:
            return "failed"
        return "succeeded" if kind.good_enough else "undecided"

    @property
    def mark(self) -> IntervalMark | None:
        if not self.decided:
            return None
        if self.comparison.learning.closed:
            return IntervalMark.of_learning(self.comparison)
        focus = self.comparison.focus
        return IntervalMark.of_arm(focus, self.comparison.margin) if focus else None

    @property
    def memory(self) -> str:
        """Of the arm that the verdict is about; empty where it is not known or the memory cannot be compared."""
        focus = self.comparison.focus
        return (memory_share(self.comparison, focus) or "") if focus else ""

    @property
    def failed(self) -> str:
        """How many runs failed; empty where none did."""
        failed = sum(times for _reason, times in self.comparison.failures)
        if not failed:
            return ""
        return ngettext(
            "%(failed)s of %(num)s run failed",
            "%(failed)s of %(num)s runs failed",
            self.comparison.total,
            failed=failed,
        )

    @property
    def state(self) -> tuple[str, str]:
        """Of a study without a verdict: the icon, and the words where they say more than the state's own."""
        status, total = status_of(self.comparison.statuses), self.comparison.total
        if status is StudyStatus.RUNNING:
            done = self.comparison.done
            return status.value, ngettext("%(done)s of %(num)s run", "%(done)s of %(num)s runs", total, done=done)
        return status.value, ""


@dataclass(frozen=True)
class StudiesPage(HasErrors):
    studies: tuple[StudyLine, ...]
    first: bool
    """The page that begins with the newest."""
    next_after: int | None
    archived: bool
    any_archived: bool
    most_bytes: int
    """Of an upload."""
    elsewhere: tuple[CollectionRow, ...] = ()
    """Studies whose runs are trained elsewhere, on the first page."""
    errors: tuple[FieldError, ...] = ()

    @property
    def empty(self) -> bool:
        """There is nothing to list yet."""
        return self.first and not self.studies and not self.archived


router = APIRouter(include_in_schema=False)

PAGE = 25


@router.get("/")
def home() -> RedirectResponse:
    """The list of studies is the first page."""
    return RedirectResponse("/studies", status_code=303)


@router.get("/studies")
def index(
    session: Reading, settings: Config, render: Render, after: After = None, archived: bool = False
) -> HTMLResponse:
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
        most_bytes=settings.upload_bytes,
        elsewhere=tuple(external.studies(session)) if after is None and not archived else (),
    )
    return render.page("studies/index.html", page)
