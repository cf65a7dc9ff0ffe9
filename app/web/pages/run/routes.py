"""A run's page: live while it works, then what it reached and what it cost."""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.comparison.statistics.intervals import ScoreInterval, score_interval
from app.domain.comparison.statistics.proportions import wilson
from app.domain.failures import Failure, FailureCode
from app.domain.imports.reported import ReportedRun
from app.domain.imports.result import ImportedResult, OutsideRun
from app.domain.resources.memory_fit import RunFit
from app.domain.runs.status import RunStatus
from app.services.resources import memory_fit
from app.services.resources.estimates import read_or_request
from app.services.runs import annotations
from app.services.runs import reported as reported_runs
from app.services.runs import runs as run_service
from app.services.runs.annotations import Notes
from app.services.studies import reproductions
from app.services.studies.learning import run_learning
from app.services.studies.reproductions import Repeated
from app.settings import Settings
from app.store.database.session import Database
from app.store.runs import evaluations, events, weight_deltas
from app.store.runs import queries as runs
from app.store.runs.evaluations import ItemScores
from app.store.studies import collections
from app.store.tables import RunEventRow, RunRow
from app.web.figures.drawing.render import Theme
from app.web.figures.figure import Drawn, drawn
from app.web.figures.runs.run import RunData, run_figure, run_figures
from app.web.forms.once import OnceByForm
from app.web.http.dependencies import Bell, Config, Db, Reading
from app.web.http.files.figure_file import Ending, figure_file
from app.web.pages.run.context import RunOutcome, RunPage, SpecFormat
from app.web.pages.run.live import RunLive
from app.web.site import run_parts
from app.web.specs import as_curl, as_json, as_yaml
from app.web.templating import Render
from app.words.format import NOTHING, count, duration, file_size, memory, percent, rate, share
from app.words.i18n import gettext as _
from app.words.runs.metrics import title


@dataclass(frozen=True)
class ImportedRunPage:
    run: RunRow
    result: ImportedResult
    collection: str
    tested: ItemScores | None
    """Scores of single items, if there are any."""
    notes: Notes

    @property
    def title(self) -> str:
        return _(
            "%(label)s reaches %(metric)s %(score)s",
            label=self.result.label,
            metric=title(self.result.metric),
            score=percent(self.result.score),
        )

    @property
    def interval(self) -> ScoreInterval | None:
        """Over its items; None where their number is not known."""
        return interval_of(self.result, self.tested)

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What its file says of its training and of what was measured."""
        return facts_of(self.result)

    @property
    def settings(self) -> list[tuple[str, str]]:
        return settings_of(self.result)


def interval_of(result: OutsideRun, tested: ItemScores | None) -> ScoreInterval | None:
    """Interval of a score over its items, or their clusters; None where it has no score, or too few of these are
    known."""
    if tested and tested.clusters:
        interval = score_interval(tested.scores[None, :], clusters=tested.clusters)
        return interval if interval.usable else None
    return wilson(result.score, result.n) if result.score is not None and result.n else None


def facts_of(r: OutsideRun) -> list[tuple[str, str]]:
    """What is stated of a training and of what was measured."""
    peak = f"{memory(r.peak_bytes)} ({r.memory_measure})" if r.memory_measure else memory(r.peak_bytes)
    part = share(r.trainable_parameters, r.total_parameters)
    trainable = f"{count(r.trainable_parameters)} ({part})" if part != NOTHING else count(r.trainable_parameters)
    facts: list[tuple[str, object, str | None]] = [
        (_("Test set"), r.test_set, r.test_set),
        (_("Base model"), r.base_model, r.base_model),
        (_("Trained on"), r.dataset, r.dataset),
        (_("Device"), r.device, r.device),
        (_("Precision"), r.precision, r.precision),
        (_("Versions"), r.versions, ", ".join(f"{name} {version}" for name, version in r.versions.items())),
        (_("Seed"), r.seed, str(r.seed)),
        (_("Learning rate"), r.learning_rate, rate(r.learning_rate)),
        (_("Steps"), r.steps, count(r.steps)),
        (_("Tokens trained on"), r.tokens, count(r.tokens)),
        (_("Train time"), r.train_seconds, duration(r.train_seconds)),
        (_("Peak memory"), r.peak_bytes, peak),
        (_("Trainable parameters"), r.trainable_parameters, trainable),
        (_("File"), r.file_bytes, file_size(r.file_bytes)),
    ]
    return [(name, text) for name, value, text in facts if value is not None and text]


def settings_of(result: OutsideRun) -> list[tuple[str, str]]:
    return [(name, _written(value)) for name, value in sorted(result.settings.items())]


def _written(value: object) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return rate(value) if isinstance(value, float) else NOTHING if value is None else str(value)


HASH = 12
"""Characters of a hash that are shown."""


@dataclass(frozen=True)
class ExternalRunPage:
    """A run that a script elsewhere reports."""

    run: RunRow
    result: ReportedRun
    study: str
    silent: bool
    """It goes on, and nothing was reported for a day."""
    quiet: bool
    """The same for a shorter time, after which people are told when the last report came."""
    loss: Drawn
    events: list[RunEventRow]
    notes: Notes
    tested: ItemScores | None
    """Scores of its test items, once it has ended."""

    @property
    def title(self) -> str:
        """What it reached, or where it stands."""
        if self.result.score is None:
            return _("%(label)s, seed %(seed)s", label=self.result.label, seed=self.result.seed)
        return _(
            "%(label)s reaches %(metric)s %(score)s",
            label=self.result.label,
            metric=title(self.result.metric),
            score=percent(self.result.score),
        )

    @property
    def interval(self) -> ScoreInterval | None:
        """Over its test items; None until it has ended."""
        return interval_of(self.result, self.tested)

    @property
    def state(self) -> str:
        """The state to show: that of the run, or that there is no news of it."""
        return "no_news" if self.silent else self.run.status

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What was stated of its training and of what was measured."""
        r = self.result
        hashes = [
            (_("Hash of train"), r.splits.train),
            (_("Hash of validation"), r.splits.validation),
            (_("Hash of test"), r.splits.test),
            (_("Hash of the base model"), r.base_model_hash),
        ]
        shown = [(name, f"{text[:HASH]}…") for name, text in hashes if text]
        version = [(_("Version of the metric"), r.metric_version)] if r.metric_version else []
        return facts_of(r) + version + shown

    @property
    def settings(self) -> list[tuple[str, str]]:
        return settings_of(self.result)

    @property
    def measured(self) -> list[tuple[str, str]]:
        """Seconds by phase, and the environment."""
        clocks = [(name, duration(seconds)) for name, seconds in self.result.clocks.items()]
        return clocks + list(self.result.environment.items())


