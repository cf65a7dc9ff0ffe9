"""The model registry: every name, one name with its versions, and the form that registers an export."""

from collections.abc import Mapping
from dataclasses import replace

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.domain.errors import Conflict, Invalid
from app.domain.messages import _
from app.features.shipping.pages.registry_context import (
    PromotionForm,
    RegisteredModelPage,
    RegistrationPage,
    RegistryEntry,
    RegistryPage,
)
from app.features.shipping.queries import registry
from app.features.shipping.rules.registry import Promotion, Registration, RegistryName
from app.features.shipping.services import registry as service
from app.features.shipping.services.work import EXPORTS
from app.settings import Settings
from app.store.runs import queries as runs
from app.web.forms.errors import validated
from app.web.forms.once import OnceByForm
from app.web.forms.sent import SentForm
from app.web.http.dependencies import Config, Db, Reading, RowId, User
from app.web.http.errors import status_of
from app.web.templating import Render

router = APIRouter(include_in_schema=False)

SHOW, REGISTER = "shipping/registry/show.html", "shipping/registry/register.html"
EXPORT = "/runs/{run_id:int}/exports/{export_id:int}/register"


class _Named(BaseModel):
    """A name as it is typed."""

    name: RegistryName


@router.get("/registry")
def index(session: Reading, render: Render) -> HTMLResponse:
    """Every name."""
    rows = registry.all_of_them(session)
    versions = registry.versions(session, [row.id for row in rows])
    page = RegistryPage([RegistryEntry(row, [v for v in versions if v.model_id == row.id]) for row in rows])
    return render.page("shipping/registry/index.html", page)


@router.get("/registry/{name}")
def show(session: Reading, settings: Config, render: Render, name: str) -> HTMLResponse:
    """A name with its versions."""
    return render.page(SHOW, _model_page(session, settings, name))


@router.post("/registry/{name}")
def promote(
    db: Db,
    session: Reading,
    settings: Config,
    user: User,
    render: Render,
    once: OnceByForm,
    form: SentForm,
    name: str,
) -> Response:
    """Promote or retire a version; or the form again with its errors."""
    try:
        number = _number(form.get("version", ""))
        new = validated(Promotion, _values(form))
        with db.transaction() as writing:
            service.promote(writing, name, number, new, user.user_id)
            address = once.keep(writing, f"/registry/{name}")
    except (Invalid, Conflict) as error:
        once.raise_if_answered()
        page = replace(_model_page(session, settings, name), form=_typed(form), errors=error.at("version"))
        return render.page(SHOW, page, status=status_of(error))
    return RedirectResponse(address, status_code=303)


@router.get(EXPORT)
def form_of_export(session: Reading, render: Render, run_id: RowId, export_id: RowId) -> HTMLResponse:
    """The form that registers an export."""
    return render.page(REGISTER, _registration_page(session, run_id, export_id))


@router.post(EXPORT)
def register(
    db: Db,
    session: Reading,
    settings: Config,
    user: User,
    render: Render,
    once: OnceByForm,
    form: SentForm,
    run_id: RowId,
    export_id: RowId,
) -> Response:
    """Register an export; or the form again with its errors."""
    page = _registration_page(session, run_id, export_id)
    try:
        name = validated(_Named, {"name": form.get("name", "")}).name
        new = validated(Registration, {**_values(form), "export": export_id})
        with db.transaction() as writing:
            service.register(writing, settings, name, new, user.user_id)
            address = once.keep(writing, f"/registry/{name}")
    except (Invalid, Conflict) as error:
        once.raise_if_answered()
        page = replace(page, name=form.get("name", ""), form=_typed(form), errors=error.at("name"))
        return render.page(REGISTER, page, status=status_of(error))
    return RedirectResponse(address, status_code=303)


def _model_page(session: Session, settings: Settings, name: str) -> RegisteredModelPage:
    model = registry.get(session, name)
    address = f"{settings.url.rstrip('/')}/api/v1/registry/{name}/champion"
    versions = registry.versions(session, [model.id])
    present = runs.present(session, {version.run_id for version in versions})
    return RegisteredModelPage(model, versions, present, address)


def _registration_page(session: Session, run_id: int, export_id: int) -> RegistrationPage:
    export = EXPORTS.get(session, export_id, run_id)
    if export.gate is None:
        values = {"id": export_id, "status": export.status}
        raise Conflict(_("Export %(id)s is %(status)s. Register one that has succeeded.", **values))
    names = [row.name for row in registry.all_of_them(session)]
    return RegistrationPage(export, export.gate, names, registry.of_exports(session, [export_id]))


def _values(form: Mapping[str, str]) -> dict[str, str | None]:
    return {"stage": form.get("stage"), "reason": form.get("reason", ""), "revision": form.get("revision") or None}


def _typed(form: Mapping[str, str]) -> PromotionForm:
    return PromotionForm(form.get("version", ""), form.get("stage", ""), form.get("reason", ""))


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise Invalid.field("version", _("This is not a version"), _("Choose one of the list"))
    return int(text)
