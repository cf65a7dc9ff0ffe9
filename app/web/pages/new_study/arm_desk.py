"""Where the form of an arm for a study that is there is filled in: the study, and what the arm would take."""

from dataclasses import dataclass

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.domain.errors import FieldError, Invalid
from app.domain.models.architecture import TaskModel
from app.domain.studies.arms import ArmSpec
from app.queue import Doorbell
from app.services.study_plan import PlannedStudy
from app.services.submission import add_arm, plan_arm
from app.settings import Settings
from app.store.queries import base_models, datasets
from app.store.session import Database
from app.store.tables import StudyRow
from app.web.forms.sentences import sentences
from app.web.pages.new_study.arm import new_arm
from app.web.pages.new_study.arm_context import StudyNewArm, placed
from app.web.pages.new_study.arm_form import ArmForm
from app.web.pages.new_study.refusal import at_the_box


@dataclass(frozen=True)
class ArmDesk:
    """What the form is filled in with, and who works out what the arm would take."""

    db: Database
    bell: Doorbell
    settings: Settings
    session: Session
    study: StudyRow

    def first(self, kind: str) -> ArmForm:
        """An arm with its method's defaults."""
        return self.unlike(new_arm(kind, self._model()))

    def unlike(self, form: ArmForm) -> ArmForm:
        """An arm made different from those that the study has."""
        return form.unlike([ArmForm.of(arm) for arm in self.study.spec.arms])

    def page(
        self, form: ArmForm | None, errors: tuple[FieldError, ...] = (), *, insists: bool = False, focus: str = ""
    ) -> StudyNewArm:
        """The form with what the arm would take; without one, the methods to choose from. Errors have an arm's
        paths."""
        planned, plan_errors = self._plan(form) if form else (None, ())
        return StudyNewArm.of(
            self.study, self._model(), form, planned, plan_errors, errors=errors, insists=insists, focus=focus
        )

    def add(self, form: ArmForm, *, insist: bool) -> None:
        """Add it and queue what it owes. Raises Invalid with an arm's paths, or at the box that one ticks to have it
        queued though it fits no worker."""
        try:
            add_arm(self.db, self.bell, self.settings, self.study.id, _spec(form), insist=insist)
        except Invalid as error:
            raise at_the_box(error) from error

    def _plan(self, form: ArmForm) -> tuple[PlannedStudy | None, tuple[FieldError, ...]]:
        try:
            return plan_arm(self.db, self.bell, self.settings, self.session, self.study.id, _spec(form)), ()
        except Invalid as error:
            return None, tuple(map(placed, error.at()))

    def _model(self) -> TaskModel | None:
        model = base_models.by_id(self.session, self.study.base_model_id)
        dataset = datasets.by_id(self.session, self.study.dataset_id)
        facts, task = model.facts if model else None, self.study.spec.task
        if facts is None or task not in facts.tasks:
            return None
        return facts.task_model(task, len(dataset.facts.labels) if dataset else 2)


def _spec(form: ArmForm) -> ArmSpec:
    """Raises Invalid with an error for each field that is wrong."""
    try:
        return ArmSpec.model_validate(form.body())
    except ValidationError as error:
        fields = sentences(error.errors())
        raise Invalid.of(fields) from None
