"""The page on which an arm is added to a study that is there: which method, its fields, and what it would take."""

import json
from dataclasses import dataclass, replace

from app.domain.errors import FieldError
from app.domain.models.architecture import TaskModel
from app.domain.studies.plan import StudyPlan
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning import trials_owed
from app.services.study_plan import PlannedStudy
from app.store.tables import StudyRow
from app.web.figures.memory_fit import MemoryFitFigure
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.pages.new_study.arm import FamilyOffer, NewArm, offers
from app.web.pages.new_study.arm_form import ArmForm, sent
from app.web.pages.new_study.context import OWN_NAMES, memory_figure
from app.web.pages.new_study.tuning import rounds, row
from app.web.text.fields import of_arm

PLACE = "arms.0."
"""Before the names of the arm's fields, as in the form of a study."""
KIND = f"{PLACE}method.kind"


def placed(error: FieldError) -> FieldError:
    """An error of an arm at the form's field, in the request's language."""
    return error if error.path in OWN_NAMES else replace(error, path=f"{PLACE}{error.path}")


@dataclass(frozen=True)
class StudyNewArm:
    """The page. What its parts share with the page of a new study goes by the same names there."""

    study_id: int
    study: str
    reference_title: str
    offers: tuple[FamilyOffer, ...]
    arms: tuple[NewArm, ...]
    """The one that is added; none until a method is chosen."""
    owes: str
    """What it will be given, as a sentence."""
    plan: StudyPlan | None
    plan_errors: tuple[FieldError, ...]
    """Why there is no plan."""
    memory: MemoryFitFigure | None
    errors: tuple[FieldError, ...]
    """Paths as the form's fields have them."""
    insists: bool
    focus: str
    whole_study: bool = False

    @classmethod
    def of(
        cls,
        study: StudyRow,
        model: TaskModel | None,
        form: ArmForm | None,
        planned: PlannedStudy | None,
        plan_errors: tuple[FieldError, ...],
        *,
        errors: tuple[FieldError, ...] = (),
        insists: bool = False,
        focus: str = "",
    ) -> "StudyNewArm":
        """From a study, its base model, what was typed and what that would take. Errors have an arm's paths."""
        spec = study.spec
        page = cls(
            study_id=study.id,
            study=spec.name,
            reference_title=spec.reference_arm,
            offers=offers(model),
            arms=(),
            owes=_owes(spec),
            plan=planned.plan if planned else None,
            plan_errors=plan_errors,
            memory=memory_figure(planned),
            errors=tuple(map(placed, errors)),
            insists=insists,
            focus=focus,
        )
        if form is None:
            return page
        usual = {"weight_decay": f"{spec.training.weight_decay:g}"}
        if spec.tuning.rounds:
            usual["learning_rates"] = _rates(spec, form) or _("a row around it")
        return replace(page, arms=(NewArm.of(0, form, model, usual, page.errors_of),))

    @property
    def edited_at(self) -> str:
        """Where the form is sent to be changed."""
        return f"/studies/{self.study_id}/arms/new"

    @property
    def planned_at(self) -> str:
        """Where it is asked what the arm would take."""
        return f"/studies/{self.study_id}/arms/plan"

    @property
    def snapshot(self) -> str:
        """The form as it was planned, as JSON."""
        seen = {"seen": self.memory.version if self.memory else ""}
        return json.dumps(seen | sent([arm.form for arm in self.arms]))

    @property
    def rounds(self) -> str:
        """What it tries, in words."""
        return rounds(self.plan.spec.tuning) if self.plan else ""

    def errors_of(self, path: str) -> list[FieldError]:
        """What is wrong with a field."""
        return [error for error in self.errors if error.path == path]

    def has_field(self, path: str) -> bool:
        """An error of that path has a place on the page that can be gone to."""
        return path in ("insist", KIND) or any(path in arm.fields.paths for arm in self.arms)

    def name_of(self, path: str) -> str:
        """A field as the form calls it; empty where an error is about no single field."""
        if path == KIND or not self.has_field(path):
            return ""
        return _(OWN_NAMES[path]) if path in OWN_NAMES else of_arm(path.removeprefix(PLACE))


def _rates(spec: StudySpec, form: ArmForm) -> str:
    found = form.spec()
    return row(spec.rates(found)) if found else ""


def _owes(spec: StudySpec) -> str:
    seeds = ngettext("%(num)s run", "%(num)s runs", len(spec.seeds))
    if not spec.tuning.rounds:
        return _("It gets the seeds that the others have: %(runs)s.", runs=seeds)
    trials = ngettext("%(num)s trial", "%(num)s trials", trials_owed(spec.tuning))
    return _(
        "It gets as many trials and the seeds of the others: %(trials)s, then %(runs)s.",
        trials=trials,
        runs=seeds,
    )
