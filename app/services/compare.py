"""Comparisons of any runs: which runs are requested, and what is known of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from app.domain.comparison.conditions import known, measured, planned
from app.domain.comparison.confounders import ConditionName
from app.domain.comparison.grouping import ComparedRun
from app.domain.comparison.runs import RunComparison, compare_runs
from app.domain.comparison.verdict import confidence_after
from app.domain.errors import Invalid, NotFound
from app.domain.imports.result import ImportedResult
from app.domain.messages import _
from app.domain.runs.groups import About
from app.domain.runs.status import RunStatus
from app.services.studies import comparisons
from app.store.queries import base_models, collections, datasets, evaluations, runs, studies
from app.store.queries.evaluations import ItemScores
from app.store.tables import DatasetRow, RunRow

MOST_RUNS = 100
"""In one comparison."""
VARIES_BY_SEED = (
    "seed", "score", "items", "item_scores", "source", "versions", "device", "precision", "steps", "tokens",
)  # fmt: skip
"""Of an imported result: what may differ between the seeds of one arm."""
NOT_SETTINGS = (
    "label", "method", "family", "metric", "settings",
    "train_seconds", "peak_bytes", "memory_measure", "trainable_parameters", "total_parameters", "file_bytes",
)  # fmt: skip
"""Of an imported result: what it is called, and what was measured."""


@dataclass(frozen=True)
class Selection:
    """Which runs are to be compared, and how."""

    runs: tuple[int, ...] = ()
    studies: tuple[int, ...] = ()
    """Every run of these that counts in a verdict."""
    collection: int | None = None
    """Every run of this."""
    reference: int | None = None
    """A run of the reference arm; None takes the study's, where all runs are of one."""
    margin_points: float | None = None
    """None takes the study's, where all runs are of one; else 1."""


@dataclass(frozen=True)
class Selected:
    """The comparison, and what of the selection does not exist."""

    comparison: RunComparison | None
    """None where no run exists."""
    missing: tuple[int, ...] = ()
    """Numbers of runs that do not exist."""
    replaced_reference: int | None = None
    """The run that was to be the reference, and is not among the runs: another took its place."""
    study_names: dict[int, str] = field(default_factory=dict)

    @property
    def strict(self) -> RunComparison:
        """The comparison of all that was selected. Raises NotFound and Invalid where something does not exist."""
        if self.missing:
            raise NotFound(_("There is no run %(runs)s.", runs=", ".join(map(str, self.missing[:20]))))
        if self.comparison is None:
            raise Invalid.field(
                "runs", _("No run is given"), _("Add runs=1,2,3, study=4 or collection=5 to the address")
            )
        if self.replaced_reference is not None:
            message = _("Run %(run)s is not among the compared runs", run=self.replaced_reference)
            raise Invalid.field("reference", message, _("Choose one of them"))
        return self.comparison


def compare(session: Session, selection: Selection) -> Selected:
    """Compare the selected runs as they stand. Raises NotFound for a study or a collection that does not exist, Invalid
    for too many runs."""
    ids = _ids(session, selection)
    if len(ids) > MOST_RUNS:
        raise Invalid.field(
            "runs",
            _("%(runs)s runs are too many to compare", runs=len(ids)),
            _("Choose at most %(most)s of them", most=MOST_RUNS),
        )
    rows = {row.id: row for row in runs.some(session, ids)}
    missing = tuple(number for number in ids if number not in rows)
    existing = [rows[number] for number in ids if number in rows]
    if not existing:
        return Selected(None, missing)
    replaced = selection.reference if selection.reference not in rows else None
    declared = _predeclared(session, existing)
    study_ids = {row.study_id for row in existing if row.study_id}
    comparison = compare_runs(
        _compared_runs(session, existing),
        reference=declared.reference if selection.reference is None or replaced is not None else selection.reference,
        margin_points=declared.margin_points if selection.margin_points is None else selection.margin_points,
        predeclared=declared.runs,
        confidence=confidence_after(studies.most_looks(session, study_ids)),
    )
    if declared.closed:
        comparison = comparison.not_tested()
    return Selected(comparison, missing, replaced, studies.names(session, study_ids))


@dataclass(frozen=True)
class _Predeclared:
    """What a study fixed before it began."""

    margin_points: float = 1.0
    reference: int | None = None
    """A run of its reference arm that has a result; None without one."""
    runs: frozenset[int] | None = None
    """Every run of that arm; None where the runs are not all of one study."""
    closed: bool = False
    """Fine-tuning is not shown to help there, so that no arm has a verdict."""


def _predeclared(session: Session, rows: Sequence[RunRow]) -> _Predeclared:
    """By the study that all the runs are of, so that they read here as they do there."""
    study_ids = {row.study_id for row in rows}
    study_id = study_ids.pop()
    if study_ids or study_id is None:
        return _Predeclared()
    study = studies.get(session, study_id)
    spec, closed = study.spec, comparisons(session, [study])[study_id].learning.closed
    arm = [row for row in rows if row.arm == spec.reference_arm]
    done = (row.id for row in arm if row.score is not None and _counts(row))
    return _Predeclared(spec.margin_points, next(done, None), frozenset(row.id for row in arm), closed)


def _counts(row: RunRow) -> bool:
    """It succeeded, and is no trial."""
    return row.status == RunStatus.SUCCEEDED and row.trial_round is None


