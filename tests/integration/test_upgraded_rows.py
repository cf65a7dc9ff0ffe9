"""A database that was filled before a migration, and is read after it. On SQLite and on PostgreSQL."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from alembic import command
from alembic.util import CommandError
from sqlalchemy import Connection, LargeBinary, bindparam, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.types import JSON

from app.domain.methods import LoraSpec
from app.services import imports
from app.services import runs as run_service
from app.store import migrate
from app.store.queries import evaluations
from app.store.session import Database
from app.store.tables import BaseModelRow, DatasetRow, EvaluationRow, RunRow, StudyRow
from tests.fakes import SilentBell
from tests.imported_results import as_file, result
from tests.migrations_in_step import config

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
LORA: dict[str, Any] = {
    "kind": "lora", "r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "target_modules": ["query"], "use_rslora": False,
    "use_dora": False, "init_lora_weights": True, "bias": "none",
}  # fmt: skip
TRAINING: dict[str, Any] = {
    "learning_rate": 0.002, "num_train_epochs": 3.0, "max_steps": None, "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 64, "gradient_accumulation_steps": 1, "warmup_steps": 0.06,
    "lr_scheduler_type": "linear", "weight_decay": 0.0, "max_grad_norm": 1.0, "bf16": False, "max_length": 64,
    "seed": 7,
}  # fmt: skip
SPEC: dict[str, Any] = {
    "base_model": "tiny", "dataset": "small", "task": "sequence-classification", "method": LORA, "training": TRAINING,
}  # fmt: skip
STUDY: dict[str, Any] = {
    "name": "An old study", "base_model": "tiny", "dataset": "small", "task": "sequence-classification",
    "arms": [{"name": "", "method": LORA, "learning_rate": None, "weight_decay": None}], "seeds": [7],
    "training": TRAINING | {"learning_rate": None, "seed": 0}, "reference": "", "margin_points": 1.0,
}  # fmt: skip


def _evaluation(subject: str, accuracy: float) -> dict[str, Any]:
    return {
        "subject": subject, "split": "test", "step": 10, "epoch": 1.0, "n": 4, "loss": 0.5, "accuracy": accuracy,
        "macro_f1": accuracy - 0.05,
    }  # fmt: skip


RESULT: dict[str, Any] = {
    "metrics_version": 1, "steps": 10, "best_step": 10, "tokens": 1000,
    "parameters": {"total": 10_066, "trainable": 66, "by_module": {"classifier": 66}},
    "audit": {
        "passed": True, "groups": [{"name": "frozen", "tensors": 3, "parameters": 10_000, "changed": 0}],
        "problems": [], "notes": [],
    },
    "memory": {
        "kind": "measured", "device": "cpu", "before_bytes": 1000, "loaded_bytes": 500, "peak_bytes": 900,
        "train_peak_bytes": 900, "phase_peak_bytes": {"train": 900}, "weights_bytes": 400, "gradients_bytes": 100,
        "optimizer_bytes": 200, "reserved_bytes": None,
    },
    "clocks": {
        "load": 0.1, "tokenize": 0.1, "baseline": 0.2, "forward": 1.0, "backward": 2.0, "optimizer": 0.5, "data": 0.1,
        "evaluate": 0.3, "save": 0.1, "audit": 0.1, "start": 0.5, "wall": 5.0,
    },
    "evaluations": [_evaluation("base", 0.25), _evaluation("adapted", 0.75)],
    "environment": {
        "device": "cpu", "device_name": "CPU", "threads": 2, "precision": "fp32", "attention": "sdpa",
        "versions": {"torch": "2.6.0"},
    },
    "artifacts": [{"name": "adapter/adapter_config.json", "kind": "adapter", "bytes": 9, "sha256": "0" * 64}],
}  # fmt: skip
"""As the code of revision 0001 wrote them."""


@pytest.fixture
def upgraded(database: Database) -> Database:
    """A database with a base model, a dataset, a study, a run that succeeded and one that is queued, from 0001."""
    _downgrade(database)
    with database.engine.begin() as connection:
        _fill(connection)
    migrate.upgrade(database)
    return database


def _downgrade(database: Database) -> None:
    with database.engine.connect() as connection:
        command.downgrade(config(connection), "0001")


def _fill(connection: Connection) -> None:
    insert = _Insert(connection)
    insert(
        "base_models", id=1, name="tiny", source="directory", location="/tiny", revision="", status="ready",
        message="", facts_json={"architecture": "BertModel", "head_fixed_parameters": 0}, created_at=AT,
    )  # fmt: skip
    facts = {
        "task": "sequence-classification", "labels": ["a", "b"], "counts": {"train": 8, "validation": 4, "test": 4},
        "label_counts": {"a": 8, "b": 8}, "content_hash": "c0ffee",
    }  # fmt: skip
    insert(
        "datasets", id=1, name="small", title="Small", content_hash="c0ffee", file="datasets/c0ffee.parquet",
        facts_json=facts, created_at=AT,
    )  # fmt: skip
    insert("studies", id=1, name="An old study", base_model_id=1, dataset_id=1, spec_json=STUDY, created_at=AT)
    run: dict[str, Any] = {
        "study_id": 1, "arm": "LoRA r=2", "seed": 7, "method_kind": "lora", "base_model_id": 1, "dataset_id": 1,
        "learning_rate": 0.002, "spec_json": SPEC, "epoch": 1, "attempts": 1, "reported": 3, "queued_at": AT,
        "step": 10,
    }  # fmt: skip
    insert(
        "runs", id=1, status="succeeded", worker="w1", started_at=AT, finished_at=AT, accuracy=0.75, macro_f1=0.7,
        loss=0.5, base_accuracy=0.25, validation_accuracy=0.8, result_json=RESULT, **run,
    )  # fmt: skip
    insert("runs", id=2, status="queued", **run)
    for number, found in enumerate(RESULT["evaluations"]):
        scores = np.array([1, 1, 1, 0] if number else [1, 0, 0, 0], dtype="<f4").tobytes()
        insert("evaluations", id=number + 1, run_id=1, items_hash="ab" * 32, scores=scores, **found)
    insert(
        "workers", name="w1", device="cpu", device_name="CPU", cores=2, draining=False, started_at=AT, heartbeat_at=AT
    )


class _Insert:
    """Writes rows by the names of their columns: the tables of then are not those of the code."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._json = JSON().with_variant(JSONB(), "postgresql")

    def __call__(self, table: str, **values: Any) -> None:
        types = {name: self._json for name in values if name.endswith("_json")} | {"scores": LargeBinary()}
        given = [bindparam(name, value, types.get(name)) for name, value in values.items()]
        places = ", ".join(f":{name}" for name in values)
        query = text(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})").bindparams(*given)
        self._connection.execute(query)


