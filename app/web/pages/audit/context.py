"""What the page of the audit log shows."""

from dataclasses import dataclass, replace
from urllib.parse import urlencode

from app.domain.accounts.audit import Action, AuditFilter
from app.store.database.page import Page
from app.store.tables import AuditEventRow
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
