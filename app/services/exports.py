"""Tables of a study for further analysis: one row per run, per test item and run, or per optimizer step and run.

Fractions, nats, bytes and seconds. Tables are made in parts, so that a long study is never completely in memory.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from sqlalchemy.orm import Session

from app.domain.comparison.flips import Flips
from app.domain.comparison.model import RunOutcome
from app.domain.comparison.study import StudyComparison
from app.domain.data.dataset import items_hash
from app.domain.errors import Invalid, NotFound
from app.domain.runs.result import STEP_DTYPE, Clocks
from app.domain.studies.search_space import PARAMETERS
from app.domain.studies.trials import Trial, reached
from app.domain.tasks import TASKS
from app.services.predictions import item_names
from app.store.files import Files
from app.store.queries import artifacts, steps

Table = Literal["runs", "items", "steps"]
MEMORY = ("peak_bytes", "weights_bytes", "gradients_bytes", "optimizer_bytes", "rest_bytes")
RUN_COLUMNS = [("arm", pa.string()), ("seed", pa.int64()), ("run", pa.int64())]
"""The first columns of every table."""


def runs_table(session: Session, files: Files, comparison: StudyComparison) -> Iterator[pa.Table]:
    """One row per run: scores and costs; empty where it did not succeed. A trial has its round in `trial_round`, and
    no score on the test split. Validation scores are those of the checkpoint that was kept. Of the hyperparameters that
    a study may search, those are given that its tuning set."""
    measures, clocks = list(TASKS[comparison.spec.task].metrics), list(Clocks.model_fields)
    schema = pa.schema(
        [
            *RUN_COLUMNS,
            *((name, pa.string()) for name in ("status", "failure", "metric")),
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
            "wall_seconds": trial.seconds or None,
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
            "train_seconds": result.clocks.train,
            "tokens": result.tokens,
        }
        | {name: getattr(result.memory, name) for name in MEMORY}
        | {f"{name}_seconds": getattr(result.clocks, name) for name in Clocks.model_fields}
    )


def items_table(session: Session, files: Files, comparison: StudyComparison) -> Iterator[pa.Table]:
    """One row per test item and run with scores: the verdict's metric of the adapted model and of the base model before
    training. The item's name is empty where no predictions file is readable, or the run has other items than most."""
    scored = [run for run in comparison.runs if run.scores is not None]
    names, shared_items = _names(session, files, comparison), Flips.of(comparison).items_hash
    schema = pa.schema(
        [
            *RUN_COLUMNS,
            ("position", pa.int64()),
            ("item", pa.string()),
            ("metric", pa.string()),
            ("score", pa.float64()),
            ("base_score", pa.float64()),
        ]
    )
    yield schema.empty_table()
    for run in scored:
        assert run.scores is not None  # noqa: S101 chosen above
        n = len(run.scores)
        known = run.base_scores is not None and len(run.base_scores) == n
        columns = {
            **_run_columns(run, n),
            "position": np.arange(n),
            "item": names if run.items_hash == shared_items and len(names) == n else pa.nulls(n, pa.string()),
            "metric": [comparison.metric] * n,
            "score": run.scores,
            "base_score": run.base_scores if known else pa.nulls(n, pa.float64()),
        }
        yield pa.table(columns, schema=schema)


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
