"""Data: every dataset, and the ways in. Files are streamed to the store; a worker reads them."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.errors import Invalid
from app.services import uploads as upload_service
from app.settings import Settings
from app.store.queries import datasets, uploads
from app.web.http.dependencies import Bell, Config, Db, Reading, Store
from app.web.http.uploads import ANY_SIZE, FormFiles
from app.web.pages.data.context import DataPage
from app.web.pages.data.source_form import SourceForm, reading_options
from app.web.templating import Render, Renderer

router = APIRouter(prefix="/data", include_in_schema=False)

PAGE = "data/index.html"


async def typed(request: Request) -> SourceForm:
    """What was typed."""
    async with request.form(max_files=0, max_fields=20) as form:
        return SourceForm.typed(form)


@router.get("")
def index(session: Reading, settings: Config, render: Render) -> HTMLResponse:
    """Every dataset."""
    return render.page(PAGE, _page(session, settings))


@router.post("/files", max_body_size=ANY_SIZE)
def add_files(
    received: FormFiles,
    db: Db,
    bell: Bell,
    files: Store,
    settings: Config,
    session: Reading,
    render: Render,
    request: Request,
) -> Response:
    """Take files, and go to where they are read; or the page again with what is wrong."""
    try:
        options = reading_options(received.fields)
        stored = received.stored()
        with db.transaction() as writing:
            upload = upload_service.add_files(writing, bell, files, stored, options)
            return RedirectResponse(f"/data/uploads/{upload.id}", status_code=303)
    except Invalid as error:
        return _again(render, request, _page(session, settings), error)


@router.post("/sources")
def add_source(
    db: Db,
    bell: Bell,
    session: Reading,
    settings: Config,
    render: Render,
    request: Request,
    form: Annotated[SourceForm, Depends(typed)],
) -> Response:
    """Have a worker fetch a dataset of the hub or a directory; or the page again with what is wrong."""
    try:
        with db.transaction() as writing:
            upload = upload_service.add_source(writing, bell, form.request(), settings.data_roots)
            return RedirectResponse(f"/data/uploads/{upload.id}", status_code=303)
    except Invalid as error:
        return _again(render, request, replace(_page(session, settings), form=form), error)


def _page(session: Session, settings: Settings) -> DataPage:
    roots = [str(root) for root in settings.data_roots]
    rows, uses = datasets.all_versions(session), datasets.uses(session)
    return DataPage.of(rows, uses, uploads.without_dataset(session), roots, settings.upload_bytes)


def _again(render: Renderer, request: Request, page: DataPage, error: Invalid) -> HTMLResponse:
    """htmx shows what an answer of 200 has; who has no scripts is told by the status too."""
    errors = error.at("file")
    return render.page(PAGE, replace(page, errors=errors), status=200 if "hx-request" in request.headers else 422)
