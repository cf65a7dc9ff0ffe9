"""The audit log over REST: its entries as JSON lines, for admins."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import Field, TypeAdapter

from app.domain.accounts.audit import Action
from app.services.users import audit
from app.services.users.audit import AuditEvent
from app.store.database.page import LARGEST_ID
from app.web.http.dependencies import Db
from app.web.http.queries.audit import Which

router = APIRouter(prefix="/audit", tags=["account"])

TYPE = "application/x-ndjson"
LINE = TypeAdapter(AuditEvent)


@router.get(
    "",
    operation_id="exportAuditLog",
    response_class=StreamingResponse,
    responses={200: {"content": {TYPE: {"schema": {"type": "string"}}}}},
)
def export(
    db: Db,
    which: Which,
    after: Annotated[
        Annotated[int, Field(ge=0, le=LARGEST_ID)],
        Query(description="Entries after this id; the last id of an export continues it."),
    ] = 0,
    limit: Annotated[Annotated[int, Field(ge=1)] | None, Query(description="At most so many; default: all.")] = None,
) -> StreamingResponse:
    """Entries of the audit log, the oldest first, a JSON object in each line. The export itself becomes an entry."""
    audit.record_now(db, Action.EXPORT_AUDIT, after=after or None, of=which.action or None)
    lines = (LINE.dump_json(entry) + b"\n" for entry in audit.entries(db, which, after, limit))
    headers = {"content-disposition": 'attachment; filename="audit.jsonl"', "cache-control": "no-store"}
    return StreamingResponse(lines, media_type=TYPE, headers=headers)
