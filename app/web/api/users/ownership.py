"""Owner and visibility over REST: of a study, run, collection, dataset, base model or upload."""

from typing import Annotated

from fastapi import APIRouter, Body, Path

from app.services.data import baselines
from app.services.ownership import ownership
from app.services.ownership.ownership import Kind, Ownership, OwnershipChange
from app.web.http.dependencies import Bell, Db, Reading
from app.web.http.errors import problems

router = APIRouter(prefix="/ownership/{kind}/{key:path}", tags=["ownership"])
Key = Annotated[str, Path(max_length=200, description="An id, or the name of a dataset or base model.")]


@router.get("", operation_id="getOwnership", responses=problems(404))
def get(session: Reading, kind: Kind, key: Key) -> Ownership:
    """Who owns an object, and who sees it."""
    return ownership.of(session, kind, key)


@router.patch("", operation_id="changeOwnership", responses=problems(404, 409, 422))
def change(db: Db, bell: Bell, kind: Kind, key: Key, changes: Annotated[OwnershipChange, Body()]) -> Ownership:
    """Change the visibility of an object or transfer it to another user, with what belongs to it: a study with its
    runs, a dataset with its versions and uploads. Only its owner and admins may. 409 if something that others see uses
    it, or if it uses something private."""
    with db.transaction() as session:
        changed = ownership.change(session, kind, key, changes)
        baselines.of_new_owner(session, bell, changes.owner)
        return changed
