"""What a form would take: the plan of its study, and the memory that each arm needs."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from app.domain.errors import FieldError, Invalid
from app.domain.messages import _
from app.services.study_plan import PlannedStudy, planned
from app.services.submission import plan_arm
from app.store.queries import base_models, datasets, studies
from app.web.http.dependencies import Bell, Config, Db, Reading
from app.web.pages.new_study.arm_form import ArmForm
from app.web.pages.new_study.choices import Choices, task_model
from app.web.pages.new_study.context import AddedArmPage, NewStudyPage
from app.web.pages.new_study.form import StudyForm
from app.web.pages.new_study.text import OWN_LABELS


@dataclass(frozen=True)
class Planning:
    """The dependencies of both pages; see `At`."""

    db: Db
    bell: Bell
    settings: Config
    session: Reading

    def study_page(
        self, typed: StudyForm, errors: tuple[FieldError, ...] = (), *, insists: bool = False, focus: str = ""
    ) -> NewStudyPage:
        """The form of a study with its estimates."""
        choices = Choices.of(self.session)
        form = choices.settled(typed)
        study, plan_errors = _or_errors(lambda: planned(self.db, self.bell, self.settings, self.session, form.spec()))
        return NewStudyPage(
            form=form,
            models=choices.models,
            data=choices.data(form),
            task=choices.step(form),
            model=choices.task_model(form),
            planned=study,
            plan_errors=plan_errors,
            errors=errors,
            insists=insists,
            focus=focus,
        )

    def arm_page(
        self,
        study_id: int,
        form: ArmForm | None,
        errors: tuple[FieldError, ...] = (),
        *,
        insists: bool = False,
        focus: str = "",
    ) -> AddedArmPage:
        """The form of an arm with its estimates; without a form, the methods to choose from. Errors have the arm's
        paths."""
        study = studies.get(self.session, study_id)
        model = base_models.by_id(self.session, study.base_model_id)
        dataset = datasets.by_id(self.session, study.dataset_id)
        plan, plan_errors = _or_errors(lambda: self._planned_arm(study_id, form) if form else None)
        return AddedArmPage(
            study=study,
            arm=form,
            model=task_model(model.facts if model else None, study.spec.task, dataset.facts if dataset else None),
            planned=plan,
            plan_errors=tuple(map(in_form, plan_errors)),
            errors=tuple(map(in_form, errors)),
            insists=insists,
            focus=focus,
        )

    def _planned_arm(self, study_id: int, form: ArmForm) -> PlannedStudy:
        return plan_arm(self.db, self.bell, self.settings, self.session, study_id, form.spec())


def _or_errors(plan: Callable[[], PlannedStudy | None]) -> tuple[PlannedStudy | None, tuple[FieldError, ...]]:
    """A plan, or why there is none."""
    try:
        return plan(), ()
    except Invalid as error:
        return None, error.at()


def in_form(error: FieldError) -> FieldError:
    """An error with an arm's path, at the field of the form of an added arm; `name` is the arm's, not the study's."""
    of_study = error.path in OWN_LABELS and error.path != "name"
    return error if of_study else replace(error, path=f"arms.0.{error.path}")


def at_checkbox(error: Invalid) -> Invalid:
    """A refusal of what fits no live worker, at the checkbox that queues it anyway. Other errors stay as they are."""
    if not error.fields or any(field.path.rpartition(".")[2] != "method" for field in error.fields):
        return error
    return Invalid.field("insist", _("No live worker has enough memory"), _("Apply a memory saving, or tick the box"))
