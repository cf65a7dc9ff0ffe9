"""Planning a study: the form, what it would take, and its submission. Without scripts it is a plain form."""

from dataclasses import replace
from functools import partial
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.errors import Invalid
from app.domain.studies.arm_tuning import trying
from app.domain.studies.spec import StudySpec
from app.services import studies as study_service
from app.services import submission
from app.services.compatibility import Compatible
from app.store.queries import runs, studies
from app.web.http.dependencies import Bell, Config, Db, Reading, RowId
from app.web.i18n import gettext as _
from app.web.pages.new_study.arm import new_arm
from app.web.pages.new_study.desk import Desk
from app.web.pages.new_study.form import StudyForm
from app.web.pages.new_study.refusal import at_the_box
from app.web.pages.new_study.registered import Registered
from app.web.pages.new_study.tuning import FURTHER
from app.web.specs import as_yaml
from app.web.templating import Render

router = APIRouter(include_in_schema=False)

TEMPLATE = "new_study/show.html"
FOCUS = {"seeds": "seeds", "margin": "margin_points", "remove": "add", "set": "plan"}
"""Where an edit leaves the keyboard: at the field that it changed, where an arm would be added again, or at what it
would take now."""
LONGEST_ACTION = 5000


class Sent(NamedTuple):
    """A sent form."""

    form: StudyForm
    action: str
    """Of the button that sent it."""
    insists: bool
    """The study is to be queued though it fits no worker."""
    seen: str
    """Name of the estimate that the page shows, where it looks again."""


async def typed(request: Request) -> Sent:
    """What was typed."""
    async with request.form(max_files=0, max_fields=2000) as form:
        action, seen = str(form.get("do", ""))[:LONGEST_ACTION], str(form.get("seen", ""))[:100]
        return Sent(StudyForm.typed(form), action, form.get("insist") == "true", seen)


Typed = Annotated[Sent, Depends(typed)]


def desk(db: Db, bell: Bell, settings: Config, session: Reading) -> Desk:
    """The dependency behind `At`."""
    return Desk(db, bell, settings, session, Registered.of(session))


At = Annotated[Desk, Depends(desk)]


@router.get("/studies/new")
def blank(
    at: At,
    render: Render,
    from_study: Annotated[RowId | None, Query()] = None,
    from_run: Annotated[RowId | None, Query()] = None,
    rates: Annotated[str, Query(max_length=20)] = "",
    take: Annotated[str, Query(alias="set", max_length=LONGEST_ACTION)] = "",
    dataset: Annotated[str, Query(max_length=LONGEST_ACTION)] = "",
    base_model: Annotated[str, Query(max_length=200)] = "",
    task: Annotated[str, Query(max_length=40)] = "",
) -> HTMLResponse:
    """The form, prefilled with each method's defaults on some dataset or base model, with a method, with an earlier
    study (with `rates=further` its arms look further where their best rate is at an end), or with a run and a way out
    for it."""
    if from_run is not None:
        return render.page(TEMPLATE, at.page(_of_run(at.session, from_run, take)))
    if from_study is None:
        form = at.known.first_form(dataset, base_model, task).with_arm(take)
    else:
        form = StudyForm.of(_again(at.session, from_study, further=rates == FURTHER))
    return render.page(TEMPLATE, at.page(form))


@router.post("/studies/new")
def edit(at: At, render: Render, sent: Typed) -> HTMLResponse:
    """The form with an arm more or less, with what it would take worked out, or as YAML."""
    form = sent.form.edited(sent.action, partial(new_arm, model=at.known.task_model(at.known.settled(sent.form))))
    page = replace(at.page(form, insists=sent.insists), focus=FOCUS.get(sent.action.partition(":")[0], ""))
    if sent.action == "yaml" and page.plan_errors:
        page = at.page(form, page.plan_errors, insists=sent.insists)
    elif sent.action == "yaml" and page.plan:
        page = replace(page, yaml=as_yaml(page.plan.spec))
    return render.page(TEMPLATE, page)


@router.post("/studies/plan")
def estimate(at: At, render: Render, sent: Typed) -> Response:
    """What it would take, for a form that is being filled in; nothing where it is what the page shows already."""
    page = at.page(sent.form, insists=sent.insists)
    if page.memory and page.memory.version == sent.seen:
        return Response(status_code=204)
    return render.page("new_study/plan.html", page)


@router.post("/studies")
def submit(at: At, render: Render, sent: Typed) -> Response:
    """Start the study, or show the form again with what is wrong at its fields."""
    try:
        spec = at.known.settled(sent.form).spec()

        def accept(writing: Session, compatible: Compatible) -> int:
            return study_service.submit(writing, at.bell, spec, compatible).id

        study_id = submission.submit(at.db, at.bell, at.settings, spec, accept, insist=sent.insists)
    except Invalid as error:
        return render.page(TEMPLATE, at.page(sent.form, at_the_box(error).at()), status=422)
    return RedirectResponse(f"/studies/{study_id}", status_code=303)


def _again(session: Session, study_id: int, *, further: bool) -> StudySpec:
    """A study that is there."""
    if not further:
        return studies.get(session, study_id).spec
    found = study_service.comparison(session, study_id)
    return trying(found.spec, {arm.title: arm.tuning.further for arm in found.arms if arm.tuning})


def _of_run(session: Session, run_id: int, take: str) -> StudyForm:
    """The study that a run belongs to, or the run alone; with what a way out sets for its arm."""
    run = runs.get(session, run_id)
    if run.study_id is None:
        name = _("Run %(id)s, another way", id=run_id)
        return StudyForm.of_run(run.spec, name).with_way(0, take)
    form = StudyForm.of(studies.get(session, run.study_id).spec)
    place = next((place for place, arm in enumerate(form.arms) if arm.title == run.arm), 0)
    return form.with_way(place, take)
