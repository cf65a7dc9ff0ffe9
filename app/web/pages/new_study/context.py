"""The context of the form of a new study."""

import json
from dataclasses import dataclass

from app.domain.data.dataset import DatasetFacts
from app.domain.errors import FieldError
from app.domain.models.base_model import ModelFacts
from app.domain.studies.plan import StudyPlan
from app.domain.tasks import METRICS, TASKS, MetricName, generates
from app.services.study_plan import PlannedStudy
from app.store.tables import BaseModelRow, DatasetRow
from app.web.figures.memory_fit import MemoryFitFigure
from app.web.format import capitalized
from app.web.forms.field_context import Fields, view
from app.web.i18n import gettext as _
from app.web.i18n import marked
from app.web.pages.new_study.arm import FamilyOffer, NewArm
from app.web.pages.new_study.arm_form import sent
from app.web.pages.new_study.form import TRAINING, TUNING, StudyForm
from app.web.pages.new_study.task import TaskChoices
from app.web.pages.new_study.tuning import NewTuning, rounds
from app.web.text.data import format_of
from app.web.text.fields import TRAINING_FIELDS, TUNING_FIELDS, of_arm, words
from app.web.text.metrics import title

OWN_NAMES = {
    "name": marked("Name of the study"),
    "base_model": marked("Model"),
    "dataset": marked("Data"),
    "task": marked("Task"),
    "metric": marked("Metric"),
    "general_text": marked("General text"),
    "arms": marked("Arms"),
    "margin_points": marked("Margin"),
    "seeds": marked("Seeds"),
    "reference": marked("Reference"),
    "tuning": marked("Tuning"),
    "insist": marked("Memory"),
}


def memory_figure(planned: PlannedStudy | None) -> MemoryFitFigure | None:
    """The memory of a plan's arms."""
    return MemoryFitFigure.of(planned.memory, [arm.family for arm in planned.plan.arms]) if planned else None


@dataclass(frozen=True)
class ModelChoice:
    """A base model that one may choose."""

    name: str
    source: str
    status: str
    message: str
    facts: ModelFacts | None

    @classmethod
    def of(cls, row: BaseModelRow) -> "ModelChoice":
        """From its row."""
        return cls(row.name, row.source, row.status, row.message, row.facts)


@dataclass(frozen=True)
class DataChoice:
    """A dataset that one may choose."""

    name: str
    title: str
    facts: DatasetFacts

    @classmethod
    def of(cls, row: DatasetRow) -> "DataChoice":
        """From its row."""
        return cls(row.name, row.title or row.name, row.facts)

    @classmethod
    def version(cls, row: DatasetRow) -> "DataChoice":
        """From its row, as just this version."""
        title = _("%(title)s, version %(number)s", title=row.title or row.name, number=row.version)
        return cls(row.reference, title, row.facts)

    @property
    def rows(self) -> str:
        """What its rows are."""
        return format_of(self.facts.format)


@dataclass(frozen=True)
class TaskStep:
    """What the model is to do with the data, and how that is judged."""

    choices: TaskChoices
    metrics: tuple[MetricName, ...]
    texts: tuple[DataChoice, ...]
    """Datasets of plain texts on which forgetting can be measured; none where nothing could be forgotten."""

    @property
    def able(self) -> list[tuple[str, str]]:
        """The tasks to choose from, with their titles."""
        return [(task, capitalized(_(TASKS[task].title))) for task in self.choices.able]

    @property
    def unable(self) -> list[tuple[str, str]]:
        """Tasks that the data could serve, and why the model cannot do them."""
        return [(_(TASKS[task].title), capitalized(why)) for task, why in self.choices.unable]

    @property
    def writes(self) -> bool:
        """The model is tested by what it writes after a prompt too, whatever the verdict rests on."""
        return any(generates(metric) for metric in self.metrics)

    @property
    def metric_options(self) -> list[tuple[str, str]]:
        """The metrics that a verdict can rest on; the task's own is what an empty choice means."""
        return [("" if place == 0 else name, title(name)) for place, name in enumerate(self.metrics)]

    @property
    def text_options(self) -> list[tuple[str, str]]:
        """The general texts to choose from."""
        return [("", _("none: forgetting is not measured")), *((text.name, text.title) for text in self.texts)]


