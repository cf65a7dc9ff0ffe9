"""A request to plan a study or an arm: the form that it sent, and the page with its estimates."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends

from app.domain.comparison.statistics.verdict import confidence_after
from app.domain.errors import FieldError, Invalid
from app.services.runs import submission
from app.services.studies import interim_looks
from app.services.studies.plan import PlannedStudy, planned
from app.store.data import queries as datasets
from app.store.models import queries as base_models
from app.store.studies import queries as studies
from app.web.forms.sent import PRIVATE, SentForm
from app.web.http.dependencies import Bell, Config, Db, Reading
from app.web.pages.new_study.arm_form import ArmForm
from app.web.pages.new_study.context import AddedArmPage, NewStudyPage, PlanningPage
from app.web.pages.new_study.form import StudyForm
from app.web.pages.new_study.inputs import StudyInputs, task_model
from app.web.pages.new_study.text import OWN_LABELS

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
