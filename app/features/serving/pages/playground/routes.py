"""The playground's page. Labels and tags are in the page itself; a language model's answers arrive as events."""

import time
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from app.broker.exchange import Reader
from app.domain.data.images import MOST_IMAGE_BYTES
from app.domain.errors import FieldError, Invalid, VeznaError
from app.domain.messages import _
from app.features.serving.pages.inference import answered
from app.features.serving.pages.playground.context import PlaygroundPage, Seen, of_query
from app.features.serving.pages.playground.form import PlaygroundQuery, checked_text, names
from app.features.serving.rules import MOST_PICTURE_BYTES, Prediction
from app.features.serving.services import inference
from app.store.database.session import Database
from app.store.files.files import Files
from app.web.http.dependencies import Db, Exchange, Store
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
    page = await run_in_threadpool(_read, db, files, query)
    asked = page.picture if page.images else page.query.text.strip()
    if page.lanes and asked and not page.writes and not page.errors:
        page = await _classified(request, exchange, page)
    return await run_in_threadpool(render.page, "serving/show.html", page)


@router.post("/playground", max_body_size=MOST_IMAGE_BYTES)
async def classify_picture(
    request: Request,
    db: Db,
    files: Store,
    exchange: Exchange,
    render: Render,
    model: Annotated[list[str], Form(max_length=20)] = [],  # noqa: B006
    base: Annotated[str, Form(max_length=200)] = "",
    picture: Annotated[UploadFile | str | None, File()] = None,
) -> HTMLResponse:
    """Models side by side on a picture, which is forgotten once they have answered."""
    page = await run_in_threadpool(_read, db, files, PlaygroundQuery(names(model), base=base))
    data = b"" if picture is None or isinstance(picture, str) else await picture.read(MOST_PICTURE_BYTES + 1)
    if page.images and not page.errors:
        if refused := _refused(data):
            page = replace(page, errors=[refused])
        else:
            page = await _classified(request, exchange, replace(page, picture=data))
    return await run_in_threadpool(render.page, "serving/show.html", page, status=422 if page.errors else 200)


def _read(db: Database, files: Files, query: PlaygroundQuery) -> PlaygroundPage:
    with db.reading() as session:
        return of_query(session, files, query)


def _refused(data: bytes) -> FieldError | None:
    """Why a file is not sent to the worker."""
    if not data:
        return FieldError("picture", _("No image was sent"), _("Choose a file"))
    if len(data) > MOST_PICTURE_BYTES:
        what = _("The file has more than %(most)s MiB", most=MOST_PICTURE_BYTES >> 20)
        return FieldError("picture", what, _("Shrink the image: models read 224 to 512 pixels"))
    return None


async def _classified(request: Request, exchange: Reader, page: PlaygroundPage) -> PlaygroundPage:
    """With labels or tags, or why there are none."""
    began = time.monotonic()
    predictions: dict[int, tuple[Prediction, int | None]] = {}
    loaded: int | None = None
    seen: Seen | None = None
    field = "picture" if page.images else "text"
    try:
        checked_text(page.query.text)
        subjects = [lane.subject for lane in page.lanes]
        comparison = inference.request("compare", subjects, [page.given], importance=not page.images)
        async for event in answered(request, exchange, comparison):
            if event["type"] == "loaded":
                loaded = event["bytes"]
            elif event["type"] == "seen":
                seen = Seen(event["image"], tuple(event["size"]), tuple(event["stored_size"]))
            for one in event.get("predictions", ()):
                predictions[event["subject"]] = Prediction.model_validate(one), event["limit"]
    except Invalid as error:
        return replace(page, errors=error.at(field))
    except VeznaError as error:
        return replace(page, problem=error.message)
    lanes: list[Any] = [
        replace(lane, prediction=predictions[place][0], limit=predictions[place][1]) if place in predictions else lane
        for place, lane in enumerate(page.lanes)
    ]
    return replace(page, lanes=lanes, seconds=time.monotonic() - began, bytes=loaded, seen=seen)
