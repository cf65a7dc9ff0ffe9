"""Notes and tags of a run or a study: a form of its own, which takes their place on its page where htmx is there."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.domain.runs.annotations import Annotation, tags_in
from app.services import annotations
from app.store.queries import runs, studies, tags
from app.web.http.dependencies import Db, Reading
from app.web.http.errors import field_errors
from app.web.notes import NotesPage, Owner, Written
from app.web.templating import Render

router = APIRouter(prefix="/{owner}/{owner_id:int}/notes", include_in_schema=False)


@router.get("")
def edit(session: Reading, render: Render, owner: Owner, owner_id: int) -> Response:
    """The form with what is there."""
    written = _written(session, owner, owner_id)
    return render.page("notes/edit.html", NotesPage(written, ", ".join(written.tags)))


@router.post("")
def save(
    request: Request,
    db: Db,
    session: Reading,
    render: Render,
    owner: Owner,
    owner_id: int,
    note: Annotated[str, Form()] = "",
    tags: Annotated[str, Form()] = "",
) -> Response:
    """Keep them; or the form again, with what was typed and what is wrong with it."""
    note = note.replace("\r\n", "\n")
    try:
        said = Annotation(note=note, tags=tags_in(tags))
    except ValidationError as error:
        written = _written(session, owner, owner_id)
        typed = NotesPage(Written(owner, owner_id, note, written.tags), tags, list(field_errors(error.errors())))
        # htmx shows what an answer of 200 has; who has no scripts is told by the status too
        return render.page("notes/edit.html", typed, status=200 if "hx-request" in request.headers else 422)
    with db.transaction() as writing:
        if owner == "runs":
            annotations.annotate_run(writing, owner_id, said)
        else:
            annotations.annotate_study(writing, owner_id, said)
    return RedirectResponse(f"/{owner}/{owner_id}#notes", status_code=303)


def _written(session: Session, owner: Owner, owner_id: int) -> Written:
    if owner == "runs":
        note, own = runs.get(session, owner_id).note, tags.of_runs(session, [owner_id])
    else:
        note, own = studies.get(session, owner_id).note, tags.of_studies(session, [owner_id])
    return Written(owner, owner_id, note, tuple(own.get(owner_id, ())))
