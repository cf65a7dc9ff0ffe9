"""any metric instead of accuracy, checkpoints of a run, what a worker can do

A base model's facts now describe it for every task: what was inspected before is inspected again.
"""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
import sqlalchemy.dialects.postgresql
from alembic import op
from alembic.util import CommandError

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JSON = sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql")
RUNS = sa.table("runs", sa.column("id", sa.Integer), sa.column("result_json", JSON))
EVALUATIONS = sa.table(
    "evaluations",
    *(sa.column(name, sa.Float) for name in ("accuracy", "macro_f1")),
    sa.column("id", sa.Integer),
    sa.column("metrics_json", JSON),
)


def upgrade() -> None:
    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.add_column(sa.Column("capabilities", JSON, nullable=False, server_default=sa.text("'[]'")))
    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.alter_column("capabilities", existing_type=JSON, existing_nullable=False, server_default=None)

    op.execute(sa.text("UPDATE base_models SET status = 'inspecting', facts_json = NULL WHERE status = 'ready'"))
    op.execute(sa.text("UPDATE base_models SET inspection_started_at = NULL WHERE status = 'inspecting'"))

    with op.batch_alter_table("evaluations", schema=None) as batch_op:
        batch_op.add_column(sa.Column("metric", sa.String(length=20), nullable=False, server_default="accuracy"))
        batch_op.add_column(sa.Column("metrics_json", JSON, nullable=False, server_default=sa.text("'{}'")))
    _rewrite(
        EVALUATIONS,
        [EVALUATIONS.c.accuracy, EVALUATIONS.c.macro_f1],
        lambda row: {"metrics_json": {"accuracy": row.accuracy, "macro_f1": row.macro_f1}},
    )
    with op.batch_alter_table("evaluations", schema=None) as batch_op:
        batch_op.alter_column(
            "accuracy", new_column_name="score", existing_type=sa.Float(), existing_nullable=False, nullable=True
        )
        batch_op.drop_column("macro_f1")
        batch_op.alter_column(
            "metric", existing_type=sa.String(length=20), existing_nullable=False, server_default=None
        )
        batch_op.alter_column("metrics_json", existing_type=JSON, existing_nullable=False, server_default=None)

    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_index("ix_runs_accuracy_id")
        batch_op.add_column(sa.Column("metric", sa.String(length=20), nullable=False, server_default="accuracy"))
        batch_op.add_column(sa.Column("checkpoints_json", JSON, nullable=False, server_default=sa.text("'[]'")))
        batch_op.alter_column("accuracy", new_column_name="score", existing_type=sa.Float(), existing_nullable=True)
        batch_op.alter_column(
            "base_accuracy", new_column_name="base_score", existing_type=sa.Float(), existing_nullable=True
        )
        batch_op.alter_column(
            "validation_accuracy", new_column_name="validation_score", existing_type=sa.Float(), existing_nullable=True
        )
        batch_op.drop_column("macro_f1")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.alter_column(
            "metric", existing_type=sa.String(length=20), existing_nullable=False, server_default=None
        )
        batch_op.alter_column("checkpoints_json", existing_type=JSON, existing_nullable=False, server_default=None)
        batch_op.create_index("ix_runs_score_id", ["score", "id"], unique=False)
    _rewrite(RUNS, [RUNS.c.result_json], lambda row: _renamed(row.result_json))


def downgrade() -> None:
    """Refused once there is a run or a study: 0001's code takes no field of a spec that it does not know."""
    connection = op.get_bind()
    for name in ("runs", "studies"):
        if connection.scalar(sa.select(sa.func.count()).select_from(sa.table(name))):
            raise CommandError(
                f"The database holds {name} that the version before cannot read, so it is left as it is. Restore the "
                "backup from before the upgrade."
            )
    op.execute(sa.text("UPDATE base_models SET status = 'inspecting', facts_json = NULL WHERE status = 'ready'"))
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_index("ix_runs_score_id")
        batch_op.add_column(sa.Column("macro_f1", sa.Float(), nullable=True))
        batch_op.alter_column(
            "validation_score", new_column_name="validation_accuracy", existing_type=sa.Float(), existing_nullable=True
        )
        batch_op.alter_column(
            "base_score", new_column_name="base_accuracy", existing_type=sa.Float(), existing_nullable=True
        )
        batch_op.alter_column("score", new_column_name="accuracy", existing_type=sa.Float(), existing_nullable=True)
        batch_op.drop_column("checkpoints_json")
        batch_op.drop_column("metric")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.create_index("ix_runs_accuracy_id", ["accuracy", "id"], unique=False)

    with op.batch_alter_table("evaluations", schema=None) as batch_op:
        batch_op.add_column(sa.Column("macro_f1", sa.Float(), nullable=False, server_default="0"))
        batch_op.alter_column(
            "score", new_column_name="accuracy", existing_type=sa.Float(), existing_nullable=True, nullable=False
        )
        batch_op.drop_column("metrics_json")
        batch_op.drop_column("metric")
    with op.batch_alter_table("evaluations", schema=None) as batch_op:
        batch_op.alter_column("macro_f1", existing_type=sa.Float(), existing_nullable=False, server_default=None)

    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.drop_column("capabilities")


def _rewrite(table: sa.TableClause, read: list[sa.ColumnClause[Any]], change: Callable[[Any], dict[str, Any]]) -> None:
    """Change every row by what Python makes of it; JSON has no common language in SQLite and PostgreSQL."""
    connection = op.get_bind()
    for row in connection.execute(sa.select(table.c.id, *read)).all():
        if values := change(row):
            connection.execute(sa.update(table).where(table.c.id == row.id).values(values))


def _renamed(result: dict[str, Any] | None) -> dict[str, Any]:
    """A run's result with its evaluations' metrics by name; nothing for a run without one."""
    if not result:
        return {}
    return {"result_json": {**result, "evaluations": [_named(e) for e in result["evaluations"]]}}


def _named(evaluation: dict[str, Any]) -> dict[str, Any]:
    values = {name: evaluation[name] for name in ("accuracy", "macro_f1")}
    kept = {name: value for name, value in evaluation.items() if name not in values}
    return {**kept, "metric": "accuracy", "metrics": values}
