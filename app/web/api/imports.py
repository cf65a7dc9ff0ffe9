"""Results from elsewhere over HTTP: bring them in, and see which collections there are."""

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field

from app.domain.imports.files import MOST_FILES, NamedText, Refused
from app.domain.imports.result import ImportedResult
from app.domain.names import Name
from app.services import deletion, imports
from app.services.deletion import Deletion
from app.services.imports import DEFAULT_COLLECTION, Imported
from app.store.queries import collections
from app.store.queries.collections import Stock
from app.web.api.examples import IMPORT
from app.web.http.dependencies import Db, Reading, Store
from app.web.http.errors import problems

router = APIRouter(tags=["imports"])

MOST_IMPORT_BYTES = 16 << 20
"""Of one request."""
CollectionName = Annotated[Name, Field(max_length=120)]


class FileIn(BaseModel):
    """A file of results: our own JSON, or a result file of PEFT's method comparison."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=4096)
    """For messages only; nothing is opened by it."""
    text: str


class ImportIn(BaseModel):
    """Results to bring in: as they are, or as the text of files."""

    model_config = ConfigDict(extra="forbid")

    collection: CollectionName = DEFAULT_COLLECTION
    """The name under which they lie together."""
    results: list[ImportedResult] = Field(default=[], max_length=MOST_FILES)
    files: list[FileIn] = Field(default=[])


class RefusedFile(BaseModel):
    """A file of which nothing was taken."""

    file: str
    place: int
    """Among the request's files, from 0."""
    errors: list[dict[str, str]]
    """`path`, `message` and `remedy` of each thing that is wrong."""

    @classmethod
    def of(cls, found: Refused) -> Self:
        """From the domain."""
        errors = [{"path": e.path, "message": e.message, "remedy": e.remedy} for e in found.errors]
        return cls(file=found.file, place=found.place, errors=errors)


class ImportOut(BaseModel):
    """What became of them."""

    collection: str | None
    """None where no file could be taken, so that there is none."""
    collection_id: int | None
    added: list[int]
    """The new runs."""
    known: list[int]
    """Runs that were there already: the same results brought again."""
    refused: list[RefusedFile]

    @classmethod
    def of(cls, found: Imported) -> Self:
        """From the service."""
        return cls(
            collection=found.collection.name if found.collection else None,
            collection_id=found.collection.id if found.collection else None,
            added=found.added,
            known=found.known,
            refused=[RefusedFile.of(one) for one in found.refused],
        )


class CollectionOut(BaseModel):
    """Results that lie together."""

    id: int
    name: str
    runs: int
    created_at: datetime

    @classmethod
    def of(cls, found: Stock) -> Self:
        """From the store."""
        return cls(id=found.row.id, name=found.row.name, runs=found.runs, created_at=found.row.created_at)


@router.post(
    "/imports",
    status_code=201,
    operation_id="importResults",
    responses=problems(422),
    max_body_size=MOST_IMPORT_BYTES,
)
def bring_in(db: Db, body: Annotated[ImportIn, Body(openapi_examples=IMPORT)]) -> ImportOut:
    """Bring results from elsewhere in, as runs marked as imported. A file is taken whole or not at all, and a result
    that its collection has already is not added again. What could not be taken is in `refused`, and why."""
    files = imports.look_at([NamedText(file.name, file.text) for file in body.files], body.results)
    with db.transaction() as session:
        return ImportOut.of(imports.bring_in(session, files, body.collection))


@router.get("/collections/{collection_id}/deletion", operation_id="previewCollectionDeletion", responses=problems(404))
def preview_deletion(session: Reading, collection_id: int) -> Deletion:
    """What deleting a collection would remove."""
    return deletion.of_collection(session, collection_id)


@router.delete(
    "/collections/{collection_id}", status_code=204, operation_id="deleteCollection", responses=problems(404)
)
def delete_collection(db: Db, files: Store, collection_id: int) -> None:
    """Delete a collection with its imported runs, for good."""
    with db.transaction() as session:
        deletion.delete_collection(session, files, collection_id)


@router.get("/collections", operation_id="listCollections")
def listing(session: Reading) -> list[CollectionOut]:
    """Every collection of imported results, newest first."""
    return [CollectionOut.of(stock) for stock in collections.everyone(session)]
