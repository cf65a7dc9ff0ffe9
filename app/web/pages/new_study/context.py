"""The contexts of both pages: a new study, and an arm that is added to an existing one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from app.domain.errors import FieldError
from app.domain.methods import Family
from app.domain.models.architecture import TaskModel
from app.domain.studies.plan import StudyPlan
from app.domain.tasks import METRICS, TASKS, MetricName
from app.services.study_plan import PlannedStudy
from app.store.tables import BaseModelRow, StudyRow
from app.web.figures.memory_fit import MemoryFitFigure
from app.web.format import capitalized
from app.web.forms.fields import Fields, FieldView
from app.web.i18n import gettext as _
from app.web.pages.new_study.arm_form import ArmForm, sent
from app.web.pages.new_study.arms import ArmFields, Offer, offers
from app.web.pages.new_study.choices import DataChoice, TaskStep
from app.web.pages.new_study.form import TRAINING, TUNING, TUNINGS, StudyForm
from app.web.pages.new_study.text import OWN_LABELS, label, owed_runs
from app.web.text import tuning as tuning_text
from app.web.text.fields import TRAINING_FIELDS, TUNING_FIELDS
from app.web.text.metrics import title


@dataclass(frozen=True, kw_only=True)
class PlanningPage:
    """What both pages share: arms, what they would take, and what is wrong."""

    model: TaskModel | None
    """The chosen base model with a head for the task; None while it is not known."""
    planned: PlannedStudy | None
    """None for a form with errors."""
    plan_errors: tuple[FieldError, ...]
    """Why there is no plan."""
    errors: tuple[FieldError, ...] = ()
    insists: bool = False
    """The box is ticked that queues what fits no worker."""
    focus: str = ""
    """Where the keyboard goes: the button that was pressed may be gone."""

    @property
    def arms(self) -> tuple[ArmFields, ...]:
        """The arms of the form."""
        raise NotImplementedError

    @property
    def plan(self) -> StudyPlan | None:
        """What the study would take, and what it can show."""
        return self.planned.plan if self.planned else None

    @cached_property
    def memory(self) -> MemoryFitFigure | None:
        """The memory that each arm needs, and where it fits."""
        if self.planned is None:
            return None
        return MemoryFitFigure.of(self.planned.memory, [arm.family for arm in self.planned.plan.arms])

    @property
    def offers(self) -> list[tuple[Family, str, list[Offer]]]:
        """The methods that another arm may have."""
        return offers(self.model)

    @property
    def rounds(self) -> str:
        """How each arm's learning rate is tuned."""
        return tuning_text.rounds(self.plan.spec.tuning) if self.plan else ""

    @property
    def snapshot(self) -> str:
        """The form as it was planned, as JSON, to ask for the estimates again while they are made: without what is
        being typed meanwhile."""
        seen = {"seen": self.memory.version if self.memory else ""}
        return json.dumps(seen | dict(self._sent) | sent([arm.form for arm in self.arms]))

    @property
    def _sent(self) -> Mapping[str, str]:
        return {}

    def errors_of(self, path: str) -> list[FieldError]:
        """The errors of a field."""
        return [error for error in self.errors if error.path == path]

    def has_field(self, path: str) -> bool:
        """The page has a field that an error of this path can link to."""
        return any(path in arm.fields.paths or path == f"arms.{arm.place}.method.kind" for arm in self.arms)

    def name_of(self, path: str) -> str:
        """A field as an error names it."""
        return label(path, [arm.title for arm in self.arms])


