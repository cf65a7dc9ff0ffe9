"""groups of runs by the base model and the version of the data themselves, and of imported runs by their collection"""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
import sqlalchemy.dialects.postgresql
from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JSON = sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql")
RUNS = sa.table(
    "runs",
    sa.column("id", sa.Integer),
    sa.column("spec_json", JSON),
    sa.column("imported_json", JSON),
    sa.column("trial_round", sa.Integer),
    sa.column("base_model_id", sa.Integer),
    sa.column("dataset_id", sa.Integer),
    sa.column("collection_id", sa.Integer),
    sa.column("group_key", sa.String),
)
OUTSIDE = (
    "label", "method", "family", "metric", "test_set", "base_model", "dataset", "learning_rate", "settings",
)  # fmt: skip
OUTSIDE_BEFORE = (*OUTSIDE, "device", "precision", "versions", "source")
AT_ONCE = 1000


def upgrade() -> None:
    _rekey(_asked)


def downgrade() -> None:
    _rekey(_asked_before)


def _rekey(asked: Callable[[Any], dict[str, Any]]) -> None:
    """The key of each run anew, a thousand runs at once."""
    connection = op.get_bind()
    change = sa.update(RUNS).where(RUNS.c.id == sa.bindparam("of")).values(group_key=sa.bindparam("its_key"))
    last = 0
    while True:
        query = sa.select(RUNS).where(RUNS.c.id > last).order_by(RUNS.c.id).limit(AT_ONCE)
        found = connection.execute(query).all()
        if not found:
            return
        connection.execute(change, [{"of": row.id, "its_key": _key(asked(row))} for row in found])
        last = found[-1].id


def _asked(row: Any) -> dict[str, Any]:
    """As the code of this revision reads it when a run is inserted."""
    if row.imported_json:
        return {"outside": {name: row.imported_json.get(name) for name in OUTSIDE}, "collection": row.collection_id}
    return _asked_before(row) | {"base_model": row.base_model_id, "dataset": row.dataset_id}


def _asked_before(row: Any) -> dict[str, Any]:
    if row.imported_json:
        return {"outside": {name: row.imported_json.get(name) for name in OUTSIDE_BEFORE}}
    spec = row.spec_json or {}
    training = {name: value for name, value in (spec.get("training") or {}).items() if name != "seed"}
    return {**spec, "training": training, "trial": row.trial_round}


def _key(asked: dict[str, Any]) -> str:
    text = json.dumps(_told(asked), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _told(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _told(v) for name, v in value.items() if v is not None and v != ""}
    return [_told(v) for v in value] if isinstance(value, list) else value
