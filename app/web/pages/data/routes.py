"""Data: the list of datasets and the forms that add data; an upload with its mapping; a version of a dataset.

Files are streamed to the store; a worker reads them.
"""

from dataclasses import replace
from itertools import groupby
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.errors import Conflict, Invalid, NotFound
from app.domain.messages import _
from app.services.data import datasets as dataset_service
from app.services.data import uploads as upload_service
from app.services.data.images import image_of
from app.services.models.roots import shown_roots
from app.settings import Settings
from app.store.data import queries as datasets
from app.store.data import uploads
from app.store.tables import DatasetRow
from app.web.figures.drawing.labels import labels
from app.web.figures.drawing.render import Theme
from app.web.figures.figure import Figure, choose, drawn
from app.web.figures.runs.lengths import lengths
from app.web.forms.once import OnceByFiles, OnceByForm
from app.web.forms.sent import SentForm, creating
from app.web.http.dependencies import Bell, Config, Db, Reading, RowId, Store
from app.web.http.files.figure_file import Ending, figure_file
from app.web.http.files.uploads import ANY_SIZE, FormFiles
from app.web.http.middleware.security import NOTHING
from app.web.pages.data.context import DataPage, DatasetPage, UploadPage
from app.web.pages.data.form import MappingForm, at_fields, reading_options, source_request, typed_source
from app.web.pages.data.preview import PreviewView, preview_of
from app.web.templating import Render, Renderer

router = APIRouter(prefix="/data", include_in_schema=False)

LIST, UPLOAD, DATASET = "data/index.html", "data/upload.html", "data/show.html"


@router.get("")
def index(session: Reading, settings: Config, render: Render) -> HTMLResponse:
    return render.page(LIST, _list(session, settings))


@router.post("/files", max_body_size=ANY_SIZE)
def add_files(
    received: FormFiles,
    once: OnceByFiles,
    db: Db,
    bell: Bell,
    files: Store,
    settings: Config,
    session: Reading,
    render: Render,
    request: Request,
) -> Response:
    """Store files and show their upload; or the page again with what is wrong."""
    try:
        options = reading_options(received.fields)
        stored = received.stored()
        with creating(db, received.fields).transaction() as writing:
            upload = upload_service.add_files(writing, bell, files, stored, options)
            return _to(once.keep(writing, upload_address(upload.id)))
    except Invalid as error:
        return _refused(render, request, _list(session, settings), error)


@router.post("/sources")
def add_source(
    db: Db,
    bell: Bell,
    once: OnceByForm,
    session: Reading,
    settings: Config,
    render: Render,
    request: Request,
    form: SentForm,
) -> Response:
    """Have a worker fetch a hub dataset or a directory; or the page again with what is wrong."""
    values = typed_source(form)
    try:
        with creating(db, form).transaction() as writing:
            upload = upload_service.add_source(writing, bell, source_request(values), settings.data_roots)
            return _to(once.keep(writing, upload_address(upload.id)))
    except Invalid as error:
        return _refused(render, request, replace(_list(session, settings), source=values), error)


@router.get("/uploads/{upload_id:int}")
def show_upload(session: Reading, render: Render, upload_id: RowId) -> HTMLResponse:
    """The progress of reading an upload; then its columns and the mapping to confirm."""
    return render.page(UPLOAD, _upload(session, upload_id), of=("uploads", upload_id))


@router.post("/uploads/{upload_id:int}")
def make_dataset(
    db: Db, bell: Bell, once: OnceByForm, session: Reading, render: Render, upload_id: RowId, form: SentForm
) -> Response:
    """Make a dataset of an upload; or the form again, with what is wrong or as another choice changes it."""
    page = _upload(session, upload_id)
    if page.form is None:
        return _to(upload_address(upload_id))
    mapping_form = page.form.typed(form)
    page = replace(page, form=mapping_form)
    if form.get("do") == "show":
        return render.page(UPLOAD, page)
    try:
        with db.transaction() as writing:
            row = dataset_service.prepare(writing, bell, mapping_form.request(upload_id))
            return _to(once.keep(writing, address_of(row)))
    except Invalid as error:
        return render.page(UPLOAD, replace(page, errors=at_fields(error.at())), status=422)


