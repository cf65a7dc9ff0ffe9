"""Studies that were planned with a test of equivalence keep it"""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0052"
down_revision: str | None = "0051"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

SPECS = (
    ("studies", "id", "spec_json"),
    ("lab_class_studies", "class_id", "spec_json"),
    ("collections", "id", "declared_json"),
)
KEY = "alternative"


def upgrade() -> None:
    _rewrite(lambda spec: {**spec, KEY: "equivalence"})


def downgrade() -> None:
    _rewrite(lambda spec: {name: value for name, value in spec.items() if name != KEY})


def _rewrite(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    json = sa.JSON().with_variant(JSONB(), "postgresql")
    for name, key, column in SPECS:
        table = sa.table(name, sa.column(key, sa.Integer), sa.column(column, json))
        own, spec = table.c[key], table.c[column]
        for number, stored in op.get_bind().execute(sa.select(own, spec)).all():
            if stored:
                op.get_bind().execute(sa.update(table).where(own == number).values({column: change(stored)}))
