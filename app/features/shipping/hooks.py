"""What services call of exports, pushes and parity checks."""

from collections.abc import Iterator

from sqlalchemy.orm import Session

from app.features.shipping.queries import exports, parity_checks, registry
from app.features.shipping.services.exports import EXPORTS
from app.features.shipping.services.parity_checks import CHECKS
from app.features.shipping.services.pushes import PUSHES
from app.features.shipping.services.strays import strays
from app.features.shipping.tables import ParityCheckRow
from app.services.hooks import Hooks


def _secrets(session: Session) -> Iterator[tuple[ParityCheckRow, str]]:
    for row in parity_checks.with_key(session):
        yield row, "api_key"


HOOKS = Hooks(
    work=(EXPORTS, PUSHES, CHECKS),
    secrets=_secrets,
    keeps_runs=registry.why_in_use,
    keeps_visible=registry.why_visible,
    strays=strays,
    stored_bytes=exports.stored_bytes,
    expected_bytes=exports.expected_bytes,
)
