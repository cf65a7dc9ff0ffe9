"""Datasets over HTTP: make a version of an upload, list, get, see as a model would, delete."""

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from app.domain.data.dataset import DatasetFacts
from app.domain.data.findings import Finding
from app.domain.data.mapping import ColumnMapping
from app.domain.data.splitting import Splitting
from app.domain.data.versions import DatasetRequest, DatasetState, reference_in
from app.domain.errors import Conflict, NotFound
from app.domain.messages import _
from app.domain.names import Name
from app.services import datasets as dataset_service
from app.store.queries import datasets
from app.store.tables import DatasetRow
from app.web.api.examples import DATASET
from app.web.http.dependencies import Bell, Db, Reading, Store
from app.web.http.errors import problems
from app.web.http.waiting import Wait, ended
from app.web.text.findings import in_words, why_none

router = APIRouter(prefix="/datasets", tags=["datasets"])


class DatasetListed(BaseModel):
    """A version of a dataset in a list."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    version: int
    reference: str
    """`NAME@VERSION`, by which a spec names just this one; `NAME` alone is the newest that is ready."""
    title: str
    status: DatasetState
    message: str
    """Why it is blocked, or failed."""
    progress: float
    facts: DatasetFacts | None
    """Of one that is ready."""
    created_at: datetime

    @classmethod
    def of(cls, row: DatasetRow) -> Self:
        """From the store."""
        kept = {name: getattr(row, name) for name in cls.model_fields if name != "facts" and hasattr(row, name)}
        facts = row.facts if row.status == "ready" else None
        return cls.model_validate(kept | {"facts": facts, "message": why_none(row.message, row.blocked_by)})


class DatasetOut(DatasetListed):
    """A version of a dataset: where it came from, what it holds, what was found in it."""

    upload_id: int | None
    """None of rows that a program has made."""
    mapping: ColumnMapping | None
    splitting: Splitting | None
    findings: list[Finding]
    """The gravest first."""
    runs: int = 0
    studies: int = 0
    """That use it."""

    @classmethod
    def whole(cls, session: Session, row: DatasetRow) -> Self:
        """From the store, with what uses it."""
        uses = datasets.used_by(session, row.id)
        findings = [in_words(finding) for finding in row.findings]
        return cls.of(row).model_copy(update={"findings": findings, "runs": uses.runs, "studies": uses.studies})


@router.post("", status_code=202, operation_id="makeDataset", responses=problems(404, 409, 422))
def make_dataset(db: Db, bell: Bell, wanted: Annotated[DatasetRequest, Body(openapi_examples=DATASET)]) -> DatasetOut:
    """Have a worker make a dataset of an upload, or its next version. The same request twice is the same version."""
    with db.transaction() as session:
        return DatasetOut.whole(session, dataset_service.prepare(session, bell, wanted))


@router.get("", operation_id="listDatasets")
def list_datasets(session: Reading) -> list[DatasetListed]:
    """Every version of every dataset, by name, the newest version first."""
    return [DatasetListed.of(row) for row in datasets.all_versions(session)]


@router.get("/{name}", operation_id="getDataset", responses=problems(404, 422))
async def get_dataset(db: Db, name: Name, wait: Wait = 0) -> DatasetOut:
    """A version of a dataset, `NAME@2`, or the newest of a name: its labels, its splits, its findings."""
    return await ended(
        db, lambda s: DatasetOut.whole(s, find(s, name)), lambda found: found.status == "preparing", wait
    )


@router.delete("/{name}", status_code=204, operation_id="deleteDataset", responses=problems(404, 409, 422))
def delete_dataset(db: Db, files: Store, name: Name) -> None:
    """Delete a version of a dataset; 409 while runs or studies use it, or if a name alone has several."""
    with db.transaction() as session:
        row = find(session, name)
        others = len(datasets.versions(session, row.name))
        if reference_in(name).version is None and others > 1:
            raise Conflict(
                _(
                    "%(name)s has %(others)s versions. Name one, such as %(reference)s.",
                    name=name,
                    others=others,
                    reference=row.reference,
                )
            )
        dataset_service.delete(session, files, row.id)


def find(session: Session, name: str) -> DatasetRow:
    """The version that is named; of a name alone the newest that is ready, or the newest. Raises NotFound."""
    wanted = reference_in(name)
    versions = datasets.versions(session, wanted.name)
    if wanted.version is None:
        ready = (row for row in versions if row.status == "ready")
        found = next(ready, versions[0] if versions else None)
    else:
        found = next((row for row in versions if row.version == wanted.version), None)
    if found is None:
        raise NotFound(_("There is no dataset %(name)r", name=name))
    return found
