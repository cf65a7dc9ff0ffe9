"""The context of a run's page."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from app.domain.failures import FAILURES, Failure, FailureCode
from app.domain.methods import METHODS, Family
from app.domain.resources.memory_fit import MemorySaving, RunFit
from app.domain.runs.status import RunStatus
from app.services.annotations import Notes
from app.services.runs import RunView
from app.store.tables import ArtifactRow, RunRow
from app.web.figures.figure import Drawn
from app.web.format import MIB, memory, percent, rate
from app.web.i18n import gettext as _
from app.web.pages.run.live import RunLive
from app.web.pages.run.result import RunOutcome, RunWeightDeltas
from app.web.text.failures import FAILURE_LABELS
from app.web.text.memory_fit import peak_words
from app.web.text.metrics import title

SpecFormat = Literal["yaml", "json", "curl"]
KEPT = ("adapter", "model")
"""Kinds of artifacts that hold weights."""
REQUESTED = re.compile(r"([\d,]+) MiB more were requested")
"""In the worker's message: `worker.engine.failures`."""


@dataclass(frozen=True)
class RunFailure:
    """Why a run failed, and what to do."""

    failure: Failure

    @property
    def out_of_memory(self) -> bool:
        """The device or the host ran out of memory."""
        return self.failure.code in (FailureCode.OUT_OF_MEMORY, FailureCode.HOST_OOM)

    @property
    def label(self) -> str:
        """The reason in a few words."""
        return _(FAILURE_LABELS[self.failure.code])

    @property
    def sentence(self) -> str:
        """What happened and what to do."""
        return _(FAILURES[self.failure.code])

    @property
    def message(self) -> str:
        """What the worker reported; empty if it is the same sentence."""
        return self.failure.message if self.failure.message != FAILURES[self.failure.code] else ""

    @property
    def requested(self) -> str:
        """How much memory was requested when it ran out; empty if that is unknown."""
        match = REQUESTED.search(self.failure.message)
        return memory(float(match[1].replace(",", "")) * MIB) if match else ""

    @property
    def moment(self) -> str:
        """When within a step memory ran out; empty without a ledger."""
        return peak_words(self.failure.ledger) if self.failure.ledger else ""


@dataclass(frozen=True)
class RunPage:
    """A run, in progress and afterwards."""

    view: RunView
    figures: Mapping[str, Drawn]
    spec_format: SpecFormat
    spec: str
    live: RunLive | None
    outcome: RunOutcome | None
    failure: RunFailure | None
    weight_deltas: RunWeightDeltas | None
    """None until it has a result."""
    fit: RunFit

    @property
    def run(self) -> RunRow:
        """Its row."""
        return self.view.row

    @property
    def family(self) -> Family:
        """Of its method."""
        return METHODS[self.run.method_kind].family

    @property
    def trial_rate(self) -> str:
        """The learning rate that a trial tries; else empty."""
        return rate(self.run.learning_rate) if self.run.trial_round is not None else ""

    @property
    def notes(self) -> Notes:
        """Its note and tags."""
        return Notes("runs", self.run.id, self.run.note, tuple(self.view.tags), self.run.archived)

    @property
    def savings(self) -> tuple[MemorySaving, ...]:
        """Settings that need less memory, for a run that ran out of it."""
        return self.fit.memory_savings if self.failure and self.failure.out_of_memory else ()

    @property
    def savings_pending(self) -> int:
        """Savings whose estimate is not ready yet."""
        return self.fit.savings_pending if self.failure and self.failure.out_of_memory else 0

    @property
    def adapter_description(self) -> str:
        """What a file of the kind `adapter` is."""
        if self.run.spec.method.mechanism == "peft":
            return _("load it with PEFT")
        return _("the trained weights; the .json beside it says how to load them")

    @property
    def download(self) -> ArtifactRow | None:
        """The largest file of the adapter or the model."""
        kept = [artifact for artifact in self.view.artifacts if artifact.kind in KEPT]
        return max(kept, key=lambda artifact: artifact.bytes, default=None)

    @property
    def title(self) -> str:
        """The finding, or the state."""
        name = _("Run %(id)s", id=self.run.id)
        if self.failure:
            return _("%(run)s failed: %(why)s", run=name, why=self.failure.label)
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
