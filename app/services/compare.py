"""Any runs held against each other: which are asked for, and what is known of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from app.domain.comparison.candidates import Candidate
from app.domain.comparison.confounders import Term
from app.domain.comparison.runs import Compared, weigh
from app.domain.comparison.verdict import confidence_after
from app.domain.errors import Invalid
from app.domain.imports.result import ImportedResult
from app.domain.messages import _
from app.domain.runs.groups import About
from app.domain.runs.result import RunResult
from app.domain.runs.status import RunStatus
from app.store.queries import base_models, collections, datasets, evaluations, runs, studies
from app.store.queries.evaluations import ItemScores
from app.store.tables import DatasetRow, RunRow

MOST_RUNS = 100
"""In one comparison."""
APART_FROM_SEED = (
    "seed",
    "score",
    "items",
    "item_scores",
    "source",
    "versions",
    "device",
    "precision",
    "steps",
    "tokens",
)
"""Of an outside result: what may differ between seeds of one arm."""
MEASURED_OUTSIDE = ("train_seconds", "peak_bytes", "memory_measure", "trainable_parameters", "total_parameters")


@dataclass(frozen=True)
class Asked:
    """Which runs are to be compared, and how."""

    runs: tuple[int, ...] = ()
    studies: tuple[int, ...] = ()
    """Every run of these that counts in a verdict."""
    collection: int | None = None
    """Every run of this."""
    reference: int | None = None
    """A run of the arm that the others are held against; None takes the study's, where all are of one."""
    margin_points: float | None = None
    """None takes the study's, where all are of one; else 1."""


@dataclass(frozen=True)
class Found:
    """The comparison, and what of it is not there."""

    compared: Compared | None
    """None where no run is there."""
    missing: tuple[int, ...] = ()
    """Numbers of runs that are asked for and are not there."""
    stray_reference: int | None = None
    """The run that was to be the reference, and is not among them: another took its place."""
    study_names: dict[int, str] = field(default_factory=dict)


def compare(session: Session, asked: Asked) -> Found:
    """Weigh the runs that are asked for, as they stand. Raises NotFound for a study or a collection that is not there,
    Invalid for too many runs."""
    ids = _ids(session, asked)
    if len(ids) > MOST_RUNS:
        raise Invalid.field(
            "runs",
            _("%(runs)s runs are too many to compare", runs=len(ids)),
            _("Choose at most %(most)s of them", most=MOST_RUNS),
        )
    rows = {row.id: row for row in runs.some(session, ids)}
    missing = tuple(number for number in ids if number not in rows)
    there = [rows[number] for number in ids if number in rows]
    if not there:
        return Found(None, missing)
    stray = asked.reference if asked.reference not in rows else None
    terms = _promised(session, there)
    compared = weigh(
        _candidates(session, there),
        reference=terms.reference if asked.reference is None or stray is not None else asked.reference,
        margin_points=terms.margin_points if asked.margin_points is None else asked.margin_points,
        named=terms.named,
        confidence=confidence_after(studies.most_looks(session, {row.study_id for row in there if row.study_id})),
    )
    return Found(
        compared,
        missing,
        stray_reference=stray,
        study_names=studies.names(session, {row.study_id for row in there if row.study_id}),
    )


@dataclass(frozen=True)
class _Promised:
    """By what a study said that its arms would be judged, before it began."""

    margin_points: float = 1.0
    reference: int | None = None
    """A run of its reference arm that has a result; None where no study said so, or none has."""
    named: frozenset[int] | None = None
    """Every run of that arm; None where no study said so."""


def _promised(session: Session, rows: Sequence[RunRow]) -> _Promised:
    """Of the study that all the runs are of, so that they read here as they do there."""
    of = {row.study_id for row in rows}
    study_id = of.pop()
    if of or study_id is None:
        return _Promised()
    spec = studies.get(session, study_id).spec
    named = [row for row in rows if row.arm == spec.reference_arm]
    done = (row.id for row in named if row.score is not None and _counts(row))
    return _Promised(spec.margin_points, next(done, None), frozenset(row.id for row in named))


def _counts(row: RunRow) -> bool:
    """It ended well, and is no trial."""
    return row.status == RunStatus.SUCCEEDED and row.trial_round is None


def _ids(session: Session, asked: Asked) -> list[int]:
    """Each once, in the order in which they are asked for."""
    ids = list(asked.runs)
    for study_id in asked.studies:
        studies.get(session, study_id)
        ids += [run.id for run in runs.of_study(session, study_id) if run.trial_round is None]
    if asked.collection is not None:
        collections.get(session, asked.collection)
        ids += collections.run_ids(session, asked.collection, limit=MOST_RUNS + 1)
    return list(dict.fromkeys(ids))


def _candidates(session: Session, rows: Sequence[RunRow]) -> list[Candidate]:
    scores = evaluations.test_scores(session, [row.id for row in rows])
    names = collections.names(session, {row.collection_id for row in rows if row.collection_id})
    data = {i: datasets.by_id(session, i) for i in {row.dataset_id for row in rows}}
    models, tuned = base_models.names(session), studies.tuned(session, {row.study_id for row in rows if row.study_id})
    return [
        _outside(row, row.imported_result, scores.get((row.id, "adapted")), names.get(row.collection_id or 0, ""))
        if row.imported_result
        else _ours(
            row,
            scores.get((row.id, "adapted")),
            data[row.dataset_id],
            models.get(row.base_model_id or 0, ""),
            tuned=row.study_id in tuned,
        )
        for row in rows
    ]


