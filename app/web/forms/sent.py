"""Reading a form without files, and the token that every form has."""

from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import Depends, Request

from app.domain.accounts.ownership import Visibility
from app.domain.errors import Invalid
from app.domain.messages import _
from app.store.database.session import Database
from app.web.http import csrf
from app.web.http.middleware.gate import UPLOADS
from app.web.http.middleware.security import SAFE_METHODS

MOST_FIELDS = 2000
MAX_TEXT = 500
"""Characters of a field that a person types into."""


async def sent_form(request: Request) -> dict[str, str]:
    """The text of every field, as it came. Of a name that occurs twice, as that of a ticked box does, the last."""
    async with request.form(max_files=0, max_fields=MOST_FIELDS) as form:
        return {name: value for name, value in form.multi_items() if isinstance(value, str) and name != csrf.FIELD}


async def from_own_page(request: Request) -> None:
    """A dependency of every page's route: what changes something has a token. Raises Forbidden. The form of an upload
    is checked as it arrives, before its first file (`app.web.http.files.uploads`)."""
    if request.method in SAFE_METHODS or UPLOADS.fullmatch(request.url.path):
        return
    if csrf.HEADER in request.headers:
        csrf.check(request)
        return
    sent = (await request.form(max_files=0, max_fields=MOST_FIELDS)).get(csrf.FIELD)
    csrf.check(request, sent if isinstance(sent, str) else None)


PRIVATE = "private"
"""The box of a form that creates something: only its owner is to see it."""


def creating(db: Database, form: Mapping[str, str]) -> Database:
    """The database, with the visibility that a form asks for."""
    return db.creating(Visibility.PRIVATE if form.get(PRIVATE) == "true" else Visibility.TEAM)


SentForm = Annotated[dict[str, str], Depends(sent_form)]


def source_of(location: str) -> Literal["directory", "hub"]:
    """Where a typed location lies. Raises Invalid for none."""
    if not location:
        raise Invalid.field("location", _("The source is missing"), _("Enter a hub id or a directory"))
    return "directory" if location.startswith(("/", "~", ".")) else "hub"
