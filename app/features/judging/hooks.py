"""What services call of judgements."""

from collections.abc import Iterator

from sqlalchemy.orm import Session

from app.features.judging.queries import judgements
from app.features.judging.services.judgements import JUDGEMENTS
from app.features.judging.tables import JudgementRow
from app.services.hooks import Hooks


def _secrets(session: Session) -> Iterator[tuple[JudgementRow, str]]:
    for row in judgements.with_key(session):
        yield row, "api_key"


HOOKS = Hooks(work=(JUDGEMENTS,), secrets=_secrets)
