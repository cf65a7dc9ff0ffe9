"""The tables of a finished run: what it reached, what it cost, and what training did to each matrix."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.comparison.intervals import ScoreInterval
from app.domain.models.weight_delta import MatrixDelta, WeightDeltas
from app.domain.resources.memory_fit import RunFit
from app.domain.runs.result import Clocks, Memory, RunResult
from app.domain.tasks import TASKS, MetricName, Task
from app.store.tables import EvaluationRow, RunRow
from app.web.figures.resource_parts import COMPUTED, EstimatedCosts, computed_sizes, memory_sizes, names
from app.web.format import NOTHING, count, decimal, percent
from app.web.i18n import gettext as _
from app.web.text import weight_delta as words
from app.web.text.memory_fit import EstimateErrors, peak_words
from app.web.text.metrics import COUNTED, definition, heading, loss_unit, written
from app.web.text.phases import CLOCK_LABELS

OPTIONAL_CLOCKS = ("download", "cache", "weight_delta")
"""Shown only where they took time."""


@dataclass(frozen=True)
class MetricLine:
    """A metric of the base model and of the adapted model."""

    name: str
    unit: str
    """Of a loss; other values carry theirs."""
    base: str
    adapted: str
    definition: str
    primary: bool
    """The verdict rests on it."""


@dataclass(frozen=True)
class RunOutcome:
    """A result with what follows from it."""

    result: RunResult
    task: Task
    metric: MetricName
    evaluated: EvaluationRow
    """On the test split; of a trial, on the validation split."""
    base: EvaluationRow | None
    evaluations: Sequence[EvaluationRow]
    interval: ScoreInterval | None
    """Over the test items, for this one seed."""
    planned_steps: int
    estimate: EstimatedCosts | None
    confronted: EstimateErrors

    @classmethod
    def of(
        cls,
        run: RunRow,
        result: RunResult,
        evaluations: Sequence[EvaluationRow],
        interval: ScoreInterval | None,
        fit: RunFit,
    ) -> "RunOutcome":
        """From the run, its stored result and its evaluations."""
        tests = {evaluation.subject: evaluation for evaluation in evaluations if evaluation.split == "test"}
        return cls(
            result=result,
            task=run.spec.task,
            metric=run.spec.verdict_metric,
            evaluated=tests.get("adapted") or _of_trial(evaluations, result.best_step),
            base=tests.get("base"),
            evaluations=evaluations,
            interval=interval,
            planned_steps=run.total_steps or result.steps,
            estimate=EstimatedCosts.of(fit),
            confronted=EstimateErrors.of(fit, result.weights_file_bytes),
        )

    @property
    def correct(self) -> int | None:
        """Items answered correctly, where an item is right or wrong."""
        score = self.evaluated.score
        return round(score * self.evaluated.n) if self.metric in COUNTED and score is not None else None

    @property
    def score_heading(self) -> str:
        """Of the metric that the verdict rests on."""
        return heading(self.metric)

    @property
    def best_by_loss(self) -> bool:
        """The best checkpoint was chosen by loss, not by the metric."""
        return TASKS[self.task].best_by == "loss"

    @property
    def tokens_per_second(self) -> float | None:
        """Of training."""
        train = self.result.clocks.train
        return self.result.tokens / train if train else None

    @property
    def peak_moment(self) -> str:
        """When a train step held most; empty without a ledger."""
        ledger = self.result.memory.ledger
        return peak_words(ledger) if ledger else ""

    @property
    def metrics(self) -> list[MetricLine]:
        """The metrics that were computed, the primary one first, and the loss last."""
        known = [name for name in TASKS[self.task].metrics if name in self.evaluated.metrics_json]
        lines = [
            MetricLine(
                name=heading(name),
                unit="",
                base=written(name, self.base.metrics_json.get(name)) if self.base else NOTHING,
                adapted=written(name, self.evaluated.metrics_json[name]),
                definition=definition(name),
                primary=name == self.metric,
            )
            for name in sorted(known, key=lambda name: name != self.metric)
        ]
        loss = MetricLine(
            name=_("Loss"),
            unit=loss_unit(self.task),
            base=decimal(self.base.loss, 3) if self.base else NOTHING,
            adapted=decimal(self.evaluated.loss, 3),
            definition=_("mean cross-entropy"),
            primary=False,
        )
        return [*lines, loss]

    def score_of(self, evaluation: EvaluationRow) -> str:
        """The metric of the verdict in an evaluation."""
        return written(self.metric, evaluation.score)

    @property
    def clocks(self) -> list[tuple[str, float]]:
        """Name and seconds of each phase."""
        return _clocks(self.result.clocks)

    @property
    def owners(self) -> list[tuple[str, float, float | None]]:
        """Name, measured and estimated bytes of each owner in the ledger; empty without a ledger."""
        memory = self.result.memory
        if memory.ledger is None:
            return []
        sizes = memory_sizes(memory)
        estimated = self.estimate.sizes if self.estimate else (None,) * len(sizes)
        return list(zip(names(), sizes, estimated, strict=True))

    @property
    def memory(self) -> list[tuple[str, str, float]]:
        """Owner, kind of number, and bytes, for a run without a ledger."""
        return _memory(self.result.memory)


def _of_trial(evaluations: Sequence[EvaluationRow], best_step: int) -> EvaluationRow:
    """The evaluation of the weights that a trial kept."""
    validations = [e for e in evaluations if e.subject == "adapted" and e.split == "validation"]
    return next((e for e in validations if e.step == best_step), validations[-1])


def _clocks(clocks: Clocks) -> list[tuple[str, float]]:
    seconds = {name: float(getattr(clocks, name)) for name in CLOCK_LABELS}
    return [(_(CLOCK_LABELS[name]), value) for name, value in seconds.items() if value or name not in OPTIONAL_CLOCKS]


def _memory(memory: Memory) -> list[tuple[str, str, float]]:
    *computed, rest = zip(names(COMPUTED), computed_sizes(memory), strict=True)
    return [*((name, _("computed"), size) for name, size in computed), (rest[0], _("remainder"), rest[1])]


@dataclass(frozen=True)
class RunWeightDeltas:
    """What training did to each matrix, or why that is unknown."""

    reason: str
    """Why there is nothing to show; else empty."""
    summary: str = ""
    left_out: str = ""
    rows: tuple[tuple[str, ...], ...] = ()
    """Matrix, shape, effective rank of ΔW and of W, rank for 90 %, energy at rank 8, norm ratio, intruders."""
    explanation: str = ""

    @classmethod
    def of(cls, label: str, deltas: WeightDeltas | None) -> "RunWeightDeltas":
        """From the method's label and the analysis, if the run has one."""
        summary = deltas.summary if deltas else None
        if deltas is None or summary is None:
            return cls(words.why_none(deltas))
        sentences = f"{words.run_sentence(label, summary)} {words.weight_sentence(summary)}"
        return cls("", sentences, words.left_out(deltas), tuple(map(_matrix, deltas.matrices)), words.explained())


def _matrix(m: MatrixDelta) -> tuple[str, ...]:
    name = m.module if m.block is None else _("block %(block)s, %(module)s", block=m.block, module=m.module)
    rank, limit = words.directions(m.delta.effective_rank), count(m.delta.count)
    return (
        name,
        f"{count(m.rows)} × {count(m.columns)}",
        _("%(rank)s of %(most)s", rank=rank, most=limit),
        words.directions(m.weight.effective_rank),
        count(m.delta.rank_90),
        percent(m.delta.energy_at(8), 0),
        percent(m.norm_ratio),
        words.intruders(m.intruders, m.top),
    )
