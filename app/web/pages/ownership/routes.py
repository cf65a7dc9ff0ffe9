"""The form by which an owner changes who sees an object, and to whom it belongs."""

from urllib.parse import quote

from fastapi import APIRouter
from fastapi.responses import RedirectResponse

from app.services.data import baselines
from app.services.ownership import ownership
from app.services.ownership.ownership import Kind, OwnershipChange
from app.web.forms.errors import validated
from app.web.forms.sent import SentForm
from app.web.http.dependencies import Bell, Db

router = APIRouter(include_in_schema=False)

PAGES: dict[Kind, str] = {"models": "/models/", "datasets": "/data/", "uploads": "/data/uploads/"}
"""The addresses of pages that are not those of the kind."""


@router.post("/ownership/{kind}/{key:path}")
def change(db: Db, bell: Bell, kind: Kind, key: str, form: SentForm) -> RedirectResponse:
    """Change it, and show the object again; or the lists, if it was given away and is no longer visible."""
    sent = {name: form[name].strip() for name in ("visibility", "owner") if form.get(name, "").strip()}
    with db.transaction() as session:
        changes = validated(OwnershipChange, sent)
        changed = ownership.change(session, kind, key, changes)
        baselines.of_new_owner(session, bell, changes.owner)
    page = "/imports" if kind == "collections" else PAGES.get(kind, f"/{kind}/") + quote(key)
    hidden = changed.visibility == "private" and not changed.may_change
    return RedirectResponse("/studies" if hidden else page, 303)
