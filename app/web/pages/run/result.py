"""What a run reached and what it cost: the tables of a finished run."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.comparison.intervals import ScoreInterval
from app.domain.resources.memory_fit import RunFit
from app.domain.runs.result import Audit, Clocks, Environment, Forgetting, Memory, Parameters, RunResult
from app.domain.tasks import TASKS, MetricName, Task
from app.store.tables import EvaluationRow, RunRow
from app.web.figures.costs import OWNERS, owners
from app.web.figures.owners import Foreseen, memory_sizes, names
from app.web.format import NOTHING, decimal
from app.web.i18n import gettext as _
from app.web.i18n import marked
from app.web.text.memory_fit import Confronted, peak_words
from app.web.text.metrics import COUNTED, definition, heading, loss_unit, written

CLOCKS = {
    "start": marked("start: process and libraries"),
    "download": marked("download the base model (not in the sum)"),
    "load": marked("load the base model"),
    "tokenize": marked("tokenize"),
    "baseline": marked("evaluate the untouched model"),
    "cache": marked("compute what the frozen part gives"),
    "forward": marked("train: forward"),
    "backward": marked("train: backward"),
    "optimizer": marked("train: optimizer"),
    "data": marked("train: batches and the rest"),
    "evaluate": marked("evaluate"),
    "save": marked("save"),
    "audit": marked("audit"),
    "weight_delta": marked("weight delta analysis"),
}
"""In the order of time."""
SELDOM = ("download", "cache", "weight_delta")


@dataclass(frozen=True)
class Row:
    """A name, a number, and whether it was computed or measured."""

    name: str
    value: float
    kind: str = ""


@dataclass(frozen=True)
class Owner:
    """An owner's bytes, measured and predicted."""

    name: str
    measured: float
    predicted: float | None


@dataclass(frozen=True)
class Measure:
    """A metric of both models on the test split, as it is written."""

    name: str
    unit: str
    """Of a loss; the others carry theirs."""
    untouched: str
    adapted: str
    definition: str
    decides: bool
    """The verdict rests on it."""


@dataclass(frozen=True)
class Checked:
    """An evaluation in the list of all."""

    subject: str
    split: str
    step: int
    score: str
    loss: float | None
    items: int
    here: bool
    """Of the result."""


@dataclass(frozen=True)
class RunOutcomePage:
    """A result, as its page shows it. Bytes, seconds, fractions."""

    metric: MetricName
    split: str
    """What it was judged on: the test split, or of a trial the validation split."""
    score: float | None
    base_score: float | None
    items: int
    right: int | None
    """Items that were right, where an item is right or wrong."""
    interval: ScoreInterval | None
    """Over the test items, for this one seed."""
    measures: tuple[Measure, ...]
    forgetting: Forgetting | None
    clocks: tuple[Row, ...]
    wall_seconds: float
    train_seconds: float
    memory: tuple[Row, ...]
    """Where there is no ledger."""
    owners: tuple[Owner, ...]
    """By the ledger, where there is one."""
    moment: str
    """When a train step held most; empty without a ledger."""
    confronted: Confronted
    measured: Memory
    parameters: Parameters
    audit: Audit
    environment: Environment
    evaluations: tuple[Checked, ...]
    best_step: int
    best_by: str
    """`metric` or `loss`: what the best checkpoint was chosen by."""
    steps: int
    planned_steps: int
    resumed_from: int | None
    tokens_per_second: float | None
    energy_joules: float | None
    """Of training; None where the device does not count it."""

    @property
    def stopped_early(self) -> bool:
        """It took fewer steps than it was given."""
        return self.steps < self.planned_steps

    @property
    def score_heading(self) -> str:
        """Of the metric that the verdict rests on."""
        return heading(self.metric)

    @classmethod
    def of(
        cls,
        row: RunRow,
        result: RunResult,
        evaluations: Sequence[EvaluationRow],
        interval: ScoreInterval | None,
        fit: RunFit,
    ) -> "RunOutcomePage":
        """From the row, its stored result and its evaluations."""
        spec = row.spec
        metric = spec.verdict_metric
        tests = {evaluation.subject: evaluation for evaluation in evaluations if evaluation.split == "test"}
        test, base = tests.get("adapted") or _kept(evaluations, result.best_step), tests.get("base")
        train = result.clocks.train
        return cls(
            metric=metric,
            split=test.split,
            score=test.score,
            base_score=base.score if base else None,
            items=test.n,
            right=round(test.score * test.n) if metric in COUNTED and test.score is not None else None,
            interval=interval,
            measures=_measures(spec.task, metric, test, base),
            forgetting=result.forgetting,
            clocks=_clocks(result.clocks),
            wall_seconds=result.clocks.wall,
            train_seconds=train,
            memory=_memory(result.memory),
            owners=_owners(result.memory, Foreseen.of(fit)),
            moment=peak_words(result.memory.ledger) if result.memory.ledger else "",
            confronted=Confronted.of(fit, result.weights_file_bytes),
            measured=result.memory,
            parameters=result.parameters,
            audit=result.audit,
            environment=result.environment,
            evaluations=tuple(_checked(evaluation, metric) for evaluation in evaluations),
            best_step=result.best_step,
            best_by=TASKS[spec.task].best_by,
            steps=result.steps,
            planned_steps=row.total_steps or result.steps,
            resumed_from=result.resumed_from,
            tokens_per_second=result.tokens / train if train else None,
            energy_joules=result.energy_joules,
        )


