"""Runs as a comparison of any runs sees them: trained here, imported, or reported by scripts elsewhere."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from app.domain.comparison.fairness.conditions import known, measured, planned, shortened
from app.domain.comparison.fairness.confounders import ConditionName
from app.domain.comparison.grouping import ComparedRun
from app.domain.imports.reported import ReportedRun
from app.domain.imports.reports import QUIET
from app.domain.imports.result import OutsideRun
from app.domain.runs.listing.groups import About
from app.domain.runs.status import RunStatus
from app.store.data import queries as datasets
from app.store.models import queries as base_models
from app.store.runs import evaluations
from app.store.runs.evaluations import ItemScores
from app.store.studies import collections, external
from app.store.studies import queries as studies
from app.store.tables import DatasetRow, RunRow

VARIES_BY_SEED = (
    "seed", "score", "items", "item_scores", "source", "versions", "device", "precision", "steps", "tokens",
)  # fmt: skip
"""Fields of an imported result that may differ between the seeds of one arm."""
NOT_SETTINGS = (
    "label", "method", "family", "metric", "settings",
    "train_seconds", "peak_bytes", "memory_measure", "trainable_parameters", "total_parameters", "file_bytes",
    "reported", "splits", "base_model_hash", "metric_version", "environment", "clocks",
)  # fmt: skip
"""Fields of an external result that name it, that were measured, or by which it is compared."""


def compared_runs(session: Session, rows: Sequence[RunRow]) -> list[ComparedRun]:
    """With their scores and conditions."""
    scores = evaluations.test_scores(session, [row.id for row in rows])
    names = collections.names(session, {row.collection_id for row in rows if row.collection_id})
    data = {i: datasets.by_id(session, i) for i in {row.dataset_id for row in rows}}
    models = base_models.names(session)
    rates = studies.rates_tried(session, {row.study_id for row in rows if row.study_id})
    tries = external.tries(session, {row.collection_id for row in rows if row.collection_id})
    return [
        _imported(
            row,
            row.imported_result,
            scores.get((row.id, "adapted")),
            names.get(row.collection_id or 0, ""),
            quiet=external.is_silent(session, row, QUIET),
            tries=tries.get((row.collection_id or 0, row.arm, row.seed), 1),
        )
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
    spec, done = row.spec, counts(row)
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
        clusters=scored.clusters if scored else None,
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


def _imported(
    row: RunRow, result: OutsideRun, test: ItemScores | None, collection: str, *, quiet: bool, tries: int
) -> ComparedRun:
    reported = result if isinstance(result, ReportedRun) else None
    base_hash = shortened(reported.base_model_hash) if reported else ""
    fields = result.model_dump(mode="json", exclude={*VARIES_BY_SEED, *NOT_SETTINGS})
    conditions: dict[ConditionName, str] = {
        "dataset": result.dataset or "",
        "base_model": " ".join(part for part in (result.base_model or "", base_hash) if part),
        "metric": result.metric,
        "metric_version": reported.metric_version if reported else "",
        "test_items": shortened(test.items_hash) if test else "",
        "splits": " ".join(map(shortened, reported.splits.text.split(" "))) if reported else "",
        "tokens": str(result.tokens) if result.tokens is not None else "",
        "device": result.device or "",
        "precision": result.precision or "",
        "memory_measure": (result.memory_measure or "") if result.peak_bytes is not None else "",
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
        clusters=test.clusters if test else None,
        test_set=result.test_set or "",
        scores=test.scores if test else None,
        costs=_costs(row) if result.score is not None else {},
        collection=collection,
        reported=reported is not None,
        quiet=quiet,
        tries=tries,
        splits=reported.splits.text if reported else "",
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


def counts(row: RunRow) -> bool:
    """It succeeded, and is no trial."""
    return row.status == RunStatus.SUCCEEDED and row.trial_round is None
