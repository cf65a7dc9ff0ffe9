"""Archiving and deleting: a page that says what would go, with a form for each, which work without scripts."""

from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse

from app.domain.validation import Name
from app.services.ownership import deletion
from app.services.ownership.deletion import Deletion
from app.services.runs import archive
from app.services.runs.annotations import Owner
from app.store.data import queries as datasets
from app.store.data import uploads
from app.store.runs import queries as runs
from app.store.studies import collections
from app.store.studies import queries as studies
from app.web.http.dependencies import Db, Reading, RowId, Store
from app.web.templating import Render
from app.words.i18n import gettext as _

router = APIRouter(include_in_schema=False)

DELETE = {"runs": deletion.delete_run, "studies": deletion.delete_study, "imports": deletion.delete_collection}
TEMPLATE = "layouts/deletion.html"


@dataclass(frozen=True)
class DeletionPage:
    """Something that can be deleted, and archived unless `archived` is None."""

    section: str
    name: str
    address: str
    deletion: Deletion
    consequence: str = ""
    """What goes and what stays, for things that have no runs."""
    archived: bool | None = None
    study_id: int | None = None
    """The study with which a run is archived and deleted."""


@router.get("/runs/{run_id:int}/delete")
def confirm_run(session: Reading, render: Render, run_id: int) -> HTMLResponse:
    run, removed = runs.get(session, run_id), deletion.of_run(session, run_id)
    page = DeletionPage("runs", _("run %(id)s", id=run_id), f"/runs/{run_id}", removed, "", run.archived, run.study_id)
    return render.page(TEMPLATE, page)


@router.get("/studies/{study_id:int}/delete")
def confirm_study(session: Reading, render: Render, study_id: int) -> HTMLResponse:
    study, removed = studies.get(session, study_id), deletion.of_study(session, study_id)
    name = _("study %(id)s, %(name)s", id=study_id, name=study.name)
    return render.page(TEMPLATE, DeletionPage("studies", name, f"/studies/{study_id}", removed, "", study.archived))


@router.get("/imports/{collection_id:int}/delete")
def confirm_collection(session: Reading, render: Render, collection_id: int) -> HTMLResponse:
    name = _("collection %(name)s", name=collections.get(session, collection_id).name)
    removed = deletion.of_collection(session, collection_id)
    return render.page(TEMPLATE, DeletionPage("runs", name, f"/imports/{collection_id}", removed))


@router.get("/models/{name:path}/delete")
def confirm_model(session: Reading, render: Render, name: Name) -> HTMLResponse:
    """Whether a base model can be deleted."""
    title, removed = _("base model %(name)s", name=name), deletion.of_model(session, name)
    consequence = _("Removes it from Vezna for good. Its weights stay where the workers have them.")
    return render.page(TEMPLATE, DeletionPage("models", title, f"/models/{quote(name)}", removed, consequence))


@router.get("/data/{name}/delete")
def confirm_dataset(session: Reading, render: Render, name: str) -> HTMLResponse:
    """Whether a version of a dataset can be deleted."""
    row = datasets.find(session, name)
    title, removed = _("dataset %(name)s", name=row.reference), deletion.of_dataset(session, row)
    consequence = _("Removes its rows for good. The upload stays.")
    return render.page(TEMPLATE, DeletionPage("data", title, f"/data/{quote(row.reference)}", removed, consequence))


@router.get("/data/uploads/{upload_id:int}/delete")
def confirm_upload(session: Reading, render: Render, upload_id: RowId) -> HTMLResponse:
    removed = deletion.of_upload(session, upload_id)
    title = _("upload %(name)s", name=uploads.get(session, upload_id).shown_name)
    consequence = _("Removes its files for good.")
    return render.page(TEMPLATE, DeletionPage("data", title, f"/data/uploads/{upload_id}", removed, consequence))


@router.post("/models/{name:path}/delete")
def delete_model(db: Db, name: Name) -> RedirectResponse:
    with db.transaction() as session:
        deletion.delete_model(session, name)
    return RedirectResponse("/models", status_code=303)


@router.post("/data/{name}/delete")
def delete_dataset(db: Db, files: Store, name: str) -> RedirectResponse:
    """Delete a version of a dataset; then show what is left of the name."""
    with db.transaction() as session:
        row = datasets.find(session, name)
        deletion.delete_dataset(session, files, row.id)
        left = datasets.versions(session, row.name)
        return RedirectResponse(f"/data/{quote(left[0].reference)}" if left else "/data", status_code=303)


@router.post("/data/uploads/{upload_id:int}/delete")
def delete_upload(db: Db, files: Store, upload_id: RowId) -> RedirectResponse:
    with db.transaction() as session:
        deletion.delete_upload(session, files, upload_id)
    return RedirectResponse("/data", status_code=303)


@router.post("/{owner}/{owner_id:int}/archive")
def set_archived(db: Db, owner: Owner, owner_id: int, archived: Annotated[bool, Form()]) -> RedirectResponse:
    """Archive a run or a study, or bring it back."""
    with db.transaction() as session:
        change = archive.archive_run if owner == "runs" else archive.archive_study
        change(session, owner_id, archived)
    return RedirectResponse(f"/{owner}" if archived else f"/{owner}/{owner_id}", status_code=303)


@router.post("/{noun}/{row_id:int}/delete")
def delete(db: Db, files: Store, noun: Literal["runs", "studies", "imports"], row_id: int) -> RedirectResponse:
    """Delete a run, a study, or a collection with its imported runs; then show the list."""
    with db.transaction() as session:
        DELETE[noun](session, files, row_id)
    return RedirectResponse(f"/{noun}", status_code=303)
