"""Notes and tags of a run or a study: a form of its own, which htmx swaps in for the section on their page."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError

from app.domain.errors import FieldError
from app.domain.runs.listing.annotations import MAX_NOTE_LENGTH, MAX_TAGS, Annotation, split_tags
from app.services.runs import annotations
from app.services.runs.annotations import Notes, Owner
from app.web.http.dependencies import Db, Reading
from app.web.http.errors import field_errors
from app.web.templating import Render
from app.words.i18n import gettext as _

router = APIRouter(prefix="/{owner}/{owner_id:int}/notes", include_in_schema=False)


@dataclass(frozen=True)
class NotesPage:
    """The form, with what was typed and what is wrong with it."""

    notes: Notes
    tags: str
    """As typed, separated by commas."""
    errors: Sequence[FieldError] = ()
    max_length: int = MAX_NOTE_LENGTH
    max_tags: int = MAX_TAGS

    @property
    def title(self) -> str:
        if self.notes.owner == "runs":
            return _("Notes on run %(id)s", id=self.notes.id)
        return _("Notes on study %(id)s", id=self.notes.id)

    def errors_of(self, field: str) -> list[FieldError]:
        """What is wrong with the note, or with the tags."""
        return [error for error in self.errors if error.path.partition(".")[0] == field]


@router.get("")
def edit(session: Reading, render: Render, owner: Owner, owner_id: int) -> Response:
    """The form with the current note and tags."""
    notes = annotations.notes_of(session, owner, owner_id)
    return render.page("notes/edit.html", NotesPage(notes, ", ".join(notes.tags)))


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
    """Save both, or show the form again with what was typed and what is wrong with it."""
    note = note.replace("\r\n", "\n")
    try:
        changes = Annotation(note=note, tags=split_tags(tags))
    except ValidationError as error:
        notes = replace(annotations.notes_of(session, owner, owner_id), note=note)
        page = NotesPage(notes, tags, field_errors(error.errors()))
        # htmx swaps in answers with status 200 only; a browser without scripts gets the right status
        return render.page("notes/edit.html", page, status=200 if "hx-request" in request.headers else 422)
    with db.transaction() as writing:
        if owner == "runs":
            annotations.annotate_run(writing, owner_id, changes)
        else:
            annotations.annotate_study(writing, owner_id, changes)
    return RedirectResponse(f"/{owner}/{owner_id}#notes", status_code=303)
