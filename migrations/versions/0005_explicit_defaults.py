"""defaults that have changed, written into the specs that relied on them

Before, a spec without `target_modules` adapted PEFT's default modules, and an arm without a learning rate took its
method's.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
RUNS = sa.table(
    "runs",
    *(sa.column(name, sa.Integer) for name in ("id", "base_model_id", "dataset_id", "trial_round", "collection_id")),
    sa.column("spec_json", JSON),
    sa.column("group_key", sa.String),
)
STUDIES = sa.table("studies", sa.column("id", sa.Integer), sa.column("spec_json", JSON))
AT_ONCE = 1000
TARGETS = ("target_modules", "feedforward_modules")
RATES = {
    "full": 1e-4,
    "lora": 2e-3,
    "qlora": 2e-3,
    "lora-from-scratch": 2e-3,
    "bottleneck-adapter": 1e-3,
    "adalora": 5e-3,
    "loha": 5e-3,
    "lokr": 1e-2,
    "vera": 1e-2,
    "oft": 1e-3,
    "ia3": 2e-2,
    "prefix": 1e-2,
    "prompt": 3e-2,
    "p-tuning": 1e-3,
    "head-only": 3e-2,
    "last-layers": 2e-4,
    "bitfit": 2e-3,
}
"""Default learning rates before this revision."""


def upgrade() -> None:
    _rewrite(None, "peft-default", _with_rate)


def downgrade() -> None:
    _rewrite("peft-default", None, lambda arm: arm)


def _rewrite(old: str | None, new: str | None, changed: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Replace a value of the target modules everywhere, and change the arms of studies."""

    def method(spec: dict[str, Any]) -> dict[str, Any]:
        return {name: new if name in TARGETS and value == old else value for name, value in spec.items()}

    connection = op.get_bind()
    for row in _rows(STUDIES):
        arms = [changed(arm | {"method": method(arm["method"])}) for arm in row.spec_json["arms"]]
        if arms != row.spec_json["arms"]:
            spec = row.spec_json | {"arms": arms}
            connection.execute(STUDIES.update().where(STUDIES.c.id == row.id).values(spec_json=spec))
    for row in _rows(RUNS, RUNS.c.collection_id.is_(None)):
        spec = row.spec_json | {"method": method(row.spec_json["method"])}
        if spec != row.spec_json:
            values = {"spec_json": spec, "group_key": _group_key(row, spec)}
            connection.execute(RUNS.update().where(RUNS.c.id == row.id).values(**values))


def _rows(table: sa.TableClause, *where: sa.ColumnElement[bool]) -> Iterator[Any]:
    """All rows, in parts."""
    last = 0
    while True:
        part = sa.select(table).where(table.c.id > last, *where).order_by(table.c.id).limit(AT_ONCE)
        rows = op.get_bind().execute(part).all()
        yield from rows
        if len(rows) < AT_ONCE:
            return
        last = rows[-1].id


def _with_rate(arm: dict[str, Any]) -> dict[str, Any]:
    rate = arm.get("learning_rate")
    return arm | {"learning_rate": RATES[arm["method"]["kind"]] if rate is None else rate}


def _group_key(row: Any, spec: dict[str, Any]) -> str:
    """As `app.domain.runs.listing.groups` computes it at this revision."""
    training = {name: value for name, value in (spec.get("training") or {}).items() if name != "seed"}
    identity = {
        **spec,
        "base_model": row.base_model_id,
        "dataset": row.dataset_id,
        "training": training,
        "trial": row.trial_round,
    }
    text = json.dumps(_without_empty(identity), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_empty(v) for name, v in value.items() if v is not None and v != ""}
    return [_without_empty(v) for v in value] if isinstance(value, list) else value
