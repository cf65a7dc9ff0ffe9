"""Files in OpenAI's form: each is an upload with one file. The step metrics of a job are one too."""

import csv
import io
import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.domain.errors import Invalid, NotFound
from app.domain.messages import _
from app.features.openai_jobs.errors import openai_problems
from app.features.openai_jobs.service import FILE, number_of, upload_of
from app.services.data import uploads
from app.services.ownership import deletion
from app.store.data import uploads as upload_rows
from app.store.runs import queries as runs
from app.store.runs import steps
from app.store.tables import RunRow, UploadRow
from app.web.http.dependencies import Bell, Db, NewDb, Reading, Store
from app.web.http.files.uploads import ANY_SIZE, FormFiles
from app.web.http.idempotency import OnceByUpload

router = APIRouter(prefix="/files", tags=["openai"])

PURPOSE = "fine-tune"
STATUSES: dict[str, Literal["uploaded", "processed", "error"]] = {"read": "processed", "failed": "error"}
RESULT = re.compile(r"file-run-([0-9]{1,10})")
COLUMNS = {"step": "step", "loss": "train_loss", "learning_rate": "learning_rate", "grad_norm": "grad_norm"}
"""Of a result file: in Vezna and there."""
OF_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "purpose": {"type": "string", "enum": [PURPOSE]},
                        "file": {"type": "string", "format": "binary"},
                    },
                    "required": ["purpose", "file"],
                },
                "example": {"purpose": PURPOSE, "file": "conversations.jsonl"},
            }
        },
    }
}
FileId = Annotated[str, "Such as file-12."]


class FileObject(BaseModel):
    """A file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    """Seconds since 1970."""
    filename: str
    purpose: Literal["fine-tune", "fine-tune-results"]
    status: Literal["uploaded", "processed", "error"]
    """`processed` once a worker has read it."""
    status_details: str | None = None
    """Why it could not be read."""

    @classmethod
    def of(cls, row: UploadRow) -> Self:
        return cls(
            id=f"{FILE}{row.id}",
            bytes=row.bytes,
            created_at=int(row.created_at.timestamp()),
            filename=row.name,
            purpose="fine-tune",
            status=STATUSES.get(row.status, "uploaded"),
            status_details=row.message or None,
        )

    @classmethod
    def result(cls, run: RunRow, size: int) -> Self:
        """The step metrics of a run that has ended."""
        return cls(
            id=result_file(run.id),
            bytes=size,
            created_at=int((run.finished_at or run.queued_at).timestamp()),
            filename="step_metrics.csv",
            purpose="fine-tune-results",
            status="processed",
        )


class FileList(BaseModel):
    """Files, the newest first."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    has_more: bool
    first_id: str | None
    last_id: str | None


class DeletedFile(BaseModel):
    """A file that is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


@router.post(
    "",
    operation_id="openaiUploadFile",
    responses=openai_problems(400, 503),
    openapi_extra=OF_FORM,
    max_body_size=ANY_SIZE,
)
def upload_file(received: FormFiles, once: OnceByUpload, db: NewDb, bell: Bell, files: Store) -> FileObject:
    """Upload a file of conversations: JSONL whose lines have `messages`, or `prompt` and `completion`. It is an upload
    of `/api/v1/uploads` too; the same bytes again are the same file. Jobs on a file with `visibility=private`, their
    datasets and their runs are private too."""
    for name in received.fields:
        if name != "purpose":
            raise Invalid.field(name, _("Vezna has no such field of a file"), _("Leave it out; files do not expire"))
    if received.refused is None and received.fields.get("purpose") != PURPOSE:
        raise Invalid.field("purpose", _("Vezna has no use for files of this purpose"), _("Use the purpose fine-tune"))
    if len(received.digests) > 1:
        raise Invalid.field("file", _("Several files were sent"), _("Upload them one after the other"))
    stored = received.stored()
    with db.transaction() as session:
        return once.keep(session, FileObject.of(uploads.add_files(session, bell, files, stored)))


@router.get("", operation_id="openaiListFiles", responses=openai_problems(400, 404))
def list_files(
    session: Reading,
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    order: Literal["asc", "desc"] = "desc",
    purpose: str = "",
) -> FileList:
    """Uploaded files."""
    rows = [row for row in upload_rows.newest(session) if row.source == "files" and len(row.parts) == 1]
    if after:  # which may have been deleted meanwhile
        last = number_of(after)
        rows = [row for row in rows if (row.id < last if order == "desc" else row.id > last)]
    listed = [FileObject.of(row) for row in (rows if order == "desc" else rows[::-1])]
    listed = [file for file in listed if purpose in ("", file.purpose)]
    page, more = listed[:limit], len(listed) > limit
    return FileList(
        data=page, has_more=more, first_id=page[0].id if page else None, last_id=page[-1].id if page else None
    )


@router.get("/{file_id}", operation_id="openaiGetFile", responses=openai_problems(404))
def get_file(session: Reading, file_id: FileId) -> FileObject:
    """A file."""
    if run := _run_of(session, file_id):
        return FileObject.result(run, len(step_metrics(session, run.id)))
    return FileObject.of(upload_of(session, file_id))


@router.get(
    "/{file_id}/content",
    operation_id="openaiFileContent",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {}}}, **openai_problems(404)},
)
def content(session: Reading, files: Store, file_id: FileId) -> StreamingResponse:
    """The bytes of a file; of a job's result file, its step metrics as CSV."""
    pieces: Iterator[bytes]
    if run := _run_of(session, file_id):
        pieces = iter([step_metrics(session, run.id)])
    else:
        pieces = iter(files.chunks(upload_of(session, file_id).parts[0].file))
    return StreamingResponse(pieces, media_type="application/octet-stream")


@router.delete("/{file_id}", operation_id="openaiDeleteFile", responses=openai_problems(400, 404))
def delete_file(db: Db, files: Store, file_id: FileId) -> DeletedFile:
    """Delete an uploaded file, unless a dataset was made from it."""
    with db.transaction() as session:
        deletion.delete_upload(session, files, upload_of(session, file_id).id)
    return DeletedFile(id=file_id)


def result_file(run_id: int) -> str:
    """The id of a run's step metrics."""
    return f"file-run-{run_id}"


def step_metrics(session: Session, run_id: int) -> bytes:
    """CSV, a row for each optimizer step."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(COLUMNS.values())
    rows.writerows(zip(*(steps.read(session, run_id)[name].tolist() for name in COLUMNS), strict=True))
    return text.getvalue().encode()


def _run_of(session: Session, file_id: str) -> RunRow | None:
    """The run whose step metrics a file is; None for an uploaded file. Raises NotFound."""
    if (found := RESULT.fullmatch(file_id)) is None:
        return None
    run = runs.find(session, int(found[1]))
    if run is None or run.finished_at is None or run.collection_id is not None:
        raise NotFound(_("There is no file %(id)s.", id=file_id))
    return run
