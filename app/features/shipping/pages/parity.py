"""Servers that are compared with a run: a section of its page, and a page with the form and all results."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.errors import Conflict, FieldError, Invalid, Unavailable
from app.features.shipping.rules.parity import Parity
from app.features.shipping.rules.parity_check import NewParityCheck
from app.features.shipping.services import parity_checks as service
from app.features.shipping.services.exports import margin
from app.features.shipping.services.work import CHECKS
from app.features.shipping.tables import ParityCheckRow
from app.features.shipping.words.exports import gate_difference
from app.services.outbound.outbound import Outbound
from app.settings import Settings
from app.store.runs import queries as runs
from app.store.tables import RunRow
from app.web.bars import MarginScale
from app.web.forms.errors import HasErrors, validated
from app.web.forms.once import OnceByForm
from app.web.forms.sent import SentForm
from app.web.http.dependencies import Bell, Config, Db, Reading, RowId
from app.web.http.errors import status_of
from app.web.templating import Render
from app.words.i18n import gettext as _

router = APIRouter(prefix="/runs/{run_id:int}/parity", include_in_schema=False)
TEMPLATE = "shipping/parity.html"


@dataclass(frozen=True)
class RunParity:
    """A run's parity checks."""

    run_id: int
    rows: Sequence[ParityCheckRow]
    """The newest first."""
    family: str
    """The method's, for its colour."""
    margin: float
    """In the metric's unit."""

    @classmethod
    def of(cls, session: Session, run: RunRow) -> "RunParity | None":
        """From the store; None for a run with which no server can be compared."""
        if service.refusal(session, run):
            return None
        rows = CHECKS.of(session, run.id)[::-1]
        return cls(run.id, rows, run.spec.method.facts.family, margin(session, run))

    def scale(self, result: Parity) -> MarginScale:
        """A server's difference to the run."""
        label = _("%(by)s points, %(word)s", by=gate_difference(result), word=result.outcome.value)
        return MarginScale.placed(result.delta, result.low, result.high, result.margin, label)

    @property
    def live(self) -> bool:
        """One of them has not ended."""
        return any(row.live for row in self.rows)


@dataclass(frozen=True)
class ParityPage(HasErrors):
    """The form, and the results."""

    checks: RunParity
    enabled: bool
    """Some host may be reached."""
    url: str = ""
    model: str = ""
    items: str = ""
    errors: tuple[FieldError, ...] = ()


def section_of(session: Session, run: RunRow) -> RunParity | None:
    """Of the run's page; None for a run without a result."""
    return RunParity.of(session, run) if run.result else None


@router.get("")
def show(session: Reading, settings: Config, render: Render, run_id: RowId) -> HTMLResponse:
    """The page."""
    return render.page(TEMPLATE, _page(session, settings, run_id))


@router.get("/section")
def section(session: Reading, render: Render, run_id: RowId) -> HTMLResponse:
    """The section of the run's page, for htmx."""
    return render.page("shipping/parity_section.html", _checks(session, run_id))


@router.post("")
def submit(
    db: Db,
    session: Reading,
    bell: Bell,
    settings: Config,
    render: Render,
    once: OnceByForm,
    form: SentForm,
    run_id: RowId,
) -> Response:
    """Queue a check; the form again with its errors."""
    url, model, items = (form.get(name, "").strip() for name in ("url", "model", "items"))
    page = replace(_page(session, settings, run_id), url=url, model=model, items=items)
    try:
        key = form.get("api_key", "").strip()
        new = validated(NewParityCheck, {"url": url, "model": model, "items": items or None, "api_key": key})
        with db.transaction() as writing:
            service.submit(writing, bell, settings, run_id, new)
            address = once.keep(writing, f"/runs/{run_id}/parity#checks")
    except (Invalid, Conflict, Unavailable) as error:
        once.raise_if_answered()
        page = replace(page, errors=error.at("url"))
        return render.page(TEMPLATE, page, status=status_of(error))
    return RedirectResponse(address, status_code=303)


@router.post("/{check_id:int}/cancel")
def cancel(db: Db, run_id: RowId, check_id: RowId) -> RedirectResponse:
    """Cancel a check."""
    with db.transaction() as session:
        CHECKS.cancel(session, CHECKS.get(session, check_id, run_id).id)
    return RedirectResponse(f"/runs/{run_id}/parity#checks", status_code=303)


def _checks(session: Session, run_id: int) -> RunParity:
    run = runs.get(session, run_id)
    checks = RunParity.of(session, run)
    if checks is None:
        raise service.refusal(session, run) or Conflict("")
    return checks


def _page(session: Session, settings: Settings, run_id: int) -> ParityPage:
    checks = _checks(session, run_id)
    last = checks.rows[0] if checks.rows else None
    return ParityPage(
        checks,
        enabled=Outbound(settings).enabled,
        url=last.url if last else "",
        model=last.model if last else "",
    )