router = APIRouter(prefix="/runs/{run_id:int}", include_in_schema=False)


class Sources(NamedTuple):
    request: Request
    session: Session
    settings: Settings
    db: Database
    bell: Doorbell

    def fit(self, run_id: int) -> RunFit:
        """A run's estimate; memory savings of one that ran out of memory are requested."""

        def read(session: Session, bell: Doorbell | None) -> RunFit:
            return memory_fit.run_fit(session, bell, self.settings, runs.get(session, run_id))

        return read_or_request(self.db, self.bell, read)


def sources(request: Request, session: Reading, settings: Config, db: Db, bell: Bell) -> Sources:
    """The dependency behind `At`."""
    return Sources(request, session, settings, db, bell)


At = Annotated[Sources, Depends(sources)]


@router.get("")
def show(at: At, render: Render, run_id: int, spec: SpecFormat = "yaml") -> HTMLResponse:
    """The whole page; how the spec is written is in its address. An imported run has a page of its own."""
    row = runs.get(at.session, run_id)
    if reported := row.reported_run:
        return render.page("run/external.html", _external(at, row, reported), of=("runs", run_id))
    if isinstance(result := row.imported_result, ImportedResult):
        name, tested = collections.named(at.session, row), _tested(at.session, run_id)
        notes = annotations.notes_of(at.session, "runs", run_id)
        return render.page(
            "run/imported.html", ImportedRunPage(row, result, name, tested=tested, notes=notes), of=("runs", run_id)
        )
    return render.page("run/show.html", _page(at, run_id, spec, figures=_figures(at, run_id)), of=("runs", run_id))


@router.get("/live")
def live(at: At, render: Render, run_id: int) -> HTMLResponse:
    """Where a run stands, for htmx; once it has ended, the browser is told to ask for the page."""
    page = _page(at, run_id, "yaml", figures={})
    if page.live is None:
        return HTMLResponse("", headers={"HX-Refresh": "true", "Cache-Control": "no-cache"})
    return render.page("run/live/progress_fragment.html", page, of=("runs", run_id))


