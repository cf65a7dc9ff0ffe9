"""What workers do on request of runs' exports: write them, push them to the hub, compare a server with a run."""

from sqlalchemy.orm import Session

from app.broker.queue import EXPORT, PARITY, PUSH
from app.domain.accounts.audit import Action
from app.domain.messages import _
from app.features.shipping.tables import HubPushRow, ModelExportRow, ParityCheckRow
from app.services.workers.work import WorkKind
from app.store.database.ownership import require_change
from app.store.runs import queries as runs


def _change_run(session: Session, run_id: int) -> None:
    require_change(session, runs.get(session, run_id))


EXPORTS = WorkKind(
    ModelExportRow,
    EXPORT,
    missing=lambda row_id: _("There is no export %(export_id)s.", export_id=row_id),
    over=lambda row_id, status: _("Export %(id)s has already ended (%(status)s).", id=row_id, status=status),
    lost=lambda attempts: _(
        "Its worker was lost in %(attempts)s attempts; it may be short of memory. Export it again.", attempts=attempts
    ),
    parent="run_id",
    get_parent=runs.get,
    change_parent=_change_run,
    cancelled=Action.CANCEL_EXPORT,
    audited="run_id",
)
PUSHES = WorkKind(
    HubPushRow,
    PUSH,
    missing=lambda row_id: _("There is no push %(push_id)s.", push_id=row_id),
    over=lambda row_id, status: _("Push %(id)s has already ended (%(status)s).", id=row_id, status=status),
    lost=lambda attempts: _("Its worker was lost in %(attempts)s attempts. Push it again.", attempts=attempts),
    parent="export_id",
    get_parent=EXPORTS.get,
    change_parent=EXPORTS.own,
    cancelled=Action.CANCEL_PUSH,
    audited="repository",
    user="user_id",
)
CHECKS = WorkKind(
    ParityCheckRow,
    PARITY,
    missing=lambda row_id: _("There is no parity check %(id)s.", id=row_id),
    over=lambda row_id, status: _("Parity check %(id)s has already ended (%(status)s).", id=row_id, status=status),
    lost=lambda attempts: _("Its worker was lost in %(attempts)s attempts. Start it again.", attempts=attempts),
    parent="run_id",
    get_parent=runs.get,
    change_parent=_change_run,
    cancelled=Action.CANCEL_PARITY_CHECK,
    audited="run_id",
    has_key=True,
)
