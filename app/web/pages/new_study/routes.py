"""Planning a study, or an arm for an existing one: the form, its estimates, its submission. Scripts are optional."""

from dataclasses import replace
from functools import partial
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.errors import Invalid
from app.domain.methods import METHODS
from app.domain.studies.arm_tuning import trying
from app.domain.studies.arms import without_default_names
from app.domain.studies.spec import StudySpec
from app.services import studies as study_service
from app.services import submission
from app.services.compatibility import Compatible
from app.store.queries import runs, studies
from app.web.http.dependencies import Bell, Db, RowId
from app.web.i18n import gettext as _
from app.web.pages.new_study.arm_form import ArmForm
from app.web.pages.new_study.arms import new_arm
from app.web.pages.new_study.choices import Choices
from app.web.pages.new_study.context import AddedArmPage
from app.web.pages.new_study.form import StudyForm
from app.web.pages.new_study.planning import Planning, at_checkbox
from app.web.specs import as_yaml
from app.web.templating import Render
from app.web.text.tuning import FURTHER

router = APIRouter(prefix="/studies", include_in_schema=False)

STUDY = "new_study/show.html"
ARM = "new_study/added_arm.html"
ESTIMATE = "new_study/plan.html"
FOCUS = {"seeds": "seeds", "margin": "margin_points", "remove": "add", "set": "plan"}
"""Where an edit leaves the keyboard: at the field that it changed, where an arm can be added, or at the estimate."""
MAX_ACTION = 5000


class Sent(NamedTuple):
    """A sent form."""

    form: StudyForm
    action: str
    """Of the button that sent it."""
    insists: bool
    """Queue it even if it fits no worker."""
    seen: str
    """Identifies the estimate that the page already shows."""

    @property
    def arm(self) -> ArmForm | None:
        """The arm of the form of an added arm; None where the form has none."""
        return next(iter(self.form.arms), None)


async def sent_form(request: Request) -> Sent:
    """The form of a request."""
    async with request.form(max_files=0, max_fields=2000) as form:
        action, seen = str(form.get("do", ""))[:MAX_ACTION], str(form.get("seen", ""))[:100]
        return Sent(StudyForm.typed(form), action, form.get("insist") == "true", seen)


Typed = Annotated[Sent, Depends(sent_form)]
At = Annotated[Planning, Depends()]


@router.get("/new")
def blank(
    at: At,
    render: Render,
    from_study: Annotated[RowId | None, Query()] = None,
    from_run: Annotated[RowId | None, Query()] = None,
    rates: Annotated[str, Query(max_length=20)] = "",
    change: Annotated[str, Query(alias="set", max_length=MAX_ACTION)] = "",
    dataset: Annotated[str, Query(max_length=MAX_ACTION)] = "",
    base_model: Annotated[str, Query(max_length=200)] = "",
    task: Annotated[str, Query(max_length=40)] = "",
) -> HTMLResponse:
    """The form: new, on a dataset or base model; with a method; of an earlier study, with `rates=further` beyond the
    rates of arms whose best was at an end; or of a run, with a change."""
    if from_run is not None:
        form = _of_run(at.session, from_run, change)
    elif from_study is not None:
        form = StudyForm.of(_spec_of(at.session, from_study, further=rates == FURTHER))
    else:
        form = Choices.of(at.session).first_form(dataset, base_model, task).with_arm(change)
    return render.page(STUDY, at.study_page(form))


@router.post("/new")
def edit(at: At, render: Render, sent: Typed) -> HTMLResponse:
    """The form with an arm added or removed, with its estimates, or as YAML."""
    choices = Choices.of(at.session)
    form = sent.form.edited(sent.action, partial(new_arm, model=choices.task_model(choices.settled(sent.form))))
    page = at.study_page(form, insists=sent.insists, focus=FOCUS.get(sent.action.partition(":")[0], ""))
    if sent.action == "yaml" and page.plan is None:
        page = replace(page, errors=page.plan_errors)
    elif sent.action == "yaml" and page.plan:
        spec = page.plan.spec
        page = replace(page, yaml=as_yaml(spec.model_copy(update={"arms": without_default_names(spec.arms)})))
    return render.page(STUDY, page)


