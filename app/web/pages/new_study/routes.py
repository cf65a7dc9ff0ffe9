"""Planning a study, or an arm for an existing one: the form, its estimates, its submission. Scripts are optional."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.accounts.ownership import Visibility
from app.domain.comparison.statistics.verdict import confidence_after
from app.domain.errors import FieldError, Invalid, OverQuota, VeznaError
from app.domain.messages import Message
from app.domain.methods import METHODS
from app.domain.studies.arms import without_default_names
from app.domain.studies.remedies import REMEDIES
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.arm_tuning import trying
from app.services.models.compatibility import Compatible
from app.services.runs import submission
from app.services.studies import interim_looks
from app.services.studies import studies as study_service
from app.services.studies.learning import remedied_study
from app.services.studies.plan import PlannedStudy, planned
from app.store.data import queries as datasets
from app.store.models import queries as base_models
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.tables import RunRow, StudyRow
from app.web.forms.once import OnceByForm
from app.web.forms.sent import PRIVATE, SentForm, creating
from app.web.http.dependencies import Bell, Config, Db, Reading, RowId
from app.web.http.errors import status_of
from app.web.pages.new_study.arm_form import ArmForm
from app.web.pages.new_study.arms import new_arm
from app.web.pages.new_study.context import AddedArmPage, NewStudyPage, PlanningPage
from app.web.pages.new_study.form import StudyForm
from app.web.pages.new_study.inputs import StudyInputs, task_model
from app.web.pages.new_study.text import OWN_LABELS
from app.web.specs import as_yaml
from app.web.templating import Render
from app.words.i18n import gettext as _
from app.words.studies.tuning import FURTHER

MAX_ACTION = 5000
MAX_MARGIN = 20
"""Characters."""


@dataclass(frozen=True)
class Planning:
    """A request to plan a study or an arm: the form that it sent, and what a plan needs."""

    db: Db
    bell: Bell
    settings: Config
    session: Reading
    sent: SentForm

    @property
    def form(self) -> StudyForm:
        return StudyForm.typed(self.sent)

    def as_shown(self, form: StudyForm) -> StudyForm:
        """The form with the margin that its plan showed, where it leaves that open."""
        margin = form.values["margin_points"] or self.sent.get("shown_margin", "").strip()[:MAX_MARGIN]
        return form.with_values(margin_points=margin)

    @property
    def arm(self) -> ArmForm | None:
        """The arm of the form of an added arm; None where the form has none."""
        return next(iter(self.form.arms), None)

    @property
    def action(self) -> str:
        """Action of the button that sent the form."""
        return self.sent.get("do", "")[:MAX_ACTION]

    @property
    def insists(self) -> bool:
        """Queue it even if it fits no worker."""
        return self.sent.get("insist") == "true"

    @property
    def private(self) -> bool:
        """Only the owner is to see it."""
        return self.sent.get(PRIVATE) == "true"

    def shows(self, page: PlanningPage) -> bool:
        """Whether the browser already shows the estimates of a page."""
        return page.memory is not None and page.version == self.sent.get("seen")

    def study_page(self, inputs: StudyInputs, errors: tuple[FieldError, ...] = (), *, focus: str = "") -> NewStudyPage:
        """The form of a study with its estimates."""
        plan, plan_errors = _or_errors(
            lambda: planned(self.db, self.bell, self.settings, self.session, inputs.form.spec())
        )
        return NewStudyPage(
            inputs=inputs,
            model=inputs.task_model,
            planned=plan,
            plan_errors=plan_errors,
            errors=errors,
            insists=self.insists,
            private=self.private,
            focus=focus,
        )

    def arm_page(
        self, study_id: int, arm: ArmForm | None, errors: tuple[FieldError, ...] = (), *, focus: str = ""
    ) -> AddedArmPage:
        """The form of an arm with its estimates; without an arm, the methods to choose from. Errors have the arm's
        paths."""
        study = studies.get(self.session, study_id)
        model = base_models.by_id(self.session, study.base_model_id)
        dataset = datasets.by_id(self.session, study.dataset_id)
        plan, plan_errors = _or_errors(
            lambda: (
                submission.plan_arm(self.db, self.bell, self.settings, self.session, study_id, arm.spec())
                if arm
                else None
            )
        )
        looks = interim_looks.with_growth(self.session, study)
        return AddedArmPage(
            study=study,
            arm=arm,
            raised_confidence=confidence_after(looks) if looks > study.interim_looks else None,
            model=task_model(model.facts if model else None, study.spec.task, dataset.facts if dataset else None),
            planned=plan,
            plan_errors=tuple(map(_in_form, plan_errors)),
            errors=tuple(map(_in_form, errors)),
            insists=self.insists,
            focus=focus,
        )


At = Annotated[Planning, Depends()]


def _or_errors(plan: Callable[[], PlannedStudy | None]) -> tuple[PlannedStudy | None, tuple[FieldError, ...]]:
    """A plan, or why there is none."""
    try:
        return plan(), ()
    except Invalid as error:
        return None, error.at()


def _in_form(error: FieldError) -> FieldError:
    """An error with an arm's path, at the field of the form of an added arm; `name` is the arm's, not the study's."""
    of_study = error.path in OWN_LABELS and error.path != "name"
    return error if of_study else replace(error, path=f"arms.0.{error.path}")


