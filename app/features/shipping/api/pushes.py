"""Model cards, and pushes of exports to the Hugging Face hub, over REST."""

from typing import Annotated

from fastapi import APIRouter, Body, Query
from fastapi.responses import PlainTextResponse

from app.features.shipping.rules.push import HubPush, Repository
from app.features.shipping.services import model_cards
from app.features.shipping.services import pushes as service
from app.features.shipping.services.work import PUSHES
from app.features.shipping.words.model_card import model_card
from app.web.api.examples import PUSH
from app.web.api.work import WorkOut, add_work
from app.web.http.dependencies import Bell, Config, Db, Reading, RowId, User
from app.web.http.errors import problems
from app.web.http.idempotency import OnceByHeader

router = APIRouter(tags=["exports"])
EXAMPLE = "owner/name"


class HubPushOut(WorkOut):
    """A push of an export to the hub."""

    export_id: int
    repository: str
    private: bool
    reason: str
    """Why an export that has not passed its gate is published."""
    commit: str
    """On the hub; empty before it has succeeded."""
    url: str
    """Of the repository; empty before it has succeeded."""


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


add_work(
    router,
    PUSHES,
    HubPushOut,
    lambda _session, row: HubPushOut.from_object(row),
    names=("Pushes", "Push"),
    paths=("/exports/{export_id}/pushes", "/pushes/{push_id}"),
)
