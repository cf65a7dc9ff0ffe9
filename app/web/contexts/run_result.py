"""What a run reached and what it cost: the tables of a finished run."""

from dataclasses import dataclass

from app.domain.metrics import Audit, Clocks, Environment, Memory, Parameters, RunResult
from app.domain.verdict import Estimate
from app.store.tables import EvaluationRow
from app.web.figures.costs import OWNERS, owners
from app.web.i18n import gettext as _
from app.web.i18n import marked

CLOCKS = {
    "start": marked("start: process and libraries"),
    "load": marked("load the base model"),
    "tokenize": marked("tokenize"),
    "baseline": marked("evaluate the untouched model"),
    "forward": marked("train: forward"),
    "backward": marked("train: backward"),
    "optimizer": marked("train: optimizer"),
    "data": marked("train: batches and the rest"),
    "evaluate": marked("evaluate"),
    "save": marked("save"),
    "audit": marked("audit"),
}
"""In the order of time."""


@dataclass(frozen=True)
class Row:
    """A name, a number, and whether it was computed or measured."""

    name: str
    value: float
    kind: str = ""


@dataclass(frozen=True)
class RunOutcomePage:
    """A result, as its page shows it. Bytes, seconds, fractions."""

    accuracy: float
    items: int
    right: int
    macro_f1: float
    base_accuracy: float | None
    interval: Estimate | None
    """Over the test items, for this one seed."""
    clocks: tuple[Row, ...]
    wall_seconds: float
    train_seconds: float
    memory: tuple[Row, ...]
    measured: Memory
    parameters: Parameters
    audit: Audit
    environment: Environment
    evaluations: tuple[EvaluationRow, ...]
    best_step: int
    tokens_per_second: float | None

    @classmethod
    def of(cls, result: RunResult, evaluations: list[EvaluationRow], interval: Estimate | None) -> "RunOutcomePage":
        """From the stored result and its evaluations."""
        tests = {row.subject: row for row in evaluations if row.split == "test"}
        test, base = tests["adapted"], tests.get("base")
        train = result.clocks.train
        return cls(
            accuracy=test.accuracy,
            items=test.n,
            right=round(test.accuracy * test.n),
            macro_f1=test.macro_f1,
            base_accuracy=base.accuracy if base else None,
            interval=interval,
            clocks=_clocks(result.clocks),
            wall_seconds=result.clocks.wall,
            train_seconds=train,
            memory=_memory(result.memory),
            measured=result.memory,
            parameters=result.parameters,
            audit=result.audit,
            environment=result.environment,
            evaluations=tuple(evaluations),
            best_step=result.best_step,
            tokens_per_second=result.tokens / train if train else None,
        )


def _clocks(clocks: Clocks) -> tuple[Row, ...]:
    return tuple(Row(_(words), getattr(clocks, name)) for name, words in CLOCKS.items())


def _memory(memory: Memory) -> tuple[Row, ...]:
    *computed, rest = ((_(name), size) for (_css, name, _colour), size in zip(OWNERS, owners(memory), strict=True))
    return (*(Row(name, size, _("computed")) for name, size in computed), Row(*rest, _("what is left")))