@router.post("/plan")
def estimate(at: At, render: Render, sent: Typed) -> Response:
    """The estimates of a form; nothing if the page already shows them."""
    page = at.study_page(sent.form, insists=sent.insists)
    if page.memory and page.memory.version == sent.seen:
        return Response(status_code=204)
    return render.page(ESTIMATE, page)


@router.post("")
def submit(at: At, render: Render, sent: Typed) -> Response:
    """Start the study, or show the form again with its errors."""
    try:
        spec = Choices.of(at.session).settled(sent.form).spec()

        def accept(writing: Session, compatible: Compatible) -> int:
            return study_service.submit(writing, at.bell, spec, compatible).id

        study_id = submission.submit(at.db, at.bell, at.settings, spec, accept, insist=sent.insists)
    except Invalid as error:
        return render.page(STUDY, at.study_page(sent.form, at_checkbox(error).at()), status=422)
    return RedirectResponse(f"/studies/{study_id}", status_code=303)


@router.get("/{study_id:int}/arms/new")
def blank_arm(at: At, render: Render, study_id: int, method: Annotated[str, Query()] = "") -> HTMLResponse:
    """The methods to choose from, or the form of one with its defaults."""
    page = at.arm_page(study_id, None)
    if method in METHODS:
        page = at.arm_page(study_id, _distinct(page, new_arm(method, page.model)))
    return render.page(ARM, page)


@router.post("/{study_id:int}/arms/new")
def edit_arm(at: At, render: Render, study_id: int, sent: Typed) -> HTMLResponse:
    """The form of an arm with its estimates, or with a change applied."""
    if sent.action.startswith("set:") and (changed := sent.form.edited(sent.action).arms):
        page = at.arm_page(study_id, None)
        return render.page(ARM, at.arm_page(study_id, _distinct(page, changed[0]), focus="plan"))
    return render.page(ARM, at.arm_page(study_id, sent.arm, insists=sent.insists))


@router.post("/{study_id:int}/arms/plan")
def estimate_arm(at: At, render: Render, study_id: int, sent: Typed) -> Response:
    """The estimates of an arm; nothing if the page already shows them."""
    page = at.arm_page(study_id, sent.arm, insists=sent.insists)
    if sent.arm is None or (page.memory and page.memory.version == sent.seen):
        return Response(status_code=204)
    return render.page(ESTIMATE, page)


@router.post("/{study_id:int}/arms")
def submit_arm(at: At, render: Render, study_id: int, sent: Typed) -> Response:
    """Add the arm, or show the form again with its errors."""
    if sent.arm is None:
        return RedirectResponse(f"/studies/{study_id}/arms/new", status_code=303)
    try:
        submission.add_arm(at.db, at.bell, at.settings, study_id, sent.arm.spec(), insist=sent.insists)
    except Invalid as error:
        page = at.arm_page(study_id, sent.arm, at_checkbox(error).at(), insists=sent.insists)
        return render.page(ARM, page, status=422)
    return RedirectResponse(f"/studies/{study_id}", status_code=303)


@router.post("/{study_id:int}/arms/stop")
def stop_arm(db: Db, bell: Bell, study_id: int, arm: Annotated[str, Form(max_length=100)]) -> RedirectResponse:
    """Cancel the unfinished runs of an arm."""
    with db.transaction() as session:
        study_service.stop_arm(session, bell, study_id, arm)
    return RedirectResponse(f"/studies/{study_id}#arms", status_code=303)


def _distinct(page: AddedArmPage, arm: ArmForm) -> ArmForm:
    """The arm, changed where the study has one with its settings."""
    return arm.distinct_from(map(ArmForm.of, page.study.spec.arms))


def _spec_of(session: Session, study_id: int, *, further: bool) -> StudySpec:
    """An existing study, to be run again or further."""
    if not further:
        return studies.get(session, study_id).spec
    comparison = study_service.comparison(session, study_id)
    return trying(comparison.spec, {arm.title: arm.tuning.further for arm in comparison.arms if arm.tuning})


def _of_run(session: Session, run_id: int, change: str) -> StudyForm:
    """The study of a run, or the run alone, with a change of its arm."""
    run = runs.get(session, run_id)
    if run.study_id is None:
        return StudyForm.of_run(run.spec, _("Run %(id)s, changed", id=run_id)).changed(0, change)
    spec = studies.get(session, run.study_id).spec
    place = next((place for place, arm in enumerate(spec.arms) if arm.title == run.arm), 0)
    return StudyForm.of(spec).changed(place, change)
