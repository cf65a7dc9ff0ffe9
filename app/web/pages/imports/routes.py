"""Results from elsewhere: a form that takes their files, and the collections that there are."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, File, Form, UploadFile
from fastapi.responses import HTMLResponse
from pydantic import TypeAdapter, ValidationError

from app.domain.errors import FieldError, Invalid
from app.domain.imports.files import MOST_FILE_BYTES, NamedText
from app.services import imports
from app.services.imports import DEFAULT_COLLECTION
from app.store.queries import collections
from app.web.api.imports import MOST_IMPORT_BYTES, CollectionName
from app.web.http.dependencies import Db, Reading
from app.web.http.errors import field_errors
from app.web.pages.imports.context import ImportsPage, Report
from app.web.templating import Render

router = APIRouter(prefix="/imports", include_in_schema=False)

PAGE = "imports/index.html"
NAME: TypeAdapter[str] = TypeAdapter(CollectionName)


@router.get("")
def index(session: Reading, render: Render, collection: str = "") -> HTMLResponse:
    """The form; a name for the collection may be in the address."""
    return render.page(PAGE, ImportsPage.of(collections.everyone(session), collection[:120]))


@router.post("", max_body_size=MOST_IMPORT_BYTES)
def bring_in(
    db: Db,
    render: Render,
    files: Annotated[list[UploadFile | str], File()] = [],  # noqa: B006
    collection: Annotated[str, Form(max_length=500)] = "",
) -> HTMLResponse:
    """Take the files, and say what became of each. The same files again change nothing, so a reload does no harm."""
    sent = [
        NamedText(file.filename, file.file.read(MOST_FILE_BYTES + 1))
        for file in files
        if not isinstance(file, str) and file.filename  # a form without a file sends an empty one
    ]
    try:
        name = NAME.validate_python(collection.strip() or DEFAULT_COLLECTION)
        looked_at = imports.look_at(sent)
        with db.transaction() as session:
            found = imports.bring_in(session, looked_at, name)
    except ValidationError as error:
        problems = tuple(replace(e, path="collection") for e in field_errors(error.errors()))
        return _again(db, render, collection, problems)
    except Invalid as error:
        return _again(db, render, collection, error.fields)
    with db.reading() as session:
        page = ImportsPage.of(collections.everyone(session), collection)
    report = Report.of(found)
    return render.page(PAGE, replace(page, report=report), status=200 if report.collection_id else 422)


def _again(db: Db, render: Render, collection: str, errors: tuple[FieldError, ...]) -> HTMLResponse:
    """The form with what is wrong."""
    with db.reading() as session:
        page = ImportsPage.of(collections.everyone(session), collection)
    return render.page(PAGE, replace(page, errors=tuple(errors)), status=422)
