"""The audit log, for admins."""

from dataclasses import dataclass, replace
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BeforeValidator

from app.domain.accounts.audit import Action, AuditFilter
from app.store.database.page import Page
from app.store.tables import AuditEventRow
from app.store.users import audit
from app.web.http.dependencies import Config, Reading, RowId
from app.web.http.queries.audit import Which
from app.web.templating import Render
from app.words.i18n import gettext as _
from app.words.users.audit import action_title


@dataclass(frozen=True)
class AuditPage:
    """Entries of the audit log, the newest first."""

    entries: Page[AuditEventRow]
    which: AuditFilter
    first: bool
    """No newer entries precede them."""
    days: int
    """Days for which entries are kept."""

    @property
    def action_choices(self) -> list[tuple[str, str]]:
        return [("", _("All actions")), *((action.value, action_title(action)) for action in Action)]

    @property
    def filtered(self) -> bool:
        return self.which != AuditFilter()

    @property
    def older(self) -> str:
        return "/audit?" + urlencode(self._query() | {"before": str(self.entries.next_after)})

    @property
    def download(self) -> str:
        """Address of the same entries as JSON lines."""
        query = self._query()
        return "/api/v1/audit" + (f"?{urlencode(query)}" if query else "")

    def by(self, **changed: str) -> str:
        """Address of the page with another filter."""
        return "/audit?" + urlencode(replace(self, which=replace(self.which, **changed))._query())  # type: ignore[arg-type]

    def _query(self) -> dict[str, str]:
        which = self.which
        given = {"action": which.action, "name": which.name, "subject": which.subject}
        times = {"since": which.since, "until": which.until}
        return {
            **{name: value for name, value in given.items() if value},
            **{name: value.isoformat() for name, value in times.items() if value},
        }


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
    return render.page("account/audit.html", AuditPage(entries, which, before is None, settings.audit_days))
