"""lists of runs: groups of runs alike but for their seed, an index of all that lists need, notes and tags"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
import sqlalchemy.dialects.postgresql
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JSON = sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql")
RUNS = sa.table(
    "runs",
    sa.column("id", sa.Integer),
    sa.column("spec_json", JSON),
    sa.column("imported_json", JSON),
    sa.column("method_kind", sa.String),
    sa.column("trial_round", sa.Integer),
    sa.column("group_key", sa.String),
    sa.column("family", sa.String),
    sa.column("task", sa.String),
    sa.column("rank", sa.Integer),
)
LISTED = [
    "group_key", "id", "status", "failure_code", "trial_round", "collection_id", "metric", "method_kind", "arm", "task",
    "study_id", "base_model_id", "dataset_id", "seed", "rank", "learning_rate", "score", "base_score",
    "validation_score", "loss", "train_loss", "peak_bytes", "predicted_bytes", "train_seconds", "wall_seconds",
    "tokens_per_second", "trainable_parameters", "total_parameters", "artifact_bytes", "step", "started_at",
    "finished_at",
]  # fmt: skip
OUTSIDE = (
    "label", "method", "family", "metric", "test_set", "base_model", "dataset", "learning_rate", "device", "precision",
    "versions", "settings", "source",
)  # fmt: skip
FAMILIES = {
    "full": "full", "lora": "lora", "qlora": "lora", "lora-from-scratch": "lora", "bottleneck-adapter": "adapter",
    "adalora": "low-rank", "loha": "low-rank", "lokr": "low-rank", "vera": "low-rank", "oft": "scaling",
    "ia3": "scaling", "prefix": "prompt", "prompt": "prompt", "p-tuning": "prompt", "head-only": "head",
    "last-layers": "partial", "bitfit": "partial",
}  # fmt: skip
"""Of the methods of then."""
SHORT = {"group_key": 16, "family": 20, "task": 40}
AT_ONCE = 1000


def upgrade() -> None:
    with op.batch_alter_table("runs", schema=None) as batch_op:
        for name, length in SHORT.items():
            batch_op.add_column(sa.Column(name, sa.String(length=length), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("rank", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("note", sa.String(), nullable=False, server_default=""))
    _fill()
    with op.batch_alter_table("runs", schema=None) as batch_op:
        for name, length in (*SHORT.items(), ("note", None)):
            batch_op.alter_column(name, existing_type=sa.String(length), existing_nullable=False, server_default=None)
    op.create_index("ix_runs_list", "runs", LISTED, unique=False)
    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.add_column(sa.Column("note", sa.String(), nullable=False, server_default=""))
    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.alter_column("note", existing_type=sa.String(), existing_nullable=False, server_default=None)
    for table, owner, owners in (("run_tags", "run_id", "runs"), ("study_tags", "study_id", "studies")):
        op.create_table(
            table,
            sa.Column(owner, sa.Integer(), nullable=False),
            sa.Column("tag", sa.String(length=40), nullable=False),
            sa.ForeignKeyConstraint(
                [owner], [f"{owners}.id"], name=op.f(f"fk_{table}_{owner}_{owners}"), ondelete="CASCADE"
            ),
            sa.PrimaryKeyConstraint(owner, "tag", name=op.f(f"pk_{table}")),
        )
        op.create_index(op.f(f"ix_{table}_tag"), table, ["tag"], unique=False)


def _fill() -> None:
    """What is read from each run's spec, a thousand runs at once."""
    connection = op.get_bind()
    values = {name: sa.bindparam(f"its_{name}") for name in (*SHORT, "rank")}
    change = sa.update(RUNS).where(RUNS.c.id == sa.bindparam("of")).values(values)
    last = 0
    while True:
        query = sa.select(RUNS).where(RUNS.c.id > last).order_by(RUNS.c.id).limit(AT_ONCE)
        found = connection.execute(query).all()
        if not found:
            return
        connection.execute(change, [{"of": row.id, **_read(row)} for row in found])
        last = found[-1].id


def _read(row: Any) -> dict[str, Any]:
    """As the code of this revision reads it when a run is inserted."""
    spec, outside = row.spec_json or {}, row.imported_json
    if outside:
        told = {"outside": {name: outside.get(name) for name in OUTSIDE}}
    else:
        training = {name: value for name, value in (spec.get("training") or {}).items() if name != "seed"}
        told = {**spec, "training": training, "trial": row.trial_round}
    text = json.dumps(_told(told), sort_keys=True, separators=(",", ":"))
    method = spec.get("method") or {}
    rank = method.get("r", method.get("target_r"))
    return {
        "its_group_key": hashlib.sha256(text.encode()).hexdigest()[:16],
        "its_family": FAMILIES.get(row.method_kind) or outside["family"],
        "its_task": spec.get("task") or "",
        "its_rank": rank if isinstance(rank, int) else None,
    }


def _told(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _told(v) for name, v in value.items() if v is not None and v != ""}
    return [_told(v) for v in value] if isinstance(value, list) else value


def downgrade() -> None:
    op.drop_table("study_tags")
    op.drop_table("run_tags")
    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.drop_column("note")
    op.drop_index("ix_runs_list", "runs")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        for name in ("note", "rank", "task", "family", "group_key"):
            batch_op.drop_column(name)
