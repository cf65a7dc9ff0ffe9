"""The context of a run's page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from app.domain.comparison.learning.run_learning import RunLearning
from app.domain.comparison.statistics.intervals import ScoreInterval
from app.domain.failures import Failure
from app.domain.models.weight_delta import WeightDeltas
from app.domain.resources.memory_fit import RunFit
from app.domain.runs.result import RunResult
from app.domain.runs.status import RunStatus
from app.domain.tasks import TASKS, MetricName
from app.services.runs.annotations import Notes
from app.services.runs.runs import RunView
from app.services.studies.reproductions import Repeated
from app.store.tables import ArtifactRow, EvaluationRow, RunRow
from app.web.figures.figure import Drawn
from app.web.figures.resources.parts import COMPUTED, computed_sizes, fit_sizes, memory_sizes, names
from app.web.pages.run.live import RunLive
from app.web.site import Part
from app.words.format import percent
from app.words.i18n import gettext as _
from app.words.runs.failures import failure_label
from app.words.runs.metrics import COUNTED, title
from app.words.runs.phases import CLOCK_LABELS
from app.words.runs.weight_delta import explained

SpecFormat = Literal["yaml", "json", "curl"]
OPTIONAL_CLOCKS = ("download", "cache", "compile", "ledger", "weight_delta")
"""Clocks that are shown only where they took time."""


@dataclass(frozen=True)
class RunOutcome:
    """A result with what follows from it."""

    run: RunRow
    result: RunResult
    evaluations: Sequence[EvaluationRow]
    interval: ScoreInterval | None
    """Over the test items, for this one seed."""
    fit: RunFit
    learned: RunLearning | None

    @property
    def metric(self) -> MetricName:
        """The verdict rests on it."""
        return self.run.spec.verdict_metric

    @property
    def evaluated(self) -> EvaluationRow:
        """On the test split; of a trial, on the validation split with the weights that it kept."""
        validations = [e for e in self.evaluations if e.subject == "adapted" and e.split == "validation"]
        kept = [e for e in validations if e.step == self.result.best_step] or validations[-1:]
        return self._test("adapted") or kept[0]

    @property
    def base(self) -> EvaluationRow | None:
        """The base model on the test split."""
        return self._test("base")

    def _test(self, subject: str) -> EvaluationRow | None:
        return next((e for e in self.evaluations if e.subject == subject and e.split == "test"), None)

    @property
    def correct(self) -> int | None:
        """Items answered correctly, where an item is right or wrong."""
        evaluated = self.evaluated
        if self.metric not in COUNTED or evaluated.score is None:
            return None
        return round(evaluated.score * evaluated.n)

    @property
    def best_by_loss(self) -> bool:
        """The best checkpoint was chosen by loss, not by the metric."""
        return TASKS[self.run.spec.task].best_by == "loss"

    @property
    def metrics(self) -> list[MetricName]:
        """Those that were computed, the verdict's first."""
        known = [name for name in TASKS[self.run.spec.task].metrics if name in self.evaluated.metrics_json]
        return sorted(known, key=lambda name: name != self.metric)

    @property
    def clocks(self) -> list[tuple[str, float]]:
        """Name and seconds of each phase."""
        seconds = {name: float(getattr(self.result.clocks, name)) for name in CLOCK_LABELS}
        return [(_(CLOCK_LABELS[name]), s) for name, s in seconds.items() if s or name not in OPTIONAL_CLOCKS]

    @property
    def owners(self) -> list[tuple[str, float, float | None]]:
        """Name, measured and estimated bytes of each owner in the ledger; empty without a ledger."""
        if self.result.memory.ledger is None:
            return []
        sizes = memory_sizes(self.result.memory)
        return list(zip(names(), sizes, fit_sizes(self.fit) or (None,) * len(sizes), strict=True))

    @property
    def computed(self) -> list[tuple[str, float]]:
        """Name and bytes of each owner, for a run without a ledger; the last is the remainder."""
        return list(zip(names(COMPUTED), computed_sizes(self.result.memory), strict=True))


@dataclass(frozen=True)
class RunPage:
    view: RunView
    figures: Mapping[str, Drawn]
    spec_format: SpecFormat
    spec: str
    live: RunLive | None
    outcome: RunOutcome | None
    failure: Failure | None
    weight_deltas: WeightDeltas | None
    fit: RunFit
    parts: Sequence[Part] = ()
    """What features add to the page of a run that has ended."""
    reproductions: Sequence[Repeated] = ()

    @property
    def run(self) -> RunRow:
        return self.view.row

    @property
    def notes(self) -> Notes:
        return Notes("runs", self.run.id, self.run.note, tuple(self.view.tags), self.run.archived)

    @property
    def weight_delta_note(self) -> str:
        """How to read the numbers of each matrix."""
        return explained()

    @property
    def download(self) -> ArtifactRow | None:
        """The largest file of the adapter or the model."""
        kept = [artifact for artifact in self.view.artifacts if artifact.kind in ("adapter", "model")]
        return max(kept, key=lambda artifact: artifact.bytes, default=None)

    @property
    def title(self) -> str:
        """The finding, or the state."""
        name = _("Run %(id)s", id=self.run.id)
        if self.failure:
            return _("%(run)s failed: %(why)s", run=name, why=failure_label(self.failure))
        if self.run.status == RunStatus.CANCELLED:
            return _("%(run)s was cancelled", run=name)
        if self.outcome is None:
            return _("%(run)s: %(arm)s, seed %(seed)s", run=name, arm=self.run.arm, seed=self.run.seed)
        return f"{name}: {self._finding(self.outcome)}"

    def _finding(self, outcome: RunOutcome) -> str:
        base = outcome.base.score if outcome.base else None
        values = {
            "arm": self.run.arm,
            "metric": title(outcome.metric),
            "score": percent(outcome.evaluated.score),
            "base": percent(base),
        }
        match outcome.correct is not None, base is not None:
            case True, True:
                return _("%(arm)s gets %(score)s right, the base model %(base)s", **values)
            case True, False:
                return _("%(arm)s gets %(score)s right", **values)
            case False, True:
                return _("%(arm)s reaches %(metric)s %(score)s, the base model %(base)s", **values)
            case _:
                return _("%(arm)s reaches %(metric)s %(score)s", **values)
