"""MLflow's database filled with as many runs and as long a curve; run by the Python that has mlflow installed.

    python fill_peer.py DATABASE_URI ARTIFACTS RUNS STEPS

Its own store makes the tables and the experiment; the rows are written straight into them, because log-batch would take
hours. Each run has the numbers and the settings that a run of Vezna has in its list.
"""

import sys
import time
import uuid

import numpy as np
import sqlalchemy as sa
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

AT_ONCE = 500
PARAMS = (
    "base_model", "dataset", "task", "method", "r", "lora_alpha", "target_modules", "seed", "learning_rate",
    "num_train_epochs", "per_device_train_batch_size", "max_length", "weight_decay", "warmup_steps",
    "lr_scheduler_type", "max_grad_norm",
)  # fmt: skip
METRICS = (
    "accuracy", "base_accuracy", "validation_accuracy", "test_loss", "train_loss", "peak_bytes", "train_seconds",
    "wall_seconds", "tokens_per_second", "trainable_parameters", "total_parameters", "artifact_bytes", "steps",
)  # fmt: skip


def main(uri: str, artifacts: str, runs: int, steps: int) -> None:
    """Fill it, and print the experiment's id and the id of the run with the long curve."""
    store = SqlAlchemyStore(uri, artifacts)
    experiment = store.create_experiment("headlines")
    chance = np.random.default_rng(0)
    began = int(time.time() * 1000) - 90 * 86_400_000
    ids = [uuid.uuid4().hex for _ in range(runs)]
    with store.engine.begin() as connection:
        for start in range(0, runs, AT_ONCE):
            write(connection, ids[start : start + AT_ONCE], start, experiment, artifacts, began, chance)
        curve(connection, ids[-1], steps, began)
    if uri.startswith("postgresql"):  # as its autovacuum does; SQLite is never analyzed by itself
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("VACUUM ANALYZE"))
    print(experiment, ids[-1])


def write(connection, ids, start, experiment, artifacts, began, chance) -> None:
    """Some runs with their metrics, settings and tags."""
    rows, params, tags, numbers = [], [], [], []
    for place, run in enumerate(ids, start=start):
        at = began + 60_000 * place
        rows.append(
            {
                "run_uuid": run, "name": f"run-{place}", "source_type": "LOCAL", "source_name": "",
                "entry_point_name": "", "user_id": "me", "status": "FINISHED", "start_time": at,
                "end_time": at + 36_000, "source_version": "",
                "lifecycle_stage": "active", "artifact_uri": f"{artifacts}/{run}", "experiment_id": int(experiment),
            }
        )  # fmt: skip
        params += [{"run_uuid": run, "key": key, "value": str(place % 7)} for key in PARAMS]
        tags += [{"run_uuid": run, "key": key, "value": f"run-{place}"} for key in ("mlflow.runName", "study", "arm")]
        values = chance.normal(0.88, 0.03, len(METRICS))
        numbers += [
            {"run_uuid": run, "key": key, "value": float(v), "timestamp": at, "step": 0, "is_nan": False}
            for key, v in zip(METRICS, values, strict=True)
        ]
    connection.execute(sa.insert(SqlRun), rows)
    connection.execute(sa.insert(SqlParam), params)
    connection.execute(sa.insert(SqlTag), tags)
    connection.execute(sa.insert(SqlMetric), numbers)
    connection.execute(sa.insert(SqlLatestMetric), numbers)


def curve(connection, run: str, steps: int, at: int) -> None:
    """A loss of so many steps."""
    chance = np.random.default_rng(1)
    number = np.arange(1, steps + 1)
    loss = 1.5 * np.exp(-number / 20_000) + 0.12 + chance.gamma(2, 0.04, steps)
    rows = [
        {"run_uuid": run, "key": "loss", "value": float(v), "timestamp": at + int(n), "step": int(n), "is_nan": False}
        for n, v in zip(number, loss, strict=True)
    ]
    for start in range(0, steps, 5000):
        connection.execute(sa.insert(SqlMetric), rows[start : start + 5000])
    connection.execute(sa.insert(SqlLatestMetric), rows[-1:])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
