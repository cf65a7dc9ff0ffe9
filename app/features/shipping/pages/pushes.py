"""The page that shows an export's model card and pushes it to the Hugging Face hub."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.comparison.fairness.export_gate import ExportGate
from app.domain.errors import Conflict, FieldError, Invalid
from app.features.shipping.rules.push import HubPush
from app.features.shipping.services import model_cards
from app.features.shipping.services import pushes as service
from app.features.shipping.services.work import EXPORTS, PUSHES
from app.features.shipping.tables import HubPushRow, ModelExportRow
from app.features.shipping.words.model_card import model_card
from app.web.forms.errors import HasErrors, validated
from app.web.forms.once import OnceByForm
from app.web.forms.sent import SentForm
from app.web.http.dependencies import Bell, Config, Db, Reading, RowId, User
from app.web.http.errors import status_of
from app.web.templating import Render

router = APIRouter(prefix="/runs/{run_id:int}/exports/{export_id:int}", include_in_schema=False)
TEMPLATE = "shipping/hub.html"
SUGGESTED = "your-name/run-{run_id}-{format}"


@dataclass(frozen=True)
class HubPage(HasErrors):
    """An export, its model card, and its pushes."""

    export: ModelExportRow
    gate: ExportGate
    card: str
    """As a push would write it now."""
    pushes: Sequence[HubPushRow]
    """The newest first."""
    repository: str
    private: bool = True
    reason: str = ""
    errors: tuple[FieldError, ...] = ()

    @property
    def live(self) -> bool:
        """A push has not ended."""
        return any(push.live for push in self.pushes)


@router.get("/hub")
def show(session: Reading, render: Render, run_id: RowId, export_id: RowId) -> HTMLResponse:
    """Card and form."""
    return render.page(TEMPLATE, _page(session, run_id, export_id))


@router.post("/hub")
def push(
    db: Db,
    session: Reading,
    bell: Bell,
    settings: Config,
    user: User,
    render: Render,
    once: OnceByForm,
    form: SentForm,
    run_id: RowId,
    export_id: RowId,
) -> Response:
    """Push the export, or show the card for another repository (`action=card`); the form again with its errors."""
    page = _page(session, run_id, export_id)
    repository, reason, private = form.get("repository", ""), form.get("reason", ""), "private" in form
    page = replace(page, repository=repository, reason=reason, private=private)
    try:
        new = validated(HubPush, {"repository": repository, "reason": reason, "private": private})
        card = model_card(model_cards.of_export(session, export_id), new.repository, new.reason)
        if form.get("action") == "card":
            return render.page(TEMPLATE, replace(page, card=card))
        with db.transaction() as writing:
            service.submit(writing, bell, settings, export_id, new, card, user)
            address = once.keep(writing, f"/runs/{run_id}/exports/{export_id}/hub#pushes")
    except (Invalid, Conflict) as error:
        once.raise_if_answered()
        page = replace(page, errors=error.at("repository"))
        return render.page(TEMPLATE, page, status=status_of(error))
    return RedirectResponse(address, status_code=303)


@router.post("/hub/{push_id:int}/cancel")
def cancel(db: Db, run_id: RowId, export_id: RowId, push_id: RowId) -> RedirectResponse:
    """Cancel a push."""
    with db.transaction() as session:
        EXPORTS.get(session, export_id, run_id)
        PUSHES.cancel(session, PUSHES.get(session, push_id, export_id).id)
    return RedirectResponse(f"/runs/{run_id}/exports/{export_id}/hub#pushes", status_code=303)


def _page(session: Session, run_id: int, export_id: int) -> HubPage:
    export = EXPORTS.get(session, export_id, run_id)
    facts = model_cards.of_export(session, export_id)
    pushes = PUSHES.of(session, export_id)[::-1]
    name = pushes[0].repository if pushes else SUGGESTED.format(run_id=run_id, format=export.format)
    return HubPage(export, facts.gate, model_card(facts, name), pushes, name)
