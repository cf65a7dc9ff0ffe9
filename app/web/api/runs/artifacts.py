"""Artifacts over REST: the files of a run."""

from urllib.parse import quote

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict

from app.domain.accounts.audit import Action
from app.domain.runs.result import ArtifactFile
from app.services.users import audit
from app.store.runs import artifacts
from app.store.runs import queries as runs
from app.store.tables import ArtifactRow
from app.web.http.dependencies import Db, Reading, Store
from app.web.http.errors import problems

router = APIRouter(tags=["artifacts"])


class ArtifactOut(ArtifactFile):
    """A file of a run."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    run_id: int


@router.get(
    "/runs/{run_id}/artifacts", operation_id="listArtifacts", responses=problems(404), response_model=list[ArtifactOut]
)
def listing(session: Reading, run_id: int) -> list[ArtifactRow]:
    """The files of a run: adapter or model, predictions, metrics."""
    runs.get(session, run_id)
    return artifacts.of_run(session, run_id)


@router.get("/artifacts/{artifact_id}", operation_id="getArtifact", responses=problems(404), response_model=ArtifactOut)
def get(session: Reading, artifact_id: int) -> ArtifactRow:
    """An artifact's name, size and hash."""
    return artifacts.get(session, artifact_id)


@router.get(
    "/artifacts/{artifact_id}/content",
    operation_id="downloadArtifact",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {}}}, **problems(404)},
)
def content(db: Db, files: Store, artifact_id: int) -> StreamingResponse:
    """An artifact's bytes."""
    with db.transaction() as session:
        row = artifacts.get(session, artifact_id)
        audit.record(session, Action.DOWNLOAD_ARTIFACT, artifact_id, run=row.run_id, name=row.name)
    name = f"run-{row.run_id}-{row.name.replace('/', '-')}"
    return StreamingResponse(
        files.chunks(row.file),
        media_type="application/octet-stream",
        headers={
            "content-length": str(row.bytes),
            "content-disposition": f"attachment; filename*=UTF-8''{quote(name)}",
            "etag": f'"{row.sha256}"',
        },
    )
