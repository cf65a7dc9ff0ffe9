"""what a run is a trial of, and the search space of an arm"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
RUNS = sa.table(
    "runs",
    sa.column("id", sa.Integer),
    sa.column("trial_round", sa.Integer),
    sa.column("learning_rate", sa.Float),
    sa.column("trial_json", JSON),
)
STUDIES = sa.table("studies", sa.column("id", sa.Integer), sa.column("spec_json", JSON))


def upgrade() -> None:
    op.add_column("runs", sa.Column("trial_json", JSON, nullable=True))
    connection = op.get_bind()
    trials = connection.execute(sa.select(RUNS.c.id, RUNS.c.learning_rate).where(RUNS.c.trial_round.is_not(None)))
    for run_id, rate in trials.all():
        configuration = {"learning_rate": rate}
        connection.execute(sa.update(RUNS).where(RUNS.c.id == run_id).values(trial_json=configuration))
    _change_arms(_rates_to_space)


def downgrade() -> None:
    _change_arms(_space_to_rates)
    op.drop_column("runs", "trial_json")


def _change_arms(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    connection = op.get_bind()
    for study_id, spec in connection.execute(sa.select(STUDIES.c.id, STUDIES.c.spec_json)).all():
        changed = spec | {"arms": [change(arm) for arm in spec["arms"]]}
        if json.dumps(changed) != json.dumps(spec):
            connection.execute(sa.update(STUDIES).where(STUDIES.c.id == study_id).values(spec_json=changed))


def _rates_to_space(arm: dict[str, Any]) -> dict[str, Any]:
    rates = arm.get("learning_rates")
    others = {name: value for name, value in arm.items() if name != "learning_rates"}
    return others | ({"search": {"learning_rate": {"values": rates}}} if rates else {})


def _space_to_rates(arm: dict[str, Any]) -> dict[str, Any]:
    space = arm.get("search") or {}
    rates = (space.get("learning_rate") or {}).get("values")
    return {name: value for name, value in arm.items() if name != "search"} | {"learning_rates": rates}
