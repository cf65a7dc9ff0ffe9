"""The tokens of language models side by side, as a stream of events, for the page of the playground."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import Field

from app.domain.errors import Invalid, VeznaError
from app.domain.inference import MOST_CHARACTERS, MOST_NEW_TOKENS, MOST_SUBJECTS, ChatMessage, Decoding, Subject
from app.domain.messages import Message, _
from app.services import inference
from app.store.queries.page import LARGEST_ID
from app.web.api.events import place
from app.web.http.dependencies import Db, Exchange
from app.web.http.errors import problems
from app.web.http.inference import answered
from app.web.i18n import localized

router = APIRouter(prefix="/playground", tags=["runs"])

TEMPERATURE = 0.8
Model = Annotated[str, Field(pattern=r"^(base|[0-9]{1,18})$")]


def subjects(
    db: Db,
    model: Annotated[
        list[Model],
        Query(min_length=1, max_length=MOST_SUBJECTS, description="Runs; `base` is the base model of the first run."),
    ],
) -> list[Subject]:
    """Models that generate text, checked before the stream begins."""
    numbers = [int(name) for name in model if name != "base"]
    if not numbers or max(numbers) > LARGEST_ID:
        raise Invalid.field("model", _("No run is chosen"), _("Choose a run"))
    chosen = [Subject(run_id=numbers[0], base=True) if name == "base" else Subject(run_id=int(name)) for name in model]
    with db.reading() as session:
        for answers in inference.side_by_side(session, chosen):
            if not answers.writes:
                what = _("Run %(run)s classifies texts", run=answers.run.id)
                raise Invalid.field("model", what, _("Use POST /api/v1/runs/{run_id}/predict"))
    return chosen


@router.get(
    "/events",
    operation_id="watchGeneration",
    response_class=EventSourceResponse,
    responses=problems(404, 422, 503),
    dependencies=[Depends(place)],
)
async def generate(
    exchange: Exchange,
    request: Request,
    chosen: Annotated[list[Subject], Depends(subjects)],
    text: Annotated[str, Query(min_length=1, max_length=MOST_CHARACTERS)],
    tokens: Annotated[
        int | None, Query(ge=1, le=MOST_NEW_TOKENS, description="Default: as the run's evaluation.")
    ] = None,
    seed: Annotated[int | None, Query(ge=0, le=2**31 - 1, description="Of sampling; without one, greedy.")] = None,
    chat: Annotated[bool, Query(description="The text is a user's turn in the model's chat template.")] = False,
) -> AsyncIterator[ServerSentEvent]:
    """Have models continue a text, one after the other: `token` with its text, its log-probability and the most
    probable tokens at its place, `finished` for each model, and `end`, or `failed` with a sentence."""
    decoding = Decoding(max_new_tokens=tokens, seed=seed or 0, temperature=0.0 if seed is None else TEMPERATURE)
    prompt: Any = [ChatMessage(role="user", content=text)] if chat else text
    work = inference.request("compare", chosen, [prompt], decoding=decoding)
    try:
        async for event in answered(request, exchange, work):
            yield ServerSentEvent(event=event["type"], data=event)
    except VeznaError as error:
        sentence = localized(Message.joined(field.sentence for field in error.fields) or error.message)
        yield ServerSentEvent(event="failed", data={"type": "failed", "message": sentence})
        return
    yield ServerSentEvent(event="end", data={"type": "end"})
