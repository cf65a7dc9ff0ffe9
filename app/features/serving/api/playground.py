"""The tokens of language models side by side, as a stream of events, for the page of the playground."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import Field, TypeAdapter, ValidationError

from app.domain.errors import Invalid, NotFound, VeznaError
from app.domain.messages import Message, _
from app.features.serving.pages.inference import answered
from app.features.serving.rules import (
    MOST_CHARACTERS,
    MOST_NEW_TOKENS,
    MOST_SUBJECTS,
    ChatMessage,
    Conversation,
    Decoding,
    Input,
    Subject,
    Text,
)
from app.features.serving.services import asked_items, inference
from app.store.database.page import LARGEST_ID
from app.web.api.runs.events import place
from app.web.http.dependencies import Db, Exchange, Store
from app.web.http.errors import problems
from app.words.i18n import localized

router = APIRouter(prefix="/playground", tags=["runs"])

TEMPERATURE = 0.8
_ASKED: TypeAdapter[tuple[Conversation, Text | None]] = TypeAdapter(tuple[Conversation, Text | None])
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


def asked(
    db: Db,
    files: Store,
    text: Annotated[str, Query(max_length=MOST_CHARACTERS)] = "",
    chat: Annotated[bool, Query(description="The text is a user's turn in the model's chat template.")] = False,
    study: Annotated[
        int | None,
        Query(ge=1, le=LARGEST_ID, description="With `item`: instead of a text, a conversation of its data."),
    ] = None,
    item: Annotated[int | None, Query(ge=0, le=LARGEST_ID, description="Its place in the test split, from 0.")] = None,
) -> tuple[Input, str | None]:
    """What the models continue, and the tools that it has."""
    if study is None or item is None:
        if not text:
            raise Invalid.field("text", _("This input is empty"), _("Write a text"))
        return ([ChatMessage(role="user", content=text)] if chat else text), None
    with db.reading() as session:
        found = asked_items.asked(session, files, study, item)
    if found is None:
        raise NotFound(_("Study %(study)s has no conversation as test item %(item)s.", study=study, item=item))
    try:
        return _ASKED.validate_python(([ChatMessage.of(turn) for turn in found.turns], found.tools))
    except ValidationError:
        what = _("This conversation has more turns or characters than a request may have")
        raise Invalid.field("item", what, _("Choose another test item")) from None


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
    given: Annotated[tuple[Input, str | None], Depends(asked)],
    tokens: Annotated[
        int | None, Query(ge=1, le=MOST_NEW_TOKENS, description="Default: as the run's evaluation.")
    ] = None,
    seed: Annotated[int | None, Query(ge=0, le=2**31 - 1, description="Of sampling; without one, greedy.")] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Have models continue a text, or a test item with its tools, one after the other: `token` with its text, its
    log-probability and the most probable tokens at its place, `finished` for each model, and `end`, or `failed` with a
    sentence."""
    decoding = Decoding(max_new_tokens=tokens, seed=seed or 0, temperature=0.0 if seed is None else TEMPERATURE)
    prompt, tools = given
    work = inference.request("compare", chosen, [prompt], decoding=decoding, tools=tools)
    try:
        async for event in answered(request, exchange, work):
            yield ServerSentEvent(event=event["type"], data=event)
    except VeznaError as error:
        sentence = localized(Message.joined(field.sentence for field in error.fields) or error.message)
        yield ServerSentEvent(event="failed", data={"type": "failed", "message": sentence})
        return
    yield ServerSentEvent(event="end", data={"type": "end"})
