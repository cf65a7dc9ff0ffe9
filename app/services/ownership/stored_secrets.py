"""Every encrypted secret in the database, to encrypt it by another key."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.services.hooks import all_hooks
from app.services.ownership.vault import Vault
from app.services.users import audit
from app.store.database.session import Database
from app.store.models import hub_tokens
from app.store.requests import idempotency


def rotate(db: Database, vault: Vault) -> int:
    """Encrypt every stored secret by the first key. Returns the number of rows. Raises Unavailable, with nothing
    changed, if the key of one is missing."""
    with db.transaction() as session:
        rows: set[Any] = set()
        for row, attribute in _secrets(session):
            setattr(row, attribute, vault.rotate(getattr(row, attribute)))
            rows.add(row)
        answers = idempotency.encrypted(session)
        for answer in answers:
            body = answer.body.removeprefix(idempotency.ENCRYPTED)
            answer.body = f"{idempotency.ENCRYPTED}{vault.rotate(body)}"
        number = len(rows) + len(answers)
        audit.record(session, Action.ROTATE_KEY, secrets=number)
    return number


def _secrets(session: Session) -> Iterator[tuple[Any, str]]:
    for token in hub_tokens.all_of_them(session):
        yield token, "token"
    for added in all_hooks():
        yield from added.secrets(session)
