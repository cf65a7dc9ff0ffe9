"""The contexts of both pages: a new study, and an arm that is added to an existing one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from app.domain.errors import FieldError
from app.domain.methods import Family, MethodFacts
from app.domain.models.architecture import TaskModel
from app.domain.resources.memory_fit import FitReport
from app.domain.studies.plan import StudyPlan
from app.domain.studies.spec import StudySpec
from app.domain.tasks import TASKS, Task
from app.services.studies.plan import PlannedStudy
from app.store.tables import DatasetRow, StudyRow
from app.web.figures.drawing.render import content_hash
from app.web.figures.resources.memory_fit import MemoryFitFigure
from app.web.forms.errors import HasErrors
from app.web.forms.fields import Fields
from app.web.pages.new_study.arm_form import ArmForm
from app.web.pages.new_study.arms import ArmFields, offers
from app.web.pages.new_study.form import BUDGET, TUNING, TUNINGS, StudyForm
from app.web.pages.new_study.inputs import StudyInputs, title_of
from app.web.pages.new_study.text import OWN_LABELS, label, owed_runs
from app.words.data.data import format_of, task_options
from app.words.format import capitalized, typed
from app.words.i18n import gettext as _
from app.words.runs import metrics
from app.words.runs.fields import TRAINING_FIELDS, TUNING_FIELDS
from app.words.studies import tuning as tuning_text
from app.words.studies.power import alternative_options


@dataclass(frozen=True, kw_only=True)
class PlanningPage(HasErrors):
    """What both pages share: arms, their estimates, and errors."""

    model: TaskModel | None
    """The chosen base model with a head for the task; None while it is not known."""
    planned: PlannedStudy | None
    """None for a form with errors."""
    plan_errors: tuple[FieldError, ...]
    errors: tuple[FieldError, ...] = ()
    insists: bool = False
    """Whether the box is ticked that queues runs that fit no worker."""
    focus: str = ""
    """The field that gets the focus, since the pressed button may be gone."""

    @property
    def arms(self) -> tuple[ArmFields, ...]:
        raise NotImplementedError

    @property
    def plan(self) -> StudyPlan | None:
        """The runs of the study, their times, and its power."""
        return self.planned.plan if self.planned else None

    @cached_property
    def memory(self) -> MemoryFitFigure | None:
        """The memory that each arm needs, and where it fits."""
        if self.planned is None:
            return None
        return MemoryFitFigure.of(self.planned.memory, [arm.family for arm in self.planned.plan.arms])

    @property
    def pending(self) -> bool:
        return any(report.pending for report in self._reports)

    @property
    def version(self) -> str:
        """A hash of the estimates: a page that shows the same need not be rendered again."""
        return content_hash(*self._reports) if self._reports else ""

    @property
    def unchecked(self) -> str:
        """The arms that a tuning budget of seconds is not checked against; empty if there are none."""
        if self.planned is None:
            return ""
        return tuning_text.unchecked_budget(self.planned.plan.spec, self.planned.trials.least_train_seconds)

    @property
    def _reports(self) -> list[FitReport]:
        """Reports of the memory and, where they differ, of the trials."""
        if self.planned is None:
            return []
        memory, trials = self.planned.memory, self.planned.trials
        return [memory] if trials is memory else [memory, trials]

    @property
    def offers(self) -> list[tuple[Family, str, list[tuple[MethodFacts, str]]]]:
        """The methods that another arm may have."""
        return offers(self.model)

    @property
    def snapshot(self) -> str:
        """The planned form as JSON, to poll for its estimates: without what is being typed meanwhile."""
        values = {"seen": self.version} | dict(self.own_values)
        return json.dumps(values | {name: text for arm in self.arms for name, text in arm.sent.items()})

    @property
    def own_values(self) -> Mapping[str, str]:
        """Values that the form sends, without those of its arms."""
        return {}

    def has_field(self, path: str) -> bool:
        """The page has a field that an error of this path can link to."""
        return any(
            path in arm.fields.paths or path in arm.search.paths or path == f"arms.{arm.place}.method.kind"
            for arm in self.arms
        )

    def name_of(self, path: str) -> str:
        """A field as an error names it."""
        return label(path, [arm.title for arm in self.arms])


@dataclass(frozen=True, kw_only=True)
class NewStudyPage(PlanningPage):
    inputs: StudyInputs
    yaml: str = ""
    private: bool = False
    """Only the owner is to see it."""
    whole_study = True
    address = "/studies"
    """The form is sent below it: to be edited to `/new`, for an estimate to `/plan`."""

    @property
    def form(self) -> StudyForm:
        return self.inputs.form

    @cached_property
    def arms(self) -> tuple[ArmFields, ...]:
        form = self.form
        budget = {field.name: form.values.get(path, field.default) for path, field in BUDGET.items()}
        return tuple(
            ArmFields.of(place, arm, title, self.model, form.tuning_spec, budget, self.errors_of)
            for place, (arm, title) in enumerate(zip(form.arms, form.titles, strict=True))
        )

    @property
    def reference_title(self) -> str:
        return self.form.reference_title

    @property
    def shown_margin(self) -> str:
        """The margin of the plan, in points: a study that leaves its own open gets this one, even if a run that ends
        meanwhile would make it another."""
        return typed(round(100 * self.plan.power.margin, 6)) if self.plan else ""

    @property
    def reference_options(self) -> list[tuple[str, str]]:
        """Arms that may be the reference, by their places."""
        return [("", _("the first full arm")), *((str(place), name) for place, name in enumerate(self.form.titles))]

    @property
    def alternative_options(self) -> list[tuple[str, str]]:
        """The questions that a study can ask."""
        return alternative_options()

    @property
    def own_values(self) -> Mapping[str, str]:
        """Values that the form sends, without those of its arms."""
        return {f"{TUNING}of": self.form.tuning} | dict(self.form.values)

    @property
    def datasets(self) -> list[tuple[str, str, str, DatasetRow]]:
        """The datasets to choose from: value, title, format of the rows."""
        options = self.inputs.datasets.items()
        return [(name, title_of(name, row), format_of(row.facts.format), row) for name, row in options]

    @property
    def tasks(self) -> list[tuple[Task, str]]:
        return task_options(self.inputs.tasks)

    @property
    def impossible_tasks(self) -> list[tuple[str, str]]:
        """The titles of the impossible tasks, and why they are."""
        return [(_(TASKS[task].title), capitalized(why)) for task, why in self.inputs.impossible_tasks.items()]

    @property
    def metric_options(self) -> list[tuple[str, str]]:
        """The metrics; the task's default is the empty choice."""
        return [("" if place == 0 else name, metrics.title(name)) for place, name in enumerate(self.inputs.metrics)]

    @property
    def metric(self) -> tuple[str, str]:
        """Title and definition of the verdict's metric, within a sentence."""
        chosen, default = self.form.values["metric"], TASKS[self.form.task].metric
        name = next((name for name in self.inputs.metrics if name == chosen), default)
        return metrics.title(name), metrics.definition(name)

    @property
    def metric_hint(self) -> str:
        return f"{capitalized(self.metric[1])}."

    @property
    def general_text_options(self) -> list[tuple[str, str]]:
        texts = self.inputs.general_texts.items()
        none = ("", _("none: forgetting is not measured"))
        return [none, *((name, title_of(name, row)) for name, row in texts)] if texts else []

    @cached_property
    def budget(self) -> Fields:
        data = self.inputs.data_facts
        writes = TASKS[self.form.task].writes(data.format if data else "prompt-completion")
        fields = {path: f for path, f in self.form.budget.items() if writes or f.name != "max_new_tokens"}
        return Fields.of(TRAINING_FIELDS, fields, self.form.values, self.errors_of)

    @cached_property
    def tuning(self) -> Fields:
        """The fields of the chosen kind of tuning."""
        return Fields.of(TUNING_FIELDS, TUNINGS[self.form.tuning], self.form.values, self.errors_of)

    @property
    def tuning_options(self) -> list[tuple[str, str]]:
        return tuning_text.options()

    @property
    def together_options(self) -> list[tuple[str, str]]:
        """Which runs may train together; none where the loss compares the rows of a batch."""
        return [] if TASKS[self.form.task].sequences > 1 else tuning_text.together_options()

    @property
    def together(self) -> str:
        return self.form.values["train_together"] or str(StudySpec.model_fields["train_together"].default)

    @property
    def more_open(self) -> bool:
        """Something below “More choices” is wrong, has the focus or differs from a new form."""
        selects = {name: str(StudySpec.model_fields[name].default) for name in ("alternative", "train_together")}
        new = dict(StudyForm.new().values) | selects
        paths = {*selects, "reference", f"{TUNING}kind", *self.budget.paths}
        chosen = any((text := self.form.values.get(path)) and text != new[path] for path in paths)
        paths |= {"name", "tuning", *self.tuning.paths}
        return chosen or self.focus in paths or any(map(self.errors_of, paths))

    def has_field(self, path: str) -> bool:
        """The page has a field that an error of this path can link to."""
        return path in OWN_LABELS or path in self.budget.paths or path in self.tuning.paths or super().has_field(path)


