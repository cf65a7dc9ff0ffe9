"""The context of a run's page."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from app.domain.comparison.intervals import ScoreInterval
from app.domain.methods import METHODS, Family
from app.domain.models.weight_delta import WeightDeltas
from app.domain.resources.memory_fit import RunFit
from app.domain.runs.status import RunStatus
from app.services.annotations import Notes
from app.services.runs import RunView
from app.store.tables import ArtifactRow, RunEventRow
from app.web.figures import Drawn
from app.web.format import percent, rate
from app.web.i18n import gettext as _
from app.web.memory_fit_context import Way
from app.web.pages.run.failure import NO_MEMORY, RunFailure
from app.web.pages.run.result import RunOutcomePage
from app.web.pages.run.weight_delta import RunWeightDeltas
from app.web.run_live import RunLive
from app.web.text.metrics import title

SpecFormat = Literal["yaml", "json", "curl"]
KEPT = ("adapter", "model")
"""Kinds of artifacts that one keeps to use the result."""


@dataclass(frozen=True)
class RunPage:
    """A run, while it works and afterwards."""

    id: int
    family: Family
    arm: str
    seed: int
    trial_rate: str
    """The learning rate that it tries; empty for a run that counts."""
    study_id: int | None
    study: str
    base_model: str
    dataset: str
    by_peft: bool
    """PEFT carries the method out."""
    status: str
    title: str
    worker: str | None
    attempts: int
    started_at: datetime | None
    finished_at: datetime | None
    notes: Notes
    events: tuple[RunEventRow, ...]
    artifacts: tuple[ArtifactRow, ...]
    figures: Mapping[str, Drawn]
    spec_format: SpecFormat
    spec: str
    live: RunLive | None
    result: RunOutcomePage | None
    failure: RunFailure | None
    updates: RunWeightDeltas | None
    """What it did to each matrix; None until it has a result."""
    ways: tuple[Way, ...]
    """Out of a failure for want of memory."""
    savings_pending: int

    @classmethod
    def of(
        cls,
        view: RunView,
        *,
        figures: Mapping[str, Drawn],
        spec_format: SpecFormat,
        spec: str,
        interval: ScoreInterval | None,
        fit: RunFit,
        updates: WeightDeltas | None,
    ) -> "RunPage":
        """From what the service shows of it."""
        row = view.row
        status = RunStatus(row.status)
        found = row.result
        result = RunOutcomePage.of(row, found, view.evaluations, interval, fit) if found else None
        failure = RunFailure.of(row.failure) if status is RunStatus.FAILED else None
        no_memory = failure is not None and failure.code in NO_MEMORY
        return cls(
            id=row.id,
            family=METHODS[row.method_kind].family,
            arm=row.arm,
            seed=row.seed,
            trial_rate=rate(row.learning_rate) if row.trial_round is not None else "",
            study_id=row.study_id,
            study=view.study_name or "",
            base_model=view.base_model,
            dataset=view.dataset,
            by_peft=row.spec.method.mechanism == "peft",
            status=row.status,
            title=_title(view, result, failure),
            worker=row.worker,
            attempts=row.epoch,
            started_at=row.started_at,
            finished_at=row.finished_at,
            notes=Notes("runs", row.id, row.note, tuple(view.tags), row.archived),
            events=tuple(view.events),
            artifacts=tuple(view.artifacts),
            figures=figures,
            spec_format=spec_format,
            spec=spec,
            live=None if status.terminal else RunLive.of(row, view.events, view.place),
            result=result,
            failure=failure,
            updates=RunWeightDeltas.of(row.spec.method.label, updates) if result else None,
            ways=tuple(map(Way.of, fit.memory_savings)) if no_memory else (),
            savings_pending=fit.savings_pending if no_memory else 0,
        )

    @property
    def adapter_words(self) -> str:
        """What a file of the kind `adapter` is."""
        if self.by_peft:
            return _("what to load with PEFT")
        return _("what trained; the .json beside it says how to load it")

    @property
    def download(self) -> ArtifactRow | None:
        """The file that one keeps: the largest of the adapter or the model."""
        kept = [artifact for artifact in self.artifacts if artifact.kind in KEPT]
        return max(kept, key=lambda artifact: artifact.bytes, default=None)


def _title(view: RunView, result: RunOutcomePage | None, failure: RunFailure | None) -> str:
    run = _("Run %(id)s", id=view.row.id)
    if failure:
        return _("%(run)s failed: %(why)s", run=run, why=failure.words)
    if view.row.status == RunStatus.CANCELLED:
        return _("%(run)s was cancelled", run=run)
    if result is None:
        return _("%(run)s: %(arm)s, seed %(seed)s", run=run, arm=view.row.arm, seed=view.row.seed)
    values = {
        "run": run,
        "arm": view.row.arm,
        "metric": title(result.metric),
        "reached": percent(result.score),
        "base": percent(result.base_score),
    }
    match result.right is not None, result.base_score is not None:
        case True, True:
            return _("%(run)s: %(arm)s gets %(reached)s right, the untouched model %(base)s", **values)
        case True, False:
            return _("%(run)s: %(arm)s gets %(reached)s right", **values)
        case False, True:
            return _("%(run)s: %(arm)s reaches %(metric)s %(reached)s, the untouched model %(base)s", **values)
        case _:
            return _("%(run)s: %(arm)s reaches %(metric)s %(reached)s", **values)