def _kept(evaluations: Sequence[EvaluationRow], best_step: int) -> EvaluationRow:
    """A trial's: of the weights that it kept, on the validation split."""
    found = [e for e in evaluations if e.subject == "adapted" and e.split == "validation"]
    return next((e for e in found if e.step == best_step), found[-1])


def _measures(task: Task, metric: MetricName, test: EvaluationRow, base: EvaluationRow | None) -> tuple[Measure, ...]:
    """The metrics that were computed, the one that decides first; the loss last."""
    known = [name for name in TASKS[task].metrics if name in test.metrics_json]
    rows = [
        Measure(
            name=heading(name),
            unit="",
            untouched=written(name, base.metrics_json.get(name)) if base else NOTHING,
            adapted=written(name, test.metrics_json[name]),
            definition=definition(name),
            decides=name == metric,
        )
        for name in sorted(known, key=lambda name: name != metric)
    ]
    loss = Measure(
        name=_("Loss"),
        unit=loss_unit(task),
        untouched=decimal(base.loss, 3) if base else NOTHING,
        adapted=decimal(test.loss, 3),
        definition=_("mean cross-entropy"),
        decides=False,
    )
    return (*rows, loss)


def _checked(row: EvaluationRow, metric: MetricName) -> Checked:
    return Checked(
        subject=row.subject,
        split=row.split,
        step=row.step,
        score=written(metric, row.score),
        loss=row.loss,
        items=row.n,
        here=row.split == "test" and row.subject == "adapted",
    )


def _clocks(clocks: Clocks) -> tuple[Row, ...]:
    """Without the one that most runs do not have."""
    ran = {name: float(getattr(clocks, name)) for name in CLOCKS}
    return tuple(Row(_(CLOCKS[name]), seconds) for name, seconds in ran.items() if seconds or name not in SELDOM)


def _owners(memory: Memory, guess: Foreseen | None) -> tuple[Owner, ...]:
    if memory.ledger is None:
        return ()
    sizes = memory_sizes(memory)
    guesses = guess.sizes if guess else (None,) * len(sizes)
    return tuple(map(Owner, names(), sizes, guesses))


def _memory(memory: Memory) -> tuple[Row, ...]:
    *computed, rest = ((_(name), size) for (_css, name, _colour), size in zip(OWNERS, owners(memory), strict=True))
    return (*(Row(name, size, _("computed")) for name, size in computed), Row(*rest, _("what is left")))