@dataclass(frozen=True, kw_only=True)
class AddedArmPage(PlanningPage):
    """The form of an arm for an existing study; its names are those of the first arm of a new study's form."""

    study: StudyRow
    arm: ArmForm | None
    """None until a method is chosen."""
    raised_confidence: float | None
    """Confidence of the study's verdicts, if adding an arm is an interim look."""
    whole_study = False

    @property
    def address(self) -> str:
        """The form is sent below it, as that of a new study."""
        return f"/studies/{self.study.id}/arms"

    @property
    def owed_runs(self) -> str:
        return owed_runs(self.study.spec)

    @property
    def reference_title(self) -> str:
        return self.study.spec.reference_arm

    @cached_property
    def arms(self) -> tuple[ArmFields, ...]:
        if self.arm is None:
            return ()
        spec, title = self.study.spec, self.plan.spec.arms[-1].title if self.plan else self.arm.title
        budget = {field.name: field.written(getattr(spec.training, field.name)) for field in BUDGET.values()}
        return (ArmFields.of(0, self.arm, title, self.model, spec.tuning, budget, self.errors_of),)

    def has_field(self, path: str) -> bool:
        """The page has a field that an error of this path can link to."""
        return path == "insist" or super().has_field(path)

    def name_of(self, path: str) -> str:
        """A field as an error names it: without its arm, since there is only one."""
        return label(path, [])