router = APIRouter(prefix="/studies", include_in_schema=False)

STUDY = "new_study/show.html"
ARM = "new_study/added_arm.html"
ESTIMATE = "new_study/plan.html"
FOCUS = {"seeds": "seeds", "margin": "margin_points", "remove": "add", "set": "plan"}
"""Where an edit leaves the keyboard: at the field that it changed, where an arm can be added, or at the estimate."""


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
    remedy: Annotated[str, Query(max_length=40)] = "",
) -> HTMLResponse:
    """The form: new, on a dataset or base model; with a method; of an earlier study, with `rates=further` beyond the
    rates of arms whose best was at an end, or with a `remedy` for a cause of learning nothing; or of a run, with a
    change. A copy of what is private is private, unless its user unticks the box."""
    source: RunRow | StudyRow | None = None
    if from_run is not None:
        source = runs.get(at.session, from_run)
        inputs = StudyInputs.of(at.session, _of_run(at.session, source, change))
    elif from_study is not None:
        source = studies.get(at.session, from_study)
        spec = _spec_of(at.session, source, further=rates == FURTHER, remedy=remedy)
        inputs = StudyInputs.of(at.session, StudyForm.of(spec))
    else:
        inputs = StudyInputs.first(at.session, dataset, base_model, task)
        inputs = replace(inputs, form=inputs.form.with_arm(change))
    private = source is not None and source.visibility is Visibility.PRIVATE
    return render.page(STUDY, replace(at.study_page(inputs), private=private))


@router.post("/new")
def edit(at: At, render: Render) -> HTMLResponse:
    """The form with an arm added or removed, with its estimates, or as YAML."""
    model = StudyInputs.of(at.session, at.form).task_model
    inputs = StudyInputs.of(at.session, at.form.edited(at.action, partial(new_arm, model=model)))
    page = at.study_page(inputs, focus=FOCUS.get(at.action.partition(":")[0], ""))
    if at.action == "yaml" and page.plan is None:
        page = replace(page, errors=page.plan_errors)
    elif at.action == "yaml" and page.plan:
        spec = page.plan.spec
        page = replace(page, yaml=as_yaml(spec.model_copy(update={"arms": without_default_names(spec.arms)})))
    return render.page(STUDY, page)


@router.post("/plan")
def estimate(at: At, render: Render) -> Response:
    """The estimates of a form; nothing if the page already shows them."""
    page = at.study_page(StudyInputs.of(at.session, at.form))
    return Response(status_code=204) if at.shows(page) else render.page(ESTIMATE, page)


@router.post("")
def submit(at: At, once: OnceByForm, render: Render) -> Response:
    """Start the study, or show the form again with its errors."""
    inputs = StudyInputs.of(at.session, at.form)
    try:
        spec = at.as_shown(inputs.form).spec()

        def accept(writing: Session, compatible: Compatible) -> str:
            return once.keep(writing, f"/studies/{study_service.submit(writing, at.bell, spec, compatible).id}")

        address = submission.submit(creating(at.db, at.sent), at.bell, at.settings, spec, accept, insist=at.insists)
    except (Invalid, OverQuota) as error:
        once.raise_if_answered()
        return render.page(STUDY, at.study_page(inputs, at_checkbox(error).at()), status=status_of(error))
    return RedirectResponse(address, status_code=303)


