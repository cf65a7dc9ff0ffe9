"""The fields of a run (`app.domain.runs.listing.fields`) as columns and expressions."""

from typing import Any

from sqlalchemy import Boolean, ColumnElement, case, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from app.domain.runs.listing.fields import FIELDS
from app.domain.tasks import METRICS
from app.store.tables import BaseModelRow, CollectionRow, DatasetRow, RunRow, StudyRow

Expression = ColumnElement[Any] | InstrumentedAttribute[Any]


class Unindexed(FunctionElement[Any]):
    """A column whose own index SQLite does not use: it scans `ix_runs_list` instead.

    Otherwise SQLite chooses an index with few distinct methods, or one with half of the scores, and fetches the wide
    row of every match: 200 ms instead of 25 at 100,000 runs. PostgreSQL's planner chooses well by itself.
    """

    inherit_cache = True
    name = "unindexed"

    def __init__(self, column: Expression) -> None:
        super().__init__(column)
        self.type = column.type


@compiles(Unindexed)
def _as_it_is(element: Unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


@compiles(Unindexed, "sqlite")
def _with_a_plus(element: Unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return f"+{compiler.process(element.clauses, **options)}"


class Contains(FunctionElement[bool]):
    """Whether a text contains another, ignoring case.

    SQLite's LIKE and `lower` ignore the case of ASCII letters only. A text with other letters is matched by GLOB, with
    every letter in each case. For 100,000 texts LIKE without `lower` saves a third of the time, and a Python function
    would take twice as long.
    """

    inherit_cache = True
    name = "contains"
    type = Boolean()

    def __init__(self, column: Expression, value: str) -> None:
        as_it_is = column.contains(value, autoescape=True)
        on_sqlite = as_it_is if value.isascii() else column.op("GLOB", is_comparison=True)(_in_each_case(value))
        super().__init__(column.icontains(value, autoescape=True), on_sqlite)


def _in_each_case(value: str) -> str:
    """The GLOB pattern of texts that contain another: `*[Ää][Rr]=8*`. Cases of more than one letter do not count: `ß`
    does not match `SS`, nor does it on PostgreSQL."""
    return f"*{''.join(map(_each_case, value))}*"


def _each_case(letter: str) -> str:
    upper, lower = letter.upper(), letter.lower()
    cases = {case for case in (letter, upper, lower, upper.lower(), lower.upper()) if len(case) == 1}
    return f"[{''.join(sorted(cases))}]" if len(cases) > 1 or letter in "*?[" else letter


@compiles(Contains)
def _in_lower_case(element: Contains, compiler: SQLCompiler, **options: Any) -> str:
    lower, _on_sqlite = element.clauses
    return f"({compiler.process(lower, **options)})"


@compiles(Contains, "sqlite")
def _in_any_case(element: Contains, compiler: SQLCompiler, **options: Any) -> str:
    _lower, on_sqlite = element.clauses
    return f"({compiler.process(on_sqlite, **options)})"


COLUMNS: dict[str, InstrumentedAttribute[Any]] = {
    "id": RunRow.id,
    "study": RunRow.study_id,
    "arm": RunRow.arm,
    "method": RunRow.method_kind,
    "task": RunRow.task,
    "metric": RunRow.metric,
    "score": RunRow.score,
    "base_score": RunRow.base_score,
    "validation_score": RunRow.validation_score,
    "loss": RunRow.loss,
    "train_loss": RunRow.train_loss,
    "peak": RunRow.peak_bytes,
    "estimated": RunRow.estimated_bytes,
    "train": RunRow.train_seconds,
    "wall": RunRow.wall_seconds,
    "speed": RunRow.tokens_per_second,
    "trainable": RunRow.trainable_parameters,
    "parameters": RunRow.total_parameters,
    "size": RunRow.artifact_bytes,
    "rank": RunRow.rank,
    "learning_rate": RunRow.learning_rate,
    "seed": RunRow.seed,
    "steps": RunRow.step,
    "attempts": RunRow.epoch,
    "status": RunRow.status,
    "failure": RunRow.failure_code,
    "device": RunRow.device_name,
    "precision": RunRow.precision,
    "worker": RunRow.worker,
    "note": RunRow.note,
    "queued_at": RunRow.queued_at,
    "started_at": RunRow.started_at,
    "finished_at": RunRow.finished_at,
}
"""Fields that are a column of the run itself."""

SCORES: dict[str, ColumnElement[Any]] = {
    name: case((RunRow.metric == name, RunRow.score)) for name, facts in METRICS.items() if facts.per_item
}
"""A metric by its name: the score of the runs with this metric."""

NAMED: dict[str, tuple[InstrumentedAttribute[Any], InstrumentedAttribute[Any], InstrumentedAttribute[Any]]] = {
    "study_name": (RunRow.study_id, StudyRow.id, StudyRow.name),
    "collection": (RunRow.collection_id, CollectionRow.id, CollectionRow.name),
    "model": (RunRow.base_model_id, BaseModelRow.id, BaseModelRow.name),
    "data": (RunRow.dataset_id, DatasetRow.id, DatasetRow.name),
}
"""Fields that are names from another table: the run's foreign key, the id and the name there."""

OUTSIDE = {"model": "base_model", "data": "dataset"}
"""Fields of these that an imported run's file has."""


def _name(field: str) -> ColumnElement[Any]:
    key, row_id, name = NAMED[field]
    ours = select(name).where(row_id == key).scalar_subquery()
    return func.coalesce(ours, RunRow.imported_json[OUTSIDE[field]].as_string()) if field in OUTSIDE else ours


SHOWN: dict[str, Expression] = {
    **COLUMNS,
    **SCORES,
    **{field: _name(field) for field in NAMED},
    "family": RunRow.family,
    "data_version": RunRow.dataset_id,
    "memory_measure": RunRow.imported_json["memory_measure"].as_string(),
    "trial": RunRow.trial_round.is_not(None),
    "imported": RunRow.collection_id.is_not(None),
    "heard_at": RunRow.heard_at,
    "elsewhere": RunRow.heard_at.is_not(None),
    "archived": RunRow.archived,
}
"""What a list can show; tags are rows of their own."""

SORTABLE = tuple(name for name, field in FIELDS.items() if field.kind != "text" and (name in COLUMNS or name in SCORES))
"""Fields by which a list can be put in order."""