@dataclass(frozen=True)
class NewStudyPage:
    """The form, what it would take, and what is wrong with it."""

    form: StudyForm
    models: tuple[ModelChoice, ...]
    data: tuple[DataChoice, ...]
    task: TaskStep
    arms: tuple[NewArm, ...]
    offers: tuple[FamilyOffer, ...]
    plan: StudyPlan | None
    """None for a form that is not complete."""
    plan_errors: tuple[FieldError, ...] = ()
    """Why not."""
    memory: MemoryFitFigure | None = None
    insists: bool = False
    """The box is ticked that queues what fits no worker."""
    errors: tuple[FieldError, ...] = ()
    yaml: str = ""
    focus: str = ""
    """Where the keyboard goes: the button that was pressed may be gone."""
    whole_study: bool = True
    """The form has the budget too, and arms come and go; else it is that of an arm for a study that is there."""
    edited_at: str = "/studies/new"
    """Where the form is sent to be changed."""
    planned_at: str = "/studies/plan"
    """Where it is asked what it would take."""

    @property
    def reference_title(self) -> str:
        """The arm that the others are held against."""
        return self.form.reference_title

    @property
    def snapshot(self) -> str:
        """The form as it was planned, as JSON: what is asked again while estimates are worked out. What is being typed
        meanwhile is no part of it."""
        own = {"seen": self.memory.version if self.memory else "", f"{TUNING}of": self.form.tuning}
        return json.dumps(own | dict(self.form.values) | sent(self.form.arms))

    @property
    def metric(self) -> MetricName:
        """What the verdict will rest on."""
        chosen = self.form.values["metric"]
        return next((name for name in self.task.metrics if name == chosen), TASKS[self.form.task].metric)

    @property
    def metric_title(self) -> str:
        """Its name within a sentence."""
        return title(self.metric)

    @property
    def metric_definition(self) -> str:
        """What it is, within a sentence."""
        return _(METRICS[self.metric].definition)

    @property
    def metric_hint(self) -> str:
        """What it is, as a sentence."""
        return f"{capitalized(self.metric_definition)}."

    @property
    def budget(self) -> Fields:
        """The fields that all arms share."""
        views = (
            view(TRAINING_FIELDS, TRAINING, field, self.form.budget_value(field.name), self.errors_of)
            for field in self.form.budget
            if field.name != "max_new_tokens" or self.task.writes
        )
        return Fields.of(views, TRAINING_FIELDS)

    @property
    def tuning(self) -> NewTuning:
        """How learning rates are looked for."""
        return NewTuning.of(self.form, self.errors_of)

    @property
    def rounds(self) -> str:
        """What each arm tries, in words."""
        return rounds(self.plan.spec.tuning) if self.plan else ""

    @property
    def reference_options(self) -> list[tuple[str, str]]:
        """Arms that may be the reference; a name that was typed and fits none is kept."""
        titles = dict.fromkeys(arm.title for arm in self.form.arms) | dict.fromkeys([self.form.values["reference"]])
        return [(title, title) for title in titles if title]

    def errors_of(self, path: str) -> list[FieldError]:
        """What is wrong with a field."""
        return [error for error in self.errors if error.path == path]

    def has_field(self, path: str) -> bool:
        """An error of that path has a place on the page that can be gone to."""
        arms = {path for arm in self.arms for path in (*arm.fields.paths, f"arms.{arm.place}.method.kind")}
        return path in OWN_NAMES or path in arms or path in self.budget.paths or path in self.tuning.fields.paths

    def name_of(self, path: str) -> str:
        """A field as one would say it: `LoRA r=8, rank`; empty where an error is about no single field."""
        head, _dot, last = path.rpartition(".")
        if path in OWN_NAMES:
            return _(OWN_NAMES[path])
        if head == TUNING.rstrip("."):
            return words(TUNING_FIELDS, last).label
        if head == TRAINING.rstrip("."):
            return words(TRAINING_FIELDS, last).label
        if not head.startswith("arms."):
            return last
        place, _dot, rest = head.removeprefix("arms.").partition(".")
        arm = self.form.arms[int(place)].title if place.isdecimal() and int(place) < len(self.form.arms) else ""
        label = of_arm(rest)
        return arm if last == "kind" else f"{arm}, {label[:1].lower()}{label[1:]}" if arm else label