@dataclass(frozen=True, kw_only=True)
class NewStudyPage(PlanningPage):
    """The form of a new study."""

    form: StudyForm
    models: tuple[BaseModelRow, ...]
    data: tuple[DataChoice, ...]
    task: TaskStep
    yaml: str = ""
    whole_study = True
    edited_at = "/studies/new"
    """Where the form is sent to be edited."""
    planned_at = "/studies/plan"
    """Where the form is sent for an estimate."""

    @cached_property
    def arms(self) -> tuple[ArmFields, ...]:
        """The arms of the form."""
        usual = {"weight_decay": self.form.budget_value("weight_decay")}
        spec = self.plan.spec if self.plan else None
        rates = {arm.title: tuning_text.rate_list(spec.rates(arm)) for arm in spec.arms} if spec else {}
        tuned = self.form.tuning != "none"
        return tuple(
            ArmFields.of(place, form, name, self.model, usual | _rates(tuned, rates.get(name, "")), self.errors_of)
            for place, (form, name) in enumerate(zip(self.form.arms, self.form.titles, strict=True))
        )

    @property
    def reference_title(self) -> str:
        """The reference arm."""
        return self.form.reference_title

    @property
    def reference_options(self) -> list[tuple[str, str]]:
        """Arms that may be the reference, by their places."""
        return [(str(place), name) for place, name in enumerate(self.form.titles)]

    @property
    def _sent(self) -> Mapping[str, str]:
        return {f"{TUNING}of": self.form.tuning} | dict(self.form.values)

    @property
    def metric(self) -> MetricName:
        """The metric of the verdict."""
        chosen = self.form.values["metric"]
        return next((name for name in self.task.metrics if name == chosen), TASKS[self.form.task].metric)

    @property
    def metric_title(self) -> str:
        """Its name within a sentence."""
        return title(self.metric)

    @property
    def metric_definition(self) -> str:
        """Its definition within a sentence."""
        return _(METRICS[self.metric].definition)

    @property
    def metric_hint(self) -> str:
        """Its definition as a sentence."""
        return f"{capitalized(self.metric_definition)}."

    @cached_property
    def budget(self) -> Fields:
        """The fields that all arms share."""
        views = (
            FieldView.of(TRAINING_FIELDS, TRAINING, field, self.form.budget_value(field.name), self.errors_of)
            for field in self.form.budget
            if field.name != "max_new_tokens" or self.task.generates_text
        )
        return Fields.of(views, TRAINING_FIELDS)

    @cached_property
    def tuning(self) -> Fields:
        """The fields of the chosen kind of tuning."""
        form = self.form
        views = (
            FieldView.of(TUNING_FIELDS, TUNING, field, form.tuning_value(field), self.errors_of)
            for field in TUNINGS[form.tuning]
        )
        return Fields.of(views, TUNING_FIELDS)

    @property
    def tuning_options(self) -> list[tuple[str, str]]:
        """The kinds of tuning."""
        return tuning_text.options()

    @property
    def tuning_hint(self) -> str:
        """What the chosen kind does."""
        return tuning_text.hint(self.form.tuning)

    def has_field(self, path: str) -> bool:
        """The page has a field that an error of this path can link to."""
        return path in OWN_LABELS or path in self.budget.paths or path in self.tuning.paths or super().has_field(path)


@dataclass(frozen=True, kw_only=True)
class AddedArmPage(PlanningPage):
    """The form of an arm for an existing study; its names are those of the first arm of a new study's form."""

    study: StudyRow
    arm: ArmForm | None
    """None until a method is chosen."""
    whole_study = False

    @property
    def edited_at(self) -> str:
        """Where the form is sent to be edited."""
        return f"/studies/{self.study.id}/arms/new"

    @property
    def planned_at(self) -> str:
        """Where the form is sent for an estimate."""
        return f"/studies/{self.study.id}/arms/plan"

    @property
    def owed_runs(self) -> str:
        """What the arm will run."""
        return owed_runs(self.study.spec)

    @property
    def reference_title(self) -> str:
        """The reference arm of the study."""
        return self.study.spec.reference_arm

    @cached_property
    def arms(self) -> tuple[ArmFields, ...]:
        """The arm that is added."""
        if self.arm is None:
            return ()
        spec, planned = self.study.spec, self.plan.spec if self.plan else None
        name = planned.arms[-1].title if planned else self.arm.title
        rates = tuning_text.rate_list(planned.rates(planned.arms[-1])) if planned else ""
        usual = {"weight_decay": f"{spec.training.weight_decay:g}"} | _rates(bool(spec.tuning.rounds), rates)
        return (ArmFields.of(0, self.arm, name, self.model, usual, self.errors_of),)

    def has_field(self, path: str) -> bool:
        """The page has a field that an error of this path can link to."""
        return path == "insist" or super().has_field(path)

    def name_of(self, path: str) -> str:
        """A field as an error names it: without its arm, since there is only one."""
        return label(path, [])


def _rates(tuned: bool, rates: str) -> dict[str, str]:
    """What the empty field of learning rates means; nothing without tuning."""
    return {"learning_rates": rates or _("a grid around it")} if tuned else {}
