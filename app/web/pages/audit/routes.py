"""The audit log, for admins."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BeforeValidator

from app.store.users import audit
from app.web.http.dependencies import Config, Reading, RowId
from app.web.http.queries.audit import Which
from app.web.pages.audit.context import AuditPage
from app.web.templating import Render

router = APIRouter(include_in_schema=False)

AT_ONCE = 50


@router.get("/audit")
def show(
    session: Reading,
    render: Render,
    settings: Config,
    which: Which,
    before: Annotated[Annotated[RowId | None, BeforeValidator(lambda text: text or None)], Query()] = None,
) -> Response:
    """Who did what, when and from where."""
    entries = audit.newest(session, which, before, AT_ONCE)
    return render.page("audit/show.html", AuditPage(entries, which, before is None, settings.audit_days))