@router.get("/figures")
def figures(at: At, render: Render, run_id: int) -> HTMLResponse:
    """The curves so far, for htmx: less often than the rest, because they are drawn on the machine that may train."""
    return render.page("run/live/curves.html", _page(at, run_id, "yaml", figures=_figures(at, run_id)))


@router.get("/savings")
def savings(at: At, render: Render, run_id: int) -> HTMLResponse:
    """Settings that need less memory than a failed run, for htmx, while they are estimated."""
    return render.page("run/memory_savings.html", _page(at, run_id, "yaml", figures={}))


@router.get("/charts/{name}.{ending}")
def chart(
    session: Reading, settings: Config, run_id: int, name: str, ending: Ending, theme: Theme = "light"
) -> Response:
    return figure_file(run_figure(RunData(session, settings, run_id), name), ending, theme, f"run-{run_id}")


@router.post("/cancel")
def cancel(db: Db, bell: Bell, run_id: int) -> RedirectResponse:
    """Cancel it: at once while it is queued, with its worker's next report while it runs."""
    with db.transaction() as session:
        run_service.cancel(session, bell, run_id)
    return RedirectResponse(f"/runs/{run_id}", status_code=303)


@router.post("/clone")
def clone(db: Db, bell: Bell, once: OnceByForm, run_id: int) -> RedirectResponse:
    """Submit the same spec again, as a run of its own."""
    with db.reading() as session:
        earlier = runs.get(session, run_id)
    with db.creating(earlier.visibility).transaction() as session:
        run = run_service.submit(session, bell, earlier.spec)
        address = once.keep(session, f"/runs/{run.id}")
    return RedirectResponse(address, status_code=303)


def _page(at: Sources, run_id: int, spec_format: SpecFormat, *, figures: dict[str, Drawn]) -> RunPage:
    view = run_service.view(at.session, run_id)
    spec = view.row.spec
    match spec_format:
        case "yaml":
            text = as_yaml(spec)
        case "json":
            text = as_json(spec)
        case "curl":
            text = as_curl(
                spec, f"{at.request.base_url}api/v1/runs", login=at.request.state.identity.user_id is not None
            )
    run, fit = view.row, at.fit(run_id)
    status, result = RunStatus(run.status), run.result
    deltas = weight_deltas.of_runs(at.session, [run_id]).get(run_id) if result else None
    learned = run_learning(at.session, run)
    failure = run.failure or Failure(code=FailureCode.INTERNAL, message="")
    return RunPage(
        view,
        figures=figures,
        spec_format=spec_format,
        spec=text,
        live=None if status.terminal else RunLive(run, view.events, view.queue_position),
        outcome=(
            RunOutcome(run, result, view.evaluations, _interval(at.session, run_id), fit, learned) if result else None
        ),
        failure=failure if status is RunStatus.FAILED else None,
        weight_deltas=deltas,
        fit=fit,
        parts=run_parts(at.session, run) if status.terminal else (),
        reproductions=_repeated(at.session, run),
    )


def _external(at: Sources, row: RunRow, reported: ReportedRun) -> ExternalRunPage:
    return ExternalRunPage(
        row,
        reported,
        collections.named(at.session, row),
        silent=reported_runs.is_silent(at.session, row),
        quiet=reported_runs.is_quiet(at.session, row),
        loss=drawn(run_figure(RunData(at.session, at.settings, row.id), "loss"), f"/runs/{row.id}/charts"),
        events=events.last(at.session, row.id, limit=200),
        notes=annotations.notes_of(at.session, "runs", row.id),
        tested=_tested(at.session, row.id),
    )


def _repeated(session: Session, run: RunRow) -> list[Repeated]:
    """The runs that repeat a run; none of one that has no score on the test split."""
    scored = run.status == RunStatus.SUCCEEDED and run.trial_round is None
    return reproductions.of_run(session, run.id) if scored else []


def _figures(at: Sources, run_id: int) -> dict[str, Drawn]:
    builders = run_figures(RunData(at.session, at.settings, run_id))
    return {name: drawn(build(), f"/runs/{run_id}/charts") for name, build in builders.items()}


def _tested(session: Session, run_id: int) -> ItemScores | None:
    return evaluations.test_scores(session, [run_id]).get((run_id, "adapted"))


def _interval(session: Session, run_id: int) -> ScoreInterval | None:
    """Over the test items; what another seed would change is not in it."""
    test = _tested(session, run_id)
    interval = score_interval(test.scores[None, :], clusters=test.clusters) if test else None
    return interval if interval and interval.usable else None
