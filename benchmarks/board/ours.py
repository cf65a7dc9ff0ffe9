"""Vezna's database filled with many runs and one long curve, as its own tables hold them."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from app.domain.methods import FullSpec, LoraSpec
from app.domain.runs.result import STEP_DTYPE, Evaluation
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.store.data import queries as datasets
from app.store.database import migrate
from app.store.database.session import Database
from app.store.models import queries as base_models
from app.store.runs import evaluations, steps
from app.store.tables import EstimateRow, RunRow, StudyRow, now
from tests.support.filled import filled
from tests.support.rows import estimates

SEEDS = 5
AT_ONCE = 1000
CURVE_STEPS = 100_000
MIB = 2**20
METHODS = [FullSpec(), *(LoraSpec(r=2**n, target_modules=["query", "value"]) for n in range(1, 8))]
TESTED = Evaluation(
    subject="adapted", split="test", step=CURVE_STEPS, epoch=3.0, n=646, loss=0.3, metric="accuracy",
    metrics={"accuracy": 0.9},
)  # fmt: skip


def fill(database: Database, runs: int) -> int:
    """So many runs in studies of 100, the last of them with a long curve; its id."""
    migrate.upgrade(database)
    with database.transaction() as session:
        filled.register(session)
        places = _studies(session, runs)
        batch: list[dict[str, Any]] = []
        estimate = _estimate(session)
        for row in _runs(runs, places, estimate):
            batch.append(row)
            if len(batch) == AT_ONCE:
                session.execute(insert(RunRow), batch)
                batch = []
        if batch:
            session.execute(insert(RunRow), batch)
        curve = long_curve(CURVE_STEPS)
        for start in range(0, CURVE_STEPS, steps.COMPACT):
            steps.append(session, runs, curve[start : start + steps.COMPACT])
        evaluations.add(session, runs, TESTED, [], [])
    if database.engine.dialect.name == "postgresql":  # as its autovacuum does; SQLite is never analyzed by itself
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
    return runs


def _estimate(session: Session) -> int:
    """The estimate that all runs share."""
    row = EstimateRow(
        key="0" * 64,
        kind="run",
        request_json=estimates.request().model_dump(mode="json"),
        status="ready",
        message="",
        result_json=estimates.estimate().model_dump(mode="json"),
    )
    session.add(row)
    session.flush()
    return row.id


def _studies(session: Session, runs: int) -> tuple[list[int], int, int]:
    model, data = base_models.by_name(session, filled.SAMPLE_MODEL), datasets.by_name(session, filled.SAMPLE_DATASET)
    assert model is not None and data is not None
    names = [f"Study {n}" for n in range(max(1, runs // 100))]
    arms = [ArmSpec(method=method) for method in METHODS]
    spec = StudySpec(name="Study", base_model=model.name, dataset=data.name, arms=arms, seeds=list(range(SEEDS)))
    content = spec.model_dump(mode="json")
    rows = [
        StudyRow(
            name=name, base_model_id=model.id, dataset_id=data.id, spec_json=content | {"name": name}, created_at=now()
        )
        for name in names
    ]
    session.add_all(rows)
    session.flush()
    return [row.id for row in rows], model.id, data.id


def _runs(runs: int, places: tuple[list[int], int, int], estimate: int) -> Iterator[dict[str, Any]]:
    studies, model, data = places
    chance = np.random.default_rng(0)
    began = now() - timedelta(days=90)
    for n in range(runs):
        method = METHODS[n // SEEDS % len(METHODS)]
        rate = float(10 ** chance.uniform(-5, -2)) if n % SEEDS == 0 else rate  # noqa: F821 the group's first draws it
        training = TrainingArguments(seed=n % SEEDS, learning_rate=rate, max_length=64)
        spec = RunSpec(
            base_model=filled.SAMPLE_MODEL, dataset=filled.SAMPLE_DATASET, method=method, training=training
        ).model_dump(mode="json")
        yield _row(n, spec, method.kind, method.label, chance, began) | {
            "study_id": studies[n // 100 % len(studies)],
            "base_model_id": model,
            "dataset_id": data,
            "estimate_id": estimate,
            "estimated_bytes": 150 * MIB,
        }


def _row(n: int, spec: dict[str, Any], kind: str, arm: str, chance: np.random.Generator, began: Any) -> dict[str, Any]:
    accuracy, seconds = min(1.0, float(chance.normal(0.88, 0.03))), float(chance.gamma(9, 4))
    peak = int(chance.normal(150, 20) * MIB) * (3 if kind == "full" else 1)
    failed = n % 40 == 39
    at = began + timedelta(seconds=60 * n)
    row: dict[str, Any] = {
        "arm": arm, "seed": spec["training"]["seed"], "method_kind": kind, "metric": "accuracy",
        "learning_rate": spec["training"]["learning_rate"], "spec_json": spec, "epoch": 1, "attempts": 1,
        "queued_at": at, "started_at": at, "finished_at": at + timedelta(seconds=seconds), "step": 246,
        "total_steps": 246, "worker": "cpu-1", "train_loss": 0.1, "validation_score": accuracy,
        "train_seconds": seconds, "status": "failed" if failed else "succeeded",
        "score": None, "base_score": 0.292, "loss": None, "trainable_parameters": 75_653,
        "total_parameters": 22_715_141, "peak_bytes": None, "wall_seconds": None, "artifact_bytes": None,
        "tokens_per_second": None, "device_name": "x86, 2 cores", "precision": "fp32", "result_json": None,
        "failure_code": "diverged" if failed else None,
    }  # fmt: skip
    if not failed:
        row |= {
            "score": accuracy, "loss": 0.37, "peak_bytes": peak, "wall_seconds": seconds + 7, "artifact_bytes": 310_000,
            "tokens_per_second": 42_000 / seconds, "result_json": RESULT,
        }  # fmt: skip
    return row


def long_curve(count: int) -> np.ndarray:
    """A loss that falls, with noise."""
    chance = np.random.default_rng(1)
    made = np.zeros(count, dtype=STEP_DTYPE)
    number = np.arange(1, count + 1)
    made["step"], made["epoch"], made["tokens"] = number, number / 1000, number * 170
    made["loss"] = 1.5 * np.exp(-number / 20_000) + 0.12 + chance.gamma(2, 0.04, count)
    made["learning_rate"], made["grad_norm"] = 2e-5 * (1 - number / count), chance.gamma(4, 0.3, count)
    made["seconds"], made["memory_bytes"] = number * 0.1, 150 * MIB
    return made


def _result() -> dict[str, Any]:
    """A result as an attempt leaves it."""
    run = RunRow(id=1, method_kind="lora")
    found: dict[str, Any] = json.loads(filled._result(run, 0.88).model_dump_json())
    return found


RESULT = _result()