def test_a_result_of_before_is_read_as_one_of_today(upgraded: Database) -> None:
    with upgraded.reading() as session:
        run = session.get_one(RunRow, 1)
        result, spec = run.result, run.spec
    assert result is not None
    adapted, base = result.evaluation("adapted", "test"), result.evaluation("base", "test")
    assert adapted is not None and base is not None
    assert (adapted.score, base.score, run.score, run.base_score, run.validation_score) == (0.75, 0.25, 0.75, 0.25, 0.8)
    assert adapted.metrics == {"accuracy": 0.75, "macro_f1": 0.7}
    assert (run.metric, run.checkpoints, result.artifacts[0].bytes) == ("accuracy", (), 9)
    assert spec.method == LoraSpec(r=2, lora_alpha=4, target_modules=["query"])
    assert (spec.verdict_metric, spec.training.bf16, spec.training.seed) == ("accuracy", False, 7)


def test_its_evaluations_have_their_scores_and_their_metrics_by_name(upgraded: Database) -> None:
    with upgraded.reading() as session:
        rows = list(session.scalars(select(EvaluationRow).order_by(EvaluationRow.id)))
        found = evaluations.test_scores(session, [1])
    assert [(row.metric, row.score, row.metrics_json["accuracy"]) for row in rows] == [
        ("accuracy", 0.25, 0.25), ("accuracy", 0.75, 0.75)
    ]  # fmt: skip
    assert [row.metrics_json["macro_f1"] for row in rows] == pytest.approx([0.2, 0.7])
    assert found[1, "adapted"].scores.tolist() == [1, 1, 1, 0]


def test_a_base_model_is_inspected_again_and_its_data_and_its_study_are_what_they_were(upgraded: Database) -> None:
    with upgraded.reading() as session:
        model, data = session.get_one(BaseModelRow, 1), session.get_one(DatasetRow, 1)
        study = session.get_one(StudyRow, 1)
    assert (model.status, model.facts) == ("inspecting", None)
    assert (data.facts.format, data.facts.labels, data.facts.counts["test"]) == ("labelled", ["a", "b"], 4)
    assert [run.spec for run in study.spec.owed()] == [session.get_one(RunRow, 2).spec]


def test_a_queued_run_of_before_can_still_be_cancelled(upgraded: Database, bell: SilentBell) -> None:
    with upgraded.transaction() as session:
        assert run_service.cancel(session, bell, 2).status == "cancelled"


def test_the_way_back_is_refused_where_it_would_leave_what_nobody_can_read(upgraded: Database) -> None:
    with pytest.raises(CommandError, match=r"holds runs that .* cannot read, .* Restore the backup"):
        _downgrade(upgraded)
    migrate.require_current(upgraded)
    with upgraded.reading() as session:
        assert session.get_one(RunRow, 1).result
        assert len(evaluations.of_run(session, 1)) == 2


def test_foreign_keys_hold_again_after_a_migration_and_after_one_that_is_refused(upgraded: Database) -> None:
    _hold_foreign_keys(upgraded)
    with pytest.raises(CommandError):
        _downgrade(upgraded)
    _hold_foreign_keys(upgraded)


def _hold_foreign_keys(database: Database) -> None:
    with pytest.raises(IntegrityError), database.transaction() as session:
        session.execute(update(RunRow).values(dataset_id=99))


def test_the_way_back_is_refused_while_there_is_an_imported_run(database: Database) -> None:
    with database.transaction() as session:
        imports.add_results(session, imports.read_files([as_file(result())]), "others")
    with (
        pytest.raises(CommandError, match=r"holds imported runs, .* Restore the backup"),
        database.engine.connect() as c,
    ):
        command.downgrade(config(c), "0005")
    migrate.require_current(database)
    with database.reading() as session:
        run = session.get_one(RunRow, 1)
    assert run.imported and run.imported_result and run.imported_result.source == "https://example.org/results"
