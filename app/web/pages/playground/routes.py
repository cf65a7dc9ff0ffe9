"""The playground's page. Labels and tags are in the page itself; a language model's answers arrive as events."""

import time
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from app.domain.errors import Invalid, VeznaError
from app.domain.inference import Prediction
from app.exchange import Reader
from app.services import inference
from app.web.http.dependencies import Db, Exchange, Store
from app.web.http.inference import answered
from app.web.pages.playground.context import PlaygroundPage, of_query
from app.web.pages.playground.form import PlaygroundQuery, checked_text, names
from app.web.templating import Render

router = APIRouter(include_in_schema=False)

Word = Annotated[str, Query(max_length=200)]


@router.get("/playground")
async def show(
    request: Request,
    db: Db,
    files: Store,
    exchange: Exchange,
    render: Render,
    model: Annotated[list[str], Query(max_length=20)] = [],  # noqa: B006
    text: str = "",
    seed: Word = "",
    tokens: Word = "",
    chat: Word = "",
    base: Word = "",
    study: Word = "",
    arm: Word = "",
    kind: Word = "",
    item: Word = "",
) -> HTMLResponse:
    """Models side by side on the text of the address."""
    query = PlaygroundQuery(
        names(model), text, seed.strip(), tokens, chat, base=base, study=study, arm=arm, kind=kind, item=item
    )

    def read() -> PlaygroundPage:
        with db.reading() as session:
            return of_query(session, files, query)

    page = await run_in_threadpool(read)
    if page.lanes and page.query.text.strip() and not page.writes and not page.errors:
        page = await _classified(request, exchange, page)
    return await run_in_threadpool(render.page, "playground/show.html", page)


async def _classified(request: Request, exchange: Reader, page: PlaygroundPage) -> PlaygroundPage:
    """With labels or tags, or why there are none."""
    began = time.monotonic()
    predictions: dict[int, tuple[Prediction, int | None]] = {}
    loaded: int | None = None
    try:
        checked_text(page.query.text)
        subjects = [lane.subject for lane in page.lanes]
        comparison = inference.request("compare", subjects, [page.given], importance=True)
        async for event in answered(request, exchange, comparison):
            if event["type"] == "loaded":
                loaded = event["bytes"]
            for one in event.get("predictions", ()):
                predictions[event["subject"]] = Prediction.model_validate(one), event["limit"]
    except Invalid as error:
        return replace(page, errors=error.at("text"))
    except VeznaError as error:
        return replace(page, problem=error.message)
    lanes: list[Any] = [
        replace(lane, prediction=predictions[place][0], limit=predictions[place][1]) if place in predictions else lane
        for place, lane in enumerate(page.lanes)
    ]
    return replace(page, lanes=lanes, seconds=time.monotonic() - began, bytes=loaded)
