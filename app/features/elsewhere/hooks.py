"""What services call of exports to a tracker."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.features.elsewhere.services import tracker_exports
from app.services.hooks import Hooks
from app.settings import Settings
from app.store.tables import RunRow


def _ended(session: Session, settings: Settings, ended: Sequence[RunRow]) -> None:
    if settings.tracker:
        tracker_exports.runs_ended(session, ended)


HOOKS = Hooks(ended=_ended)
