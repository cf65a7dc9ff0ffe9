"""Model cards, and pushes of exports to the Hugging Face hub, over REST."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body, Query
from fastapi.responses import PlainTextResponse

from app.features.shipping.queries import exports as model_exports
from app.features.shipping.queries import pushes as hub_pushes
from app.features.shipping.rules.push import HubPush, PushStatus, Repository
from app.features.shipping.services import model_cards
from app.features.shipping.services import pushes as service
from app.features.shipping.words.model_card import model_card
from app.store.workers.tables import LIVE
from app.web.api.answer import Answer
from app.web.api.examples import PUSH
from app.web.http.dependencies import Bell, Config, Db, Reading, RowId, User
from app.web.http.errors import problems
from app.web.http.idempotency import OnceByHeader
from app.web.http.waiting import Wait, ended

router = APIRouter(tags=["exports"])
EXAMPLE = "owner/name"


class HubPushOut(Answer):
    """A push of an export to the hub."""

    id: int
    export_id: int
    repository: str
    private: bool
    reason: str
    """Why an export that has not passed its gate is published."""
    status: PushStatus
    progress: float
    """Share of the work that is done, from 0 to 1."""
    message: str
    """Why it failed."""
    commit: str
    """On the hub; empty before it has succeeded."""
    url: str
    """Of the repository; empty before it has succeeded."""
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


@router.get(
    "/exports/{export_id}/card",
    operation_id="getModelCard",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/markdown": {}}}, **problems(404, 409)},
)
def card(
    session: Reading,
    export_id: RowId,
    repository: Annotated[Repository, Query(description="Where it will be: its code names it.")] = EXAMPLE,
    reason: Annotated[str, Query(max_length=1000)] = "",
) -> PlainTextResponse:
    """The model card of an export, as a push writes it: Markdown with metadata in YAML. 409 before the export has
    succeeded."""
    text = model_card(model_cards.of_export(session, export_id), repository, reason)
    return PlainTextResponse(text, media_type="text/markdown; charset=utf-8")


@router.post(
    "/exports/{export_id}/pushes", status_code=202, operation_id="pushExport", responses=problems(404, 409, 422)
)
def push(
    db: Db,
    bell: Bell,
    settings: Config,
    user: User,
    once: OnceByHeader,
    export_id: RowId,
    request: Annotated[HubPush, Body(openapi_examples=PUSH)],
) -> HubPushOut:
    """Have a worker push an export with its model card and receipt to a repository of the hub. An export that has not
    passed its gate needs a reason, its owner must be in `VEZNA_HUB_NAMESPACES` where login is required, and a public
    repository needs the scope admin (422); 409 for one that has not succeeded, or is being pushed there."""
    with db.transaction() as session:
        text = model_card(model_cards.of_export(session, export_id), request.repository, request.reason)
        row = service.submit(session, bell, settings, export_id, request, text, user)
        return once.keep(session, HubPushOut.from_object(row))


@router.get("/exports/{export_id}/pushes", operation_id="listPushes", responses=problems(404))
def listing(session: Reading, export_id: RowId) -> list[HubPushOut]:
    """The pushes of an export, the oldest first."""
    model_exports.get(session, export_id)
    return [HubPushOut.from_object(row) for row in hub_pushes.of_export(session, export_id)]


@router.get("/pushes/{push_id}", operation_id="getPush", responses=problems(404))
async def get(db: Db, push_id: RowId, wait: Wait = 0.0) -> HubPushOut:
    """A push; with `wait`, once it has ended or the seconds are over."""
    return await ended(
        db,
        lambda session: HubPushOut.from_object(hub_pushes.get(session, push_id)),
        lambda row: row.status in LIVE,
        wait,
    )


@router.post("/pushes/{push_id}/cancel", status_code=202, operation_id="cancelPush", responses=problems(404, 409))
def cancel(db: Db, push_id: RowId) -> HubPushOut:
    """Cancel a push before its commit; 409 if it has ended."""
    with db.transaction() as session:
        return HubPushOut.from_object(service.cancel(session, push_id))
