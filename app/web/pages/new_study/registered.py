"""What is registered, as the form of a new study sees it: which choices rule which others out."""

from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from app.domain.models.architecture import TaskModel
from app.domain.tasks import TASKS
from app.store.queries import base_models, datasets
from app.web.pages.new_study.arm import new_arm, offers
from app.web.pages.new_study.context import DataChoice, ModelChoice, TaskStep
from app.web.pages.new_study.form import StudyForm, usual_name
from app.web.pages.new_study.task import metric_choices, task_choices

FIRST_ARMS = ("full", "lora", "head-only")
"""What a new study begins with, as far as they fit."""


@dataclass(frozen=True)
class Registered:
    """Base models and datasets, by name."""

    models: tuple[ModelChoice, ...]
    data: tuple[DataChoice, ...]
    """The newest version of each name."""
    versions: tuple[DataChoice, ...] = ()
    """Every version that is ready, by its reference, for a form that names one."""

    @classmethod
    def of(cls, session: Session) -> "Registered":
        """Everything that is there now."""
        return cls(
            tuple(ModelChoice.of(row) for row in base_models.everyone(session)),
            tuple(DataChoice.of(row) for row in datasets.everyone(session)),
            tuple(DataChoice.version(row) for row in datasets.all_versions(session) if row.status == "ready"),
        )

    def first_form(self, dataset: str = "", base_model: str = "", task: str = "") -> StudyForm:
        """A blank form: the named model, else the sample or another that is ready; the named data, else the first on
        which it can do the task, or something. On data that is named, the first model that can do something."""
        models = sorted((m for m in self.models if m.facts), key=lambda m: (m.name != base_model, m.source != "sample"))
        asked = next((d for d in (*self.data, *self.versions) if d.name == dataset), None)
        suited = (m for m in models if asked is None or task_choices(m.facts, asked.facts).able)
        model = next(suited, next(iter(models), None))
        tasks = {d.name: task_choices(model.facts if model else None, d.facts).able for d in self.data}
        data = asked or min(self.data, key=lambda d: (task not in tasks[d.name], not tasks[d.name]), default=None)
        form = StudyForm.new(model.name if model else "", data.name if data else "", data.title if data else "")
        form = form.within("task", (), task)
        found = self.task_model(self.settled(form))
        able = {offer.facts.kind for family in offers(found) for offer in family.methods if not offer.incompatibility}
        return replace(form, arms=tuple(new_arm(kind, found) for kind in FIRST_ARMS if kind in able))

    def model(self, form: StudyForm) -> ModelChoice | None:
        """The chosen base model."""
        return next((m for m in self.models if m.name == form.values["base_model"]), None)

    def dataset(self, form: StudyForm) -> DataChoice | None:
        """The chosen dataset, or version of one."""
        return next((d for d in (*self.data, *self.versions) if d.name == form.values["dataset"]), None)

    def offered(self, form: StudyForm) -> tuple[DataChoice, ...]:
        """The newest of each name, and the version that the form names."""
        named = tuple(d for d in self.versions if d.name == form.values["dataset"])
        return (*named, *self.data)

    def settled(self, form: StudyForm) -> StudyForm:
        """The form with a task, a metric and general texts that the chosen model and data allow, and named after them
        unless it has a name of its own."""
        found = self.step(form).choices
        tasks = found.able or tuple(task for task, _why in found.unable)
        form = form.within("task", tasks, next(iter(tasks), ""))
        model, data = self.model(form), self.dataset(form)
        if model and data and form.values["name"] in self._usual_names():
            form = form.named(usual_name(model.name, data.title))
        step = self.step(form)
        return form.within("metric", step.metrics).within("general_text", [text.name for text in step.texts])

    def step(self, form: StudyForm) -> TaskStep:
        """Which tasks, metrics and general texts there are to choose from."""
        model, data = self.model(form), self.dataset(form)
        facts = data.facts if data else None
        texts = tuple(d for d in self.data if d.facts.format == "text" and d != data)
        return TaskStep(
            choices=task_choices(model.facts if model else None, facts),
            metrics=metric_choices(form.task, facts),
            texts=() if TASKS[form.task].adds_head else texts,
        )

    def task_model(self, form: StudyForm) -> TaskModel | None:
        """The chosen model as the task sees it, with as many labels as the data has; None until that can be told."""
        model, data = self.model(form), self.dataset(form)
        if model is None or model.facts is None or form.task not in model.facts.tasks:
            return None
        return model.facts.task_model(form.task, len(data.facts.labels) if data else 2)

    def _usual_names(self) -> set[str]:
        return {usual_name(model.name, data.title) for model in self.models for data in self.data}