@router.get("/{study_id:int}/arms/new")
def blank_arm(at: At, render: Render, study_id: int, method: Annotated[str, Query()] = "") -> HTMLResponse:
    """The methods to choose from, or the form of one with its defaults."""
    page = at.arm_page(study_id, None)
    if method in METHODS:
        page = at.arm_page(study_id, _distinct(page, new_arm(method, page.model)))
    return render.page(ARM, page)


@router.post("/{study_id:int}/arms/new")
def edit_arm(at: At, render: Render, study_id: int) -> HTMLResponse:
    """The form of an arm with its estimates, or with a change applied."""
    if at.action.startswith("set:") and (changed := at.form.edited(at.action).arms):
        page = at.arm_page(study_id, None)
        return render.page(ARM, at.arm_page(study_id, _distinct(page, changed[0]), focus="plan"))
    return render.page(ARM, at.arm_page(study_id, at.arm))


@router.post("/{study_id:int}/arms/plan")
def estimate_arm(at: At, render: Render, study_id: int) -> Response:
    """The estimates of an arm; nothing if the page already shows them."""
    page = at.arm_page(study_id, at.arm)
    return Response(status_code=204) if page.arm is None or at.shows(page) else render.page(ESTIMATE, page)


@router.post("/{study_id:int}/arms")
def submit_arm(at: At, once: OnceByForm, render: Render, study_id: int) -> Response:
    """Add the arm, or show the form again with its errors."""
    if at.arm is None:
        return RedirectResponse(f"/studies/{study_id}/arms/new", status_code=303)
    address = f"/studies/{study_id}"
    keep = partial(once.keep, answer=address)
    try:
        submission.add_arm(at.db, at.bell, at.settings, study_id, at.arm.spec(), keep, insist=at.insists)
    except (Invalid, OverQuota) as error:
        once.raise_if_answered()
        return render.page(ARM, at.arm_page(study_id, at.arm, at_checkbox(error).at()), status=status_of(error))
    return RedirectResponse(address, status_code=303)


@router.post("/{study_id:int}/arms/stop")
def stop_arm(db: Db, bell: Bell, study_id: int, arm: Annotated[str, Form(max_length=100)]) -> RedirectResponse:
    """Cancel the unfinished runs of an arm."""
    with db.transaction() as session:
        study_service.stop_arm(session, bell, study_id, arm)
    return RedirectResponse(f"/studies/{study_id}/arms", status_code=303)


def _distinct(page: AddedArmPage, arm: ArmForm) -> ArmForm:
    """The arm, changed where the study has one with its settings."""
    return arm.distinct_from(map(ArmForm.of, page.study.spec.arms))


def _spec_of(session: Session, study: StudyRow, *, further: bool, remedy: str) -> StudySpec:
    """An existing study, to be run again, further, or with what would remove a cause of learning nothing."""
    if known := next((one for one in REMEDIES if one == remedy), None):
        return remedied_study(session, study.id, known)
    if not further:
        return study.spec
    comparison = study_service.comparison(session, study.id)
    return trying(comparison.spec, {arm.title: arm.tuning.further for arm in comparison.arms if arm.tuning})


def _of_run(session: Session, run: RunRow, change: str) -> StudyForm:
    """The study of a run, or the run alone, with a change of its arm."""
    if run.study_id is None:
        return StudyForm.of_run(run.spec, _("Run %(id)s, changed", id=run.id)).changed(0, change)
    spec = studies.get(session, run.study_id).spec
    place = next((place for place, arm in enumerate(spec.arms) if arm.title == run.arm), 0)
    return StudyForm.of(spec).changed(place, change)


def at_checkbox(error: VeznaError) -> VeznaError:
    """A refusal of what fits no live worker, at the checkbox that queues it anyway. Other errors stay as they are."""
    if not error.fields or any(field.path.rpartition(".")[2] != "method" for field in error.fields):
        return error
    return Invalid.field(
        "insist", Message("No live worker has enough memory"), Message("Apply a memory saving, or tick the box")
    )
