"""Tables of a study for further analysis: one row per run, per test item and run, or per optimizer step and run;
baselines have rows beside the runs.

Fractions, nats, bytes and seconds. Tables are made in parts, so that a long study is never completely in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from sqlalchemy.orm import Session

from app.domain.comparison.baselines import BaselineResult
from app.domain.comparison.flips import Flips
from app.domain.comparison.model import RunOutcome
from app.domain.comparison.statistics.intervals import Scores
from app.domain.comparison.study import StudyComparison
from app.domain.data.dataset import items_hash
from app.domain.errors import Invalid, NotFound
from app.domain.runs.clocks import Clocks
from app.domain.runs.result import STEP_DTYPE, RunResult
from app.domain.studies.tuning.search_space import PARAMETERS
from app.domain.studies.tuning.trials import Trial, reached
from app.domain.tasks import TASKS
from app.services.runs.predictions import item_names
from app.store.files.files import Files
from app.store.runs import artifacts, steps

Table = Literal["runs", "items", "steps"]
MEMORY = ("peak_bytes", "weights_bytes", "gradients_bytes", "optimizer_bytes", "rest_bytes")
RUN_COLUMNS = [("arm", pa.string()), ("seed", pa.int64()), ("run", pa.int64())]


def runs_table(session: Session, files: Files, comparison: StudyComparison) -> Iterator[pa.Table]:
    """One row per run: scores and costs; empty where it did not succeed. A trial has its round in `trial_round`, and
    no score on the test split. Validation scores are those of the checkpoint that was kept. Of the hyperparameters that
    a study may search, those are given that its tuning set. Then a row per baseline, with its kind in `baseline`,
    whether it is computed in `status`, and neither seed nor run."""
    measures, clocks = list(TASKS[comparison.spec.task].metrics), list(Clocks.model_fields)
    schema = pa.schema(
        [
            *RUN_COLUMNS,
            *((name, pa.string()) for name in ("baseline", "status", "failure", "metric")),
            *((name, pa.float64()) for name in ("score", *measures, "loss", "forgetting")),
            *((name, pa.float64()) for name in (*PARAMETERS, "validation_score", "validation_loss")),
            ("trial_round", pa.int64()),
            ("tokens", pa.int64()),
            *((name, pa.int64()) for name in ("trainable_parameters", "artifact_bytes", *MEMORY)),
            *((f"{name}_seconds", pa.float64()) for name in ("train", *clocks)),
        ]
    )
    rows = []
    for arm in comparison.arms:
        rows += [_trial(comparison, trial) for trial in arm.trials]
        chosen = {"learning_rate": arm.learning_rate} | arm.configuration.values
        rows += [_run(comparison, run) | chosen for run in arm.runs]
    rows += [_baseline(comparison, baseline) for baseline in comparison.baselines]
    yield pa.Table.from_pylist(rows, schema=schema)


def _either(comparison: StudyComparison, run: RunOutcome | Trial) -> dict[str, Any]:
    return {
        "arm": run.arm,
        "seed": run.seed,
        "run": run.run_id,
        "status": run.status.value,
        "failure": run.failure.code.value if run.failure else "",
        "metric": comparison.metric,
    }


def _trial(comparison: StudyComparison, trial: Trial) -> dict[str, Any]:
    tried: dict[str, Any] = {"learning_rate": trial.rate} | {n: v for n, v in trial.configuration.values.items()}
    return (
        _either(comparison, trial)
        | tried
        | {
            "tokens": trial.tokens,
            "wall_seconds": None if trial.shared else trial.seconds or None,
            "validation_score": trial.score,
            "validation_loss": trial.loss,
            "trial_round": trial.round,
        }
    )


def _run(comparison: StudyComparison, run: RunOutcome) -> dict[str, Any]:
    score = float(run.scores.mean()) if run.scores is not None else None
    row = _either(comparison, run) | {"score": score}
    if run.result is None:
        return row
    result, test = run.result, run.result.evaluation("adapted", "test")
    kept = reached(result)
    return (
        row
        | (dict(test.metrics) | {"loss": test.loss} if test else {})
        | {
            "validation_score": kept.score,
            "validation_loss": kept.loss,
            "forgetting": result.forgetting.change if result.forgetting else None,
            "trainable_parameters": result.parameters.trainable,
            "artifact_bytes": result.artifact_bytes,
            "tokens": result.tokens,
        }
        | ({} if run.shared else _costs(result))
    )


def _costs(result: RunResult) -> dict[str, Any]:
    memory = {name: getattr(result.memory, name) for name in MEMORY}
    return memory | {f"{name}_seconds": getattr(result.clocks, name) for name in (*Clocks.model_fields, "train")}


def _baseline(comparison: StudyComparison, result: BaselineResult) -> dict[str, Any]:
    stored, score = result.stored, result.score.mean if result.score else None
    measured = stored.baseline.metrics.items() if stored.baseline else ()
    return {str(name): value for name, value in measured} | {
        comparison.metric: score,
        "arm": str(result.title),
        "baseline": stored.kind,
        "status": stored.status,
        "failure": stored.message,
        "metric": comparison.metric,
        "score": score,
    }


def items_table(session: Session, files: Files, comparison: StudyComparison) -> Iterator[pa.Table]:
    """One row per test item and run with scores: the verdict's metric of the adapted model and of the base model before
    training. The item's name is empty where no predictions file is readable, or the run has other items than most. Then
    a row per test item and baseline, with its kind in `baseline`."""
    scored = [run for run in comparison.runs if run.scores is not None]
    names, shared_items = _names(session, files, comparison), Flips.of(comparison).items_hash
    schema = pa.schema(
        [
            *RUN_COLUMNS,
            ("baseline", pa.string()),
            ("position", pa.int64()),
            ("item", pa.string()),
            ("metric", pa.string()),
            ("score", pa.float64()),
            ("base_score", pa.float64()),
        ]
    )

    def part(scores: Scores, items: Sequence[str], **columns: Any) -> pa.Table:
        n = len(scores)
        own = {name: value if isinstance(value, np.ndarray) else [value] * n for name, value in columns.items()}
        named = {"position": np.arange(n), "item": items if len(items) == n else pa.nulls(n, pa.string())}
        empty = {field.name: pa.nulls(n, field.type) for field in schema if field.name not in own}
        return pa.table(empty | own | named | {"metric": [comparison.metric] * n, "score": scores}, schema=schema)

    yield schema.empty_table()
    for run in scored:
        assert run.scores is not None  # noqa: S101 chosen above
        known = run.base_scores is not None and len(run.base_scores) == len(run.scores)
        base = {"base_score": run.base_scores} if known else {}
        shared = names if run.items_hash == shared_items else []
        yield part(run.scores, shared, arm=run.arm, seed=run.seed, run=run.run_id, **base)
    for result in comparison.baselines:
        if result.item_scores is not None:
            yield part(result.item_scores, names, arm=str(result.title), baseline=result.stored.kind)


def steps_table(session: Session, files: Files, comparison: StudyComparison) -> Iterator[pa.Table]:
    """One row per optimizer step and run, trials included."""
    names = STEP_DTYPE.names or ()
    fields = [(name, pa.from_numpy_dtype(STEP_DTYPE[name])) for name in names]
    schema = pa.schema([*RUN_COLUMNS, *fields])
    yield schema.empty_table()
    every: list[RunOutcome | Trial] = []
    for arm in comparison.arms:
        every += [*arm.trials, *arm.runs]
    for run in every:
        run_steps = steps.read(session, run.run_id)
        columns = {
            **_run_columns(run, len(run_steps)),
            **{name: np.ascontiguousarray(run_steps[name]) for name in names},
        }
        yield pa.table(columns, schema=schema)


TABLES: dict[Table, Callable[[Session, Files, StudyComparison], Iterator[pa.Table]]] = {
    "runs": runs_table,
    "items": items_table,
    "steps": steps_table,
}
"""By name; each yields at least one part, all of one schema."""


def _run_columns(run: RunOutcome | Trial, rows: int) -> dict[str, list[Any]]:
    return {"arm": [run.arm] * rows, "seed": [run.seed] * rows, "run": [run.run_id] * rows}


def _names(session: Session, files: Files, comparison: StudyComparison) -> list[str]:
    """Names of the items that most runs share, from the first readable predictions file over them; else empty."""
    flips = Flips.of(comparison)
    runs = [run.run_id for judged in flips.arms.values() for run in judged.runs]
    for artifact in artifacts.predictions_of(session, runs).values():
        try:
            names = item_names(files, artifact)
        except (NotFound, Invalid):
            continue
        if items_hash(names) == flips.items_hash:
            return names
    return []