@router.post("/uploads/{upload_id:int}/read")
def read_again(db: Db, bell: Bell, session: Reading, render: Render, upload_id: RowId, form: SentForm) -> Response:
    """Read an upload again with other options."""
    try:
        options = reading_options(form)
        with db.transaction() as writing:
            upload_service.read_again(writing, bell, upload_id, options)
    except (Invalid, Conflict) as error:
        return render.page(UPLOAD, replace(_upload(session, upload_id), errors=error.at()), status=422)
    return _to(upload_address(upload_id))


@router.get("/{name}")
def show_dataset(session: Reading, db: Db, bell: Bell, render: Render, name: str, request: Request) -> HTMLResponse:
    row = datasets.find(session, name)
    page = DatasetPage(
        row=row,
        versions=datasets.versions(session, row.name),
        uses=datasets.uses(session),
        upload=uploads.get(session, row.upload_id) if row.upload_id else None,
    )
    if row.status != "ready":
        return render.page(DATASET, page, of=("datasets", row.name))
    charts, preview = f"{address_of(row)}/charts", preview_of(session, db, bell, row, request.query_params)
    if figure := _lengths(preview):
        preview = replace(preview, figure=drawn(figure, charts, f"?{preview.query}"))
    labels_figure = drawn(labels(row.facts), charts) if row.facts.labels else None
    page = replace(page, figure=labels_figure, preview=preview)
    return render.page(DATASET, page, status=422 if preview.errors else 200, of=("datasets", row.name))


@router.get("/{name}/charts/{figure}.{ending}")
def chart(
    session: Reading,
    db: Db,
    bell: Bell,
    name: str,
    figure: str,
    ending: Ending,
    request: Request,
    theme: Theme = "light",
) -> Response:
    row = datasets.find(session, name)
    if row.status != "ready":
        raise NotFound(_("%(reference)s is not ready.", reference=row.reference))
    figures: dict[str, Figure] = {"labels": labels(row.facts)} if row.facts.labels else {}
    if figure == "lengths" and (shown := _lengths(preview_of(session, db, bell, row, request.query_params))):
        figures["lengths"] = shown
    return figure_file(choose(figures, figure), ending, theme, f"data-{row.id}")


@router.get("/{name}/images/{item}")
def image(session: Reading, files: Store, name: str, item: str) -> Response:
    """An image of a dataset, as a PNG that the worker wrote; its name is a hash of its pixels, so it never changes."""
    headers = {"Cache-Control": "private, max-age=86400, immutable", "Content-Security-Policy": NOTHING}
    return Response(image_of(files, datasets.find(session, name), item), media_type="image/png", headers=headers)


def _lengths(preview: PreviewView) -> Figure | None:
    """Row lengths in tokens, once the preview is made."""
    if preview.preview is None or preview.model is None or not preview.preview.lengths:
        return None
    return lengths(preview.preview.lengths, preview.length, preview.model.name)


def _list(session: Session, settings: Settings) -> DataPage:
    shown = []
    for _name, rows in groupby(datasets.all_versions(session), key=lambda row: row.name):
        versions = list(rows)  # the newest first
        shown.append((next((row for row in versions if row.status == "ready"), versions[0]), len(versions)))
    return DataPage(
        datasets=shown,
        uses=datasets.uses(session),
        uploads=uploads.without_dataset(session),
        source=typed_source({}),
        roots=shown_roots(session, settings.data_roots),
        most_bytes=settings.upload_bytes,
    )


def _refused(render: Renderer, request: Request, page: DataPage, error: Invalid) -> HTMLResponse:
    """htmx swaps in answers with status 200 only."""
    status = 200 if "hx-request" in request.headers else 422
    return render.page(LIST, replace(page, errors=error.at("file")), status=status)


def _upload(session: Session, upload_id: int) -> UploadPage:
    row, versions = uploads.get(session, upload_id), datasets.of_upload(session, upload_id)
    form = MappingForm.initial(row.scan, row.name, next(iter(versions), None)) if row.scan else None
    return UploadPage(row, form, versions)


def _to(address: str) -> RedirectResponse:
    return RedirectResponse(address, status_code=303)


def upload_address(upload_id: int) -> str:
    return f"/data/uploads/{upload_id}"


def address_of(row: DatasetRow) -> str:
    return f"/data/{quote(row.reference)}"
