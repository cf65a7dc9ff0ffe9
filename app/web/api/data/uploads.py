"""Uploads over REST: files are stored, then a worker reads them and suggests a mapping."""

from datetime import datetime
from typing import Annotated, Any, Self

from fastapi import APIRouter, Body, Path, Query
from pydantic import Field, ValidationError
from sqlalchemy.orm import Session

from app.domain.accounts.ownership import Visibility
from app.domain.data.uploads import Part, ReadingOptions, SourceRequest, SourceScan, UploadSource, UploadState
from app.domain.errors import Invalid
from app.services.data import uploads as upload_service
from app.services.ownership import deletion
from app.store.data import queries as datasets
from app.store.data import uploads
from app.store.files.files import Files
from app.store.tables import UploadRow
from app.web.api.answer import Answer
from app.web.api.examples import READING, SOURCE
from app.web.http.dependencies import Bell, Config, Db, NewDb, Reading, RowId, Store
from app.web.http.errors import field_errors, problems
from app.web.http.files.uploads import ANY_SIZE, FormFiles, RawFile
from app.web.http.idempotency import Once, OnceByHeader, OnceByUpload
from app.web.http.waiting import Wait, ended
from app.words.data.findings import with_message

router = APIRouter(prefix="/uploads", tags=["uploads"])

BYTES = {"type": "string", "format": "binary"}
OF_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "array", "items": BYTES, "description": "One file, or several: train, test."},
                        "delimiter": {"type": "string", "enum": [",", ";", "\t", "|"]},
                        "encoding": {"type": "string"},
                        "header": {"type": "boolean"},
                    },
                    "required": ["file"],
                },
                "example": {"file": ["reviews-train.csv", "reviews-test.csv"]},
            }
        },
    }
}
OF_BYTES: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": BYTES}}}
}
"""For the documentation: pydantic does not read these bodies."""


class FileOptions(ReadingOptions):
    """Reading options of a file that is sent as a body, and who sees its upload."""

    visibility: Visibility = Visibility.TEAM
    """Who sees it, beside its owner and the admins."""


class UploadListed(Answer):
    """An upload in a list."""

    id: int
    source: UploadSource
    name: str = Field(validation_alias="shown_name")
    bytes: int
    status: UploadState
    message: str
    """Why it failed."""
    progress: float
    """Share of the bytes that are read."""
    rows_read: int
    created_at: datetime
    owner_id: int | None
    """The user to whom it belongs; null without login."""
    visibility: Visibility
    """`private`: its owner and admins see it; `team`: all users."""


class UploadOut(UploadListed):
    """An upload; `scan` is there once a worker has read it."""

    location: str = Field(validation_alias="shown_location")
    """A hub id or a directory; of a directory only admins see the path, others its name."""
    config: str
    revision: str
    """Commit of a hub dataset, once it is fetched."""
    split: str
    parts: list[Part]
    options: ReadingOptions
    scan: SourceScan | None
    datasets: list[str]
    """Datasets made from this upload, as specs name them."""

    @classmethod
    def of(cls, session: Session, row: UploadRow) -> Self:
        scan = row.scan
        if scan:
            scan = scan.model_copy(update={"findings": [with_message(finding) for finding in scan.findings]})
        versions = datasets.of_upload(session, row.id)
        return cls.from_object(row, scan=scan, datasets=[version.reference for version in versions])


@router.post(
    "",
    status_code=202,
    operation_id="uploadFiles",
    responses=problems(409, 422, 503),
    openapi_extra=OF_FORM,
    max_body_size=ANY_SIZE,
)
def upload_files(received: FormFiles, once: OnceByUpload, db: NewDb, bell: Bell, files: Store) -> UploadOut:
    """Upload one file, or several that belong together, as a form: CSV, TSV, JSONL, JSON or Parquet. Bytes are
    streamed to the files store; then a worker reads them. Uploading the same bytes twice gives one upload."""
    return _add(received, once, db, bell, files, _options(received.fields))


@router.put(
    "/files/{name:path}",
    status_code=202,
    operation_id="uploadFile",
    responses=problems(409, 422, 503),
    openapi_extra=OF_BYTES,
    max_body_size=ANY_SIZE,
)
def upload_file(
    received: RawFile,
    db: Db,
    bell: Bell,
    files: Store,
    name: Annotated[str, Path(description="Name of the file; folders in it are dropped.")],
    options: Annotated[FileOptions, Query()],
) -> UploadOut:
    """Upload one file as the request's body: `curl -T reviews.csv …/uploads/files/`."""
    reading = ReadingOptions.model_validate(options.model_dump(exclude={"visibility"}))
    return _add(received, Once(), db.creating(options.visibility), bell, files, reading)


@router.post("/sources", status_code=202, operation_id="uploadSource", responses=problems(409, 422))
def upload_source(
    db: NewDb,
    bell: Bell,
    settings: Config,
    once: OnceByHeader,
    source: Annotated[SourceRequest, Body(openapi_examples=SOURCE)],
) -> UploadOut:
    """Have a worker fetch a dataset of the hub, or a directory below VEZNA_DATA_ROOTS, and read it."""
    with db.transaction() as session:
        upload = upload_service.add_source(session, bell, source, settings.data_roots)
        return once.keep(session, UploadOut.of(session, upload))


@router.get("", operation_id="listUploads")
def list_uploads(session: Reading) -> list[UploadListed]:
    """Every upload, newest first."""
    return [UploadListed.model_validate(row) for row in uploads.newest(session)]


@router.get("/{upload_id}", operation_id="getUpload", responses=problems(404, 422))
async def get_upload(db: Db, upload_id: RowId, wait: Wait = 0) -> UploadOut:
    """An upload with its columns, its splits, a suggested mapping, and findings."""
    return await ended(
        db, lambda s: UploadOut.of(s, uploads.get(s, upload_id)), lambda upload: upload.status == "reading", wait
    )


@router.post("/{upload_id}/read", status_code=202, operation_id="readUploadAgain", responses=problems(404, 409, 422))
def read_again(
    db: Db, bell: Bell, upload_id: RowId, options: Annotated[ReadingOptions, Body(openapi_examples=READING)]
) -> UploadOut:
    """Read an upload again with other reading options, if encoding, delimiter or header were detected wrongly."""
    with db.transaction() as session:
        return UploadOut.of(session, upload_service.read_again(session, bell, upload_id, options))


@router.delete("/{upload_id}", status_code=204, operation_id="deleteUpload", responses=problems(404, 409, 422))
def delete_upload(db: Db, files: Store, upload_id: RowId) -> None:
    """Delete an upload, and its files unless another upload shares them; 409 while a dataset was made from it."""
    with db.transaction() as session:
        deletion.delete_upload(session, files, upload_id)


def _add(received: FormFiles, once: Once, db: Db, bell: Bell, files: Files, options: ReadingOptions) -> UploadOut:
    stored = received.stored()
    with db.transaction() as session:
        return once.keep(
            session, UploadOut.of(session, upload_service.add_files(session, bell, files, stored, options))
        )


def _options(fields: dict[str, str]) -> ReadingOptions:
    try:
        return ReadingOptions.model_validate({name: value for name, value in fields.items() if value})
    except ValidationError as error:
        raise Invalid.of(field_errors(error.errors())) from None
