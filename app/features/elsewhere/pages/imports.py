"""Imported results: the form that takes their files, and the collections."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, File, Form, UploadFile
from fastapi.responses import HTMLResponse
from pydantic import TypeAdapter, ValidationError

from app.domain.errors import FieldError, Invalid
from app.features.elsewhere.rules import MOST_FILE_BYTES, NamedText
from app.features.elsewhere.services import imports
from app.features.elsewhere.services.imports import DEFAULT_COLLECTION, MOST_IMPORT_BYTES, CollectionName, ImportReport
from app.store.studies import collections
from app.store.studies.collections import CollectionSummary
from app.web.http.dependencies import Db, Reading
from app.web.http.errors import field_errors
from app.web.templating import Render

router = APIRouter(prefix="/imports", include_in_schema=False)

PAGE = "elsewhere/imports/index.html"
NAME: TypeAdapter[str] = TypeAdapter(CollectionName)


@dataclass(frozen=True)
class ImportsPage:
    """The collections, the form, and what became of the last files."""

    collections: Sequence[CollectionSummary]
    name: str
    """Of a collection, as it was typed."""
    report: ImportReport | None = None
    errors: Sequence[FieldError] = ()


@router.get("")
def index(session: Reading, render: Render, collection: str = "") -> HTMLResponse:
    """The form; the address may name the collection."""
    return render.page(PAGE, ImportsPage(collections.everyone(session), collection[:120]))


@router.post("", max_body_size=MOST_IMPORT_BYTES)
def import_files(
    db: Db,
    render: Render,
    files: Annotated[list[UploadFile | str], File()] = [],  # noqa: B006
    collection: Annotated[str, Form(max_length=500)] = "",
) -> HTMLResponse:
    """Import files and report on each. The same files again change nothing, so a reload does no harm."""
    sent = [
        NamedText(file.filename, file.file.read(MOST_FILE_BYTES + 1))
        for file in files
        if not isinstance(file, str) and file.filename  # a form without a file sends an empty one
    ]
    report: ImportReport | None = None
    errors: Sequence[FieldError] = ()
    try:
        name = NAME.validate_python(collection.strip() or DEFAULT_COLLECTION)
        results = imports.read_files(sent)
        with db.transaction() as session:
            report = imports.add_results(session, results, name)
    except ValidationError as error:
        errors = [replace(e, path="collection") for e in field_errors(error.errors())]
    except Invalid as error:
        errors = error.fields
    with db.reading() as session:
        page = ImportsPage(collections.everyone(session), collection, report, errors)
    return render.page(PAGE, page, status=200 if report and report.collection_id else 422)
