"""Planning a study: the form, what it would take, and its submission. Without scripts it is a plain form."""

from dataclasses import replace
from functools import partial
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.errors import FieldError, Invalid
from app.services import studies as study_service
from app.store.queries import studies
from app.web.contexts.new_arm import NewArm, new_arm, offers
from app.web.contexts.new_study import NewStudyPage
from app.web.dependencies import Bell, Db, Reading
from app.web.forms.study import StudyForm
from app.web.plan import plan
from app.web.refusals import told
from app.web.registered import Registered
from app.web.specs import as_yaml
from app.web.templating import Render

router = APIRouter(include_in_schema=False)

TEMPLATE = "pages/studies/new.html"
FOCUS = {"seeds": "seeds", "margin": "margin_points", "remove": "add"}
"""Where an edit leaves the keyboard: at the field that it changed, or where an arm would be added again."""


class Sent(NamedTuple):
    """A sent form."""

    form: StudyForm
    action: str
    """Of the button that sent it."""


async def typed(request: Request) -> Sent:
    """What was typed."""
    async with request.form(max_files=0, max_fields=2000) as form:
        return Sent(StudyForm.typed(form), str(form.get("do", ""))[:100])


Typed = Annotated[Sent, Depends(typed)]


@router.get("/studies/new")
def blank(session: Reading, render: Render, from_study: Annotated[int | None, Query(ge=1)] = None) -> HTMLResponse:
    """The form, prefilled with each method's defaults or with an earlier study."""
    known = Registered.of(session)
    form = known.first_form() if from_study is None else StudyForm.of(studies.get(session, from_study).spec)
    return render.page(TEMPLATE, _page(session, known, form))


@router.post("/studies/new")
def edit(session: Reading, render: Render, sent: Typed) -> HTMLResponse:
    """The form with an arm more or less, with what it would take worked out, or as YAML."""
    known = Registered.of(session)
    form = sent.form.edited(sent.action, partial(new_arm, model=known.task_model(known.settled(sent.form))))
    page = replace(_page(session, known, form), focus=FOCUS.get(sent.action.partition(":")[0], ""))
    if sent.action == "yaml" and page.plan.errors:
        page = _page(session, known, form, page.plan.errors)
    elif sent.action == "yaml" and page.plan.spec is not None:
        page = replace(page, yaml=as_yaml(page.plan.spec))
    return render.page(TEMPLATE, page)


@router.post("/studies/plan")
def estimate(session: Reading, render: Render, sent: Typed) -> HTMLResponse:
    """What it would take, for a form that is being filled in."""
    return render.page("partials/new_study/plan.html", _page(session, Registered.of(session), sent.form))


@router.post("/studies")
def submit(db: Db, bell: Bell, session: Reading, render: Render, sent: Typed) -> Response:
    """Start the study, or show the form again with what is wrong at its fields."""
    known = Registered.of(session)
    try:
        spec = known.settled(sent.form).spec()
        with db.transaction() as writing:
            study = study_service.submit(writing, bell, spec)
    except Invalid as error:
        errors = error.fields or (FieldError("", error.message),)
        return render.page(TEMPLATE, _page(session, known, sent.form, errors), status=422)
    return RedirectResponse(f"/studies/{study.id}", status_code=303)


def _page(
    session: Session, known: Registered, typed_form: StudyForm, errors: tuple[FieldError, ...] = ()
) -> NewStudyPage:
    form = known.settled(typed_form)
    model = known.task_model(form)
    budget = {"weight_decay": form.budget_value("weight_decay")}
    page = NewStudyPage(
        form=form,
        models=known.models,
        data=known.data,
        task=known.step(form),
        arms=(),
        offers=offers(model),
        plan=plan(session, form),
        errors=tuple(map(told, errors)),
    )
    return replace(
        page,
        arms=tuple(NewArm.of(place, arm, model, budget, page.errors_of) for place, arm in enumerate(form.arms)),
    )