def _ours(row: RunRow, scored: ItemScores | None, dataset: DatasetRow | None, model: str, *, tuned: bool) -> Candidate:
    spec, done = row.spec, _counts(row)
    said = spec.model_dump(mode="json")
    said["training"].pop("seed")
    result = row.result if done else None
    seen = scored if done else None
    version = dataset.content_hash if dataset else ""
    terms: dict[Term, str] = {
        "task": spec.task,
        "dataset": spec.dataset,
        "dataset version": version[:8],
        "base model": model or spec.base_model,
        "metric": row.metric,
        "epochs": "" if spec.training.max_steps else f"{spec.training.num_train_epochs:g}",
        "batch": str(spec.training.per_device_train_batch_size * spec.training.gradient_accumulation_steps),
    }
    return Candidate(
        run_id=row.id,
        label=f"{row.arm} (trial)" if row.trial_round is not None else row.arm,
        method=row.method_kind,
        family=row.family,
        seed=row.seed,
        status=RunStatus(row.status),
        identity=_identity(row, said),
        settings=_flat(said),
        terms=_known(terms | (_seen(row, result, spec.training.early_stopping_patience) if result else {})),
        metric=row.metric,
        score=row.score if done else None,
        items=len(seen.scores) if seen else None,
        items_hash=seen.items_hash if seen else "",
        scores=seen.scores if seen else None,
        costs=_costs(row) if done else {},
        study_id=row.study_id,
        tuned=tuned,
        failure=row.failure,
    )


def _identity(row: RunRow, said: Mapping[str, Any]) -> str:
    """As the list of runs groups; but from the spec as it is read today, in which a run from before a new field has it
    too."""
    about = About(
        method=row.method_kind,
        spec=said,
        outside=row.imported_json,
        trial_round=row.trial_round,
        base_model_id=row.base_model_id,
        dataset_id=row.dataset_id,
        collection_id=row.collection_id,
    )
    return about.key


def _seen(row: RunRow, result: RunResult, patience: int | None) -> dict[Term, str]:
    """What a run of ours was measured under."""
    where = result.environment
    on_card = result.memory.device.startswith("cuda")
    found: dict[Term, str] = {
        "metric version": str(result.metrics_version),
        "device": where.device_name,
        "precision": where.precision,
        "memory measure": "allocated on the device" if on_card else "resident in the process, above its idle state",
        "torch": where.versions.get("torch", ""),
        "transformers": where.versions.get("transformers", ""),
        "peft": where.versions.get("peft", ""),
        "worker time": _span(row.worker, row.started_at, row.finished_at),
    }
    # With early stopping they are what came of a run; and by seed they may differ a little where rows are left over.
    return found if patience else found | {"steps": str(result.steps)}


def _span(worker: str | None, begin: datetime | None, end: datetime | None) -> str:
    return f"{worker}|{begin.timestamp()}|{end.timestamp()}" if worker and begin and end else ""


def _outside(row: RunRow, result: ImportedResult, scored: ItemScores | None, collection: str) -> Candidate:
    said = result.model_dump(mode="json", exclude={*APART_FROM_SEED, *MEASURED_OUTSIDE, "file_bytes"})
    told = {
        name: value for name, value in said.items() if name not in ("label", "method", "family", "metric", "settings")
    }
    terms: dict[Term, str] = {
        "dataset": result.dataset or "",
        "base model": result.base_model or "",
        "metric": result.metric,
        "device": result.device or "",
        "precision": result.precision or "",
        "memory measure": (result.memory_measure or "not said") if result.peak_bytes is not None else "",
        "torch": result.versions.get("torch", ""),
        "transformers": result.versions.get("transformers", ""),
        "peft": result.versions.get("peft", ""),
        "steps": str(result.steps) if result.steps is not None else "",
    }
    return Candidate(
        run_id=row.id,
        label=result.label,
        method=result.kind,
        family=result.its_family,
        seed=result.seed,
        status=RunStatus(row.status),
        identity=_identity(row, {}),
        settings=_flat(told | result.settings),
        terms=_known(terms),
        metric=result.metric,
        score=result.score,
        items=result.n,
        items_hash=scored.items_hash if scored else "",
        test_set=result.test_set or "",
        scores=scored.scores if scored else None,
        costs=_costs(row),
        collection=collection,
    )


def _known(terms: dict[Term, str]) -> dict[Term, str]:
    return {name: value for name, value in terms.items() if value}


def _costs(row: RunRow) -> dict[str, float]:
    seen = {
        "peak_bytes": row.peak_bytes,
        "train_seconds": row.train_seconds,
        "trainable_parameters": row.trainable_parameters,
        "file_bytes": row.artifact_bytes,
    }
    return {name: float(value) for name, value in seen.items() if value is not None}


def _flat(said: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """Names with dots, and values as one writes them; without what is empty."""
    flat: dict[str, str] = {}
    for name, value in said.items():
        where = f"{path}.{name}" if path else name
        if isinstance(value, dict):
            flat |= _flat(value, where)
        elif text := _written(value):
            flat[where] = text
    return flat


def _written(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
