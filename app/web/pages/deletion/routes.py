"""Archiving and deleting: a page that says what would go, with a form for each, which work without scripts."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse

from app.domain.names import Name
from app.services import archive, deletion
from app.services.annotations import Owner
from app.services.deletion import Deletion
from app.store.queries import collections, runs, studies
from app.web.http.dependencies import Db, Reading, Store
from app.web.i18n import gettext as _
from app.web.templating import Render

router = APIRouter(include_in_schema=False)

LISTS: dict[Owner, str] = {"runs": "/runs", "studies": "/studies"}
TEMPLATE = "deletion/show.html"


@dataclass(frozen=True)
class DeletionPage:
    """Something that can be deleted, and archived unless `archived` is None."""

    section: str
    name: str
    address: str
    deletion: Deletion
    archived: bool | None = None
    study_id: int | None = None
    """The study with which a run is archived and deleted."""


@router.get("/runs/{run_id:int}/delete")
def confirm_run(session: Reading, render: Render, run_id: int) -> HTMLResponse:
    """What deleting a run would remove."""
    run = runs.get(session, run_id)
    name = _("run %(id)s", id=run_id)
    found = deletion.of_run(session, run_id)
    return render.page(
        TEMPLATE, DeletionPage("runs", name, f"/runs/{run_id}", found, archived=run.archived, study_id=run.study_id)
    )


@router.get("/studies/{study_id:int}/delete")
def confirm_study(session: Reading, render: Render, study_id: int) -> HTMLResponse:
    """What deleting a study would remove."""
    study = studies.get(session, study_id)
    name = _("study %(id)s, %(name)s", id=study_id, name=study.name)
    found = deletion.of_study(session, study_id)
    return render.page(TEMPLATE, DeletionPage("studies", name, f"/studies/{study_id}", found, archived=study.archived))


@router.get("/imports/{collection_id:int}/delete")
def confirm_collection(session: Reading, render: Render, collection_id: int) -> HTMLResponse:
    """What deleting a collection would remove."""
    collection = collections.get(session, collection_id)
    name = _("collection %(name)s", name=collection.name)
    found = deletion.of_collection(session, collection_id)
    return render.page(TEMPLATE, DeletionPage("runs", name, f"/imports/{collection_id}", found))


@router.get("/models/{name:path}/delete")
def confirm_model(session: Reading, render: Render, name: Name) -> HTMLResponse:
    """Whether a base model can be deleted."""
    found = deletion.of_model(session, name)
    title = _("base model %(name)s", name=name)
    return render.page(TEMPLATE, DeletionPage("models", title, f"/models/{quote(name)}", found))


@router.post("/imports/{collection_id:int}/delete")
def delete_collection(db: Db, files: Store, collection_id: int) -> RedirectResponse:
    """Delete a collection with its imported runs."""
    with db.transaction() as session:
        deletion.delete_collection(session, files, collection_id)
    return RedirectResponse("/imports", status_code=303)


@router.post("/models/{name:path}/delete")
def delete_model(db: Db, name: Name) -> RedirectResponse:
    """Delete a base model."""
    with db.transaction() as session:
        deletion.delete_model(session, name)
    return RedirectResponse("/models", status_code=303)


@router.post("/{owner}/{owner_id:int}/archive")
def set_archived(db: Db, owner: Owner, owner_id: int, archived: Annotated[bool, Form()]) -> RedirectResponse:
    """Archive a run or a study, or bring it back."""
    with db.transaction() as session:
        if owner == "runs":
            archive.archive_run(session, owner_id, archived)
        else:
            archive.archive_study(session, owner_id, archived)
    return RedirectResponse(LISTS[owner] if archived else f"/{owner}/{owner_id}", status_code=303)


@router.post("/{owner}/{owner_id:int}/delete")
def delete(db: Db, files: Store, owner: Owner, owner_id: int) -> RedirectResponse:
    """Delete a run or a study."""
    with db.transaction() as session:
        if owner == "runs":
            deletion.delete_run(session, files, owner_id)
        else:
            deletion.delete_study(session, files, owner_id)
    return RedirectResponse(LISTS[owner], status_code=303)