def _ids(session: Session, selection: Selection) -> list[int]:
    """Each once, in the order of the selection."""
    ids = list(selection.runs)
    for study_id in selection.studies:
        studies.get(session, study_id)
        ids += [run.id for run in runs.of_study(session, study_id) if run.trial_round is None]
    if selection.collection is not None:
        collections.get(session, selection.collection)
        ids += collections.run_ids(session, selection.collection, limit=MOST_RUNS + 1)
    return list(dict.fromkeys(ids))


def _compared_runs(session: Session, rows: Sequence[RunRow]) -> list[ComparedRun]:
    scores = evaluations.test_scores(session, [row.id for row in rows])
    names = collections.names(session, {row.collection_id for row in rows if row.collection_id})
    data = {i: datasets.by_id(session, i) for i in {row.dataset_id for row in rows}}
    models = base_models.names(session)
    rates = studies.rates_tried(session, {row.study_id for row in rows if row.study_id})
    return [
        _imported(row, row.imported_result, scores.get((row.id, "adapted")), names.get(row.collection_id or 0, ""))
        if row.imported_result
        else _trained_here(
            row,
            scores.get((row.id, "adapted")),
            data[row.dataset_id],
            models.get(row.base_model_id or 0, ""),
            rates_tried=rates.get((row.study_id or 0, row.arm), 0),
        )
        for row in rows
    ]


def _trained_here(
    row: RunRow, test: ItemScores | None, dataset: DatasetRow | None, model: str, *, rates_tried: int
) -> ComparedRun:
    spec, done = row.spec, _counts(row)
    fields = spec.model_dump(mode="json")
    fields["training"].pop("seed")
    scored = test if done else None
    training = spec.training
    conditions: dict[ConditionName, str] = {
        "task": spec.task,
        "dataset": spec.dataset,
        "dataset_version": dataset.content_hash[:8] if dataset else "",
        "base_model": model or spec.base_model,
        "metric": row.metric,
    }
    result = row.result if done else None
    measurements = measured(result) if result else {}
    if training.early_stopping_patience:  # then steps are the outcome of a run, not its budget
        measurements = {name: value for name, value in measurements.items() if name != "steps"}
    return ComparedRun(
        run_id=row.id,
        arm=f"{row.arm} (trial)" if row.trial_round is not None else row.arm,
        method=row.method_kind,
        family=row.family,
        seed=row.seed,
        status=RunStatus(row.status),
        result=result,
        failure=row.failure,
        identity=_identity(row, fields),
        settings=_flat(fields),
        conditions={**known(conditions), **planned(training), **measurements},
        metric=row.metric,
        score=row.score if done else None,
        items=len(scored.scores) if scored else None,
        items_hash=scored.items_hash if scored else None,
        scores=scored.scores if scored else None,
        worker=row.worker if done else None,
        started_at=row.started_at,
        finished_at=row.finished_at,
        costs=_costs(row) if done else {},
        study_id=row.study_id,
        tuned=rates_tried > 1,
        searched=rates_tried > 0 and row.trial_round is None,
    )


def _identity(row: RunRow, fields: Mapping[str, Any]) -> str:
    """As the list of runs groups; but from the spec as it is read today, in which a run from before a new field has it
    too."""
    about = About(
        method=row.method_kind,
        spec=fields,
        outside=row.imported_json,
        trial_round=row.trial_round,
        base_model_id=row.base_model_id,
        dataset_id=row.dataset_id,
        collection_id=row.collection_id,
    )
    return about.key


def _imported(row: RunRow, result: ImportedResult, test: ItemScores | None, collection: str) -> ComparedRun:
    fields = result.model_dump(mode="json", exclude={*VARIES_BY_SEED, *NOT_SETTINGS})
    conditions: dict[ConditionName, str] = {
        "dataset": result.dataset or "",
        "base_model": result.base_model or "",
        "metric": result.metric,
        "device": result.device or "",
        "precision": result.precision or "",
        "memory_measure": (result.memory_measure or "not said") if result.peak_bytes is not None else "",
        "torch": result.versions.get("torch", ""),
        "transformers": result.versions.get("transformers", ""),
        "peft": result.versions.get("peft", ""),
        "steps": str(result.steps) if result.steps is not None else "",
    }
    return ComparedRun(
        run_id=row.id,
        arm=result.label,
        method=result.kind,
        family=result.its_family,
        seed=result.seed,
        status=RunStatus(row.status),
        identity=_identity(row, {}),
        settings=_flat(fields | result.settings),
        conditions=known(conditions),
        metric=result.metric,
        score=result.score,
        items=result.n,
        items_hash=test.items_hash if test else None,
        test_set=result.test_set or "",
        scores=test.scores if test else None,
        costs=_costs(row),
        collection=collection,
    )


def _costs(row: RunRow) -> dict[str, float]:
    costs = {
        "peak_bytes": row.peak_bytes,
        "train_seconds": row.train_seconds,
        "trainable_parameters": row.trainable_parameters,
        "artifact_bytes": row.artifact_bytes,
    }
    return {name: float(value) for name, value in costs.items() if value is not None}


def _flat(fields: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """Dotted names and values as text; without empty values."""
    flat: dict[str, str] = {}
    for name, value in fields.items():
        dotted = f"{path}.{name}" if path else name
        if isinstance(value, dict):
            flat |= _flat(value, dotted)
        elif text := _text(value):
            flat[dotted] = text
    return flat


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
