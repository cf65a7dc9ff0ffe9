"""Arms of a study that is there: another one, and one that is to stop."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.domain.errors import FieldError, Invalid
from app.domain.methods import METHODS
from app.domain.studies import ArmSpec
from app.services import studies as study_service
from app.store.queries import base_models, datasets, studies
from app.web.added_arm import add_arm
from app.web.contexts.study_new_arm import StudyNewArm
from app.web.dependencies import Bell, Config, Db, Reading
from app.web.forms.arm import ArmForm
from app.web.forms.sentences import sentences
from app.web.forms.study import StudyForm
from app.web.templating import Render

router = APIRouter(prefix="/studies/{study_id:int}/arms", include_in_schema=False)

TEMPLATE = "pages/studies/arm.html"


async def typed(request: Request) -> tuple[ArmForm | None, bool]:
    """The arm that was typed, and whether it is to be queued though it fits no worker."""
    async with request.form(max_files=0, max_fields=200) as form:
        arms = StudyForm.typed(form).arms
        return (arms[0] if arms else None), form.get("insist") == "true"


Typed = Annotated[tuple[ArmForm | None, bool], Depends(typed)]


@router.get("/new")
def blank(session: Reading, render: Render, study_id: int, method: Annotated[str, Query()] = "") -> HTMLResponse:
    """The methods to choose from, or the form of one with its defaults."""
    return render.page(TEMPLATE, _page(session, study_id, method if method in METHODS else ""))


@router.post("")
def add(db: Db, bell: Bell, settings: Config, session: Reading, render: Render, study_id: int, sent: Typed) -> Response:
    """Add it, or show the form again with what is wrong at its fields."""
    form, insists = sent
    if form is None:
        return RedirectResponse(f"/studies/{study_id}/arms/new", status_code=303)
    try:
        add_arm(db, bell, settings, study_id, _spec(form), insist=insists)
    except Invalid as error:
        errors = error.fields or (FieldError("", error.message),)
        page = _page(session, study_id, form.kind, form, errors, insists=insists)
        return render.page(TEMPLATE, page, status=422)
    return RedirectResponse(f"/studies/{study_id}", status_code=303)


@router.post("/stop")
def stop(db: Db, bell: Bell, study_id: int, arm: Annotated[str, Form(max_length=100)]) -> RedirectResponse:
    """Cancel what an arm still has to do."""
    with db.transaction() as session:
        study_service.stop_arm(session, bell, study_id, arm)
    return RedirectResponse(f"/studies/{study_id}#arms", status_code=303)


def _spec(form: ArmForm) -> ArmSpec:
    """Raises Invalid with an error for each field that is wrong."""
    try:
        return ArmSpec.model_validate(form.body())
    except ValidationError as error:
        fields = sentences(error.errors())
        raise Invalid("; ".join(field.message for field in fields), fields) from None


def _page(
    session: Session,
    study_id: int,
    kind: str,
    form: ArmForm | None = None,
    errors: tuple[FieldError, ...] = (),
    *,
    insists: bool = False,
) -> StudyNewArm:
    study = studies.get(session, study_id)
    model, dataset = base_models.by_id(session, study.base_model_id), datasets.by_id(session, study.dataset_id)
    return StudyNewArm.of(study_id, study.spec, model, dataset, kind, form, errors=errors, insists=insists)
