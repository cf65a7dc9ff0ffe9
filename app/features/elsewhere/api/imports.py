"""Imported results over REST: import them, list and delete collections."""

from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field

from app.domain.imports.result import ImportedResult
from app.features.elsewhere.api.examples import IMPORT
from app.features.elsewhere.rules import MOST_FILES, NamedText
from app.features.elsewhere.services import imports
from app.features.elsewhere.services.imports import DEFAULT_COLLECTION, MOST_IMPORT_BYTES, CollectionName, ImportReport
from app.services.ownership import deletion
from app.services.ownership.deletion import Deletion
from app.store.studies import collections
from app.store.studies.collections import CollectionSummary
from app.web.http.dependencies import Db, NewDb, Reading, Store
from app.web.http.errors import problems
from app.web.http.idempotency import OnceByHeader

router = APIRouter(tags=["imports"])


class FileIn(BaseModel):
    """A file of results: Vezna's own JSON, or a result file of PEFT's method comparison."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=4096)
    """Used in messages only."""
    text: str


class ImportIn(BaseModel):
    """Results to import: as objects, or as the text of files."""

    model_config = ConfigDict(extra="forbid")

    collection: CollectionName = DEFAULT_COLLECTION
    """Created if it does not exist."""
    results: list[ImportedResult] = Field(default=[], max_length=MOST_FILES)
    files: list[FileIn] = Field(default=[])


@router.post(
    "/imports",
    status_code=201,
    operation_id="importResults",
    responses=problems(409, 422),
    max_body_size=MOST_IMPORT_BYTES,
)
def import_results(
    db: NewDb, once: OnceByHeader, body: Annotated[ImportIn, Body(openapi_examples=IMPORT)]
) -> ImportReport:
    """Import results that were measured elsewhere, as runs marked as imported. A file is imported completely or not at
    all; `refused` says why not. A result that the collection already has is not added again."""
    files = imports.read_files([NamedText(file.name, file.text) for file in body.files], body.results)
    with db.transaction() as session:
        return once.keep(session, imports.add_results(session, files, body.collection))


@router.get("/collections/{collection_id}/deletion", operation_id="previewCollectionDeletion", responses=problems(404))
def preview_deletion(session: Reading, collection_id: int) -> Deletion:
    """What deleting a collection would remove."""
    return deletion.of_collection(session, collection_id)


@router.delete(
    "/collections/{collection_id}", status_code=204, operation_id="deleteCollection", responses=problems(404)
)
def delete_collection(db: Db, files: Store, collection_id: int) -> None:
    """Permanently delete a collection with its imported runs."""
    with db.transaction() as session:
        deletion.delete_collection(session, files, collection_id)


@router.get("/collections", operation_id="listCollections")
def list_collections(session: Reading) -> list[CollectionSummary]:
    """Every collection of imported results, newest first."""
    return collections.everyone(session)
