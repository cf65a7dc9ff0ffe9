"""What services call of the second factor."""

from collections.abc import Iterator

from sqlalchemy.orm import Session

from app.features.second_factor import queries, service
from app.features.second_factor.tables import SecondFactorRow
from app.services.hooks import Hooks


def _secrets(session: Session) -> Iterator[tuple[SecondFactorRow, str]]:
    for row in queries.everyone(session):
        yield row, "secret"


HOOKS = Hooks(
    secrets=_secrets,
    sweep=service.forget,
    second_step=service,
    end_logins=service.end_logins,
)
