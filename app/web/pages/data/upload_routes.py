"""An upload: while it is read, and then the mapping to confirm, from which a dataset is made."""

from dataclasses import replace
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.domain.errors import Conflict, Invalid
from app.services import datasets as dataset_service
from app.services import uploads as upload_service
from app.store.queries import datasets, uploads
from app.web.http.dependencies import Bell, Db, Reading, RowId, Store
from app.web.pages.data.mapping_form import MOST_FIELDS, MappingForm, at_fields
from app.web.pages.data.source_form import reading_options
from app.web.pages.data.upload import UploadPage
from app.web.templating import Render

router = APIRouter(prefix="/data/uploads/{upload_id:int}", include_in_schema=False)

PAGE = "data/upload.html"


async def typed(request: Request) -> FormData:
    """What was typed."""
    async with request.form(max_files=0, max_fields=MOST_FIELDS) as form:
        return form


Typed = Annotated[FormData, Depends(typed)]


@router.get("")
def show(session: Reading, render: Render, upload_id: RowId) -> HTMLResponse:
    """Where its reading stands; once it is read, what was found, and what it would become."""
    return render.page(PAGE, _page(session, upload_id))


@router.post("")
def make(db: Db, bell: Bell, session: Reading, render: Render, upload_id: RowId, form: Typed) -> Response:
    """Make a dataset of it, or the form again: with what is wrong, or as another choice changes it."""
    page = _page(session, upload_id)
    if page.form is None:
        return RedirectResponse(f"/data/uploads/{upload_id}", status_code=303)
    page = replace(page, form=page.form.typed(form))
    if form.get("do") == "show" or page.form is None:
        return render.page(PAGE, page)
    try:
        wanted = page.form.request(upload_id)
        with db.transaction() as writing:
            made = dataset_service.prepare(writing, bell, wanted)
            return RedirectResponse(f"/data/{quote(made.reference)}", status_code=303)
    except Invalid as error:
        errors = at_fields(error.at())
        return render.page(PAGE, replace(page, errors=tuple(errors)), status=422)


@router.post("/read")
def read_again(db: Db, bell: Bell, session: Reading, render: Render, upload_id: RowId, form: Typed) -> Response:
    """Read it as one says."""
    try:
        options = reading_options(form)
        with db.transaction() as writing:
            upload_service.read_again(writing, bell, upload_id, options)
    except (Invalid, Conflict) as error:
        return render.page(PAGE, replace(_page(session, upload_id), errors=error.at()), status=422)
    return RedirectResponse(f"/data/uploads/{upload_id}", status_code=303)


@router.post("/delete")
def delete(db: Db, files: Store, upload_id: RowId) -> Response:
    """Forget it, and its files."""
    with db.transaction() as session:
        upload_service.delete(session, files, upload_id)
    return RedirectResponse("/data", status_code=303)


def _page(session: Session, upload_id: int) -> UploadPage:
    row = uploads.get(session, upload_id)
    made = datasets.of_upload(session, upload_id)
    form = MappingForm.first(row.scan, row.name, made[0] if made else None) if row.scan else None
    return UploadPage(row, form, tuple(one.reference for one in made))
