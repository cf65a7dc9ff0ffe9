"""The registered models and datasets, and what they can do together: tasks, metrics, general texts, arms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from sqlalchemy.orm import Session

from app.domain.data.dataset import DatasetFacts
from app.domain.models.architecture import TaskModel
from app.domain.models.base_model import ModelFacts
from app.domain.tasks import METRICS, TASKS, MetricName, Task, generates
from app.store.queries import base_models, datasets
from app.store.tables import BaseModelRow, DatasetRow
from app.web.format import capitalized
from app.web.i18n import gettext as _
from app.web.pages.new_study.arms import new_arm, offers
from app.web.pages.new_study.form import StudyForm, default_name
from app.web.text.data import format_of
from app.web.text.metrics import title

FIRST_ARMS = ("full", "lora", "head-only")
"""The arms of a new study, as far as they are compatible with its model."""


@dataclass(frozen=True)
class DataChoice:
    """A dataset, or one version of it."""

    name: str
    title: str
    facts: DatasetFacts

    @classmethod
    def of(cls, row: DatasetRow) -> "DataChoice":
        """The newest version of a name."""
        return cls(row.name, row.title or row.name, row.facts)

    @property
    def rows(self) -> str:
        """The format of its rows."""
        return format_of(self.facts.format)

    @classmethod
    def version(cls, row: DatasetRow) -> "DataChoice":
        """Exactly this version."""
        title = _("%(title)s, version %(number)s", title=row.title or row.name, number=row.version)
        return cls(row.reference, title, row.facts)


@dataclass(frozen=True)
class TaskStep:
    """The tasks, metrics and general texts to choose from."""

    possible: tuple[Task, ...]
    """What the data can serve and the model can do; a missing choice rules nothing out."""
    impossible: tuple[tuple[Task, str], ...]
    """What the data could serve, and why the model cannot do it."""
    metrics: tuple[MetricName, ...]
    """What the verdict can rest on, the task's default first."""
    texts: tuple[DataChoice, ...]
    """Datasets of plain text on which forgetting can be measured; none for a task with a new head."""

    @classmethod
    def of(
        cls, task: Task, model: ModelFacts | None, data: DatasetFacts | None, texts: Sequence[DataChoice]
    ) -> "TaskStep":
        """For a chosen task."""
        served = data.tasks if data else tuple(TASKS)
        plain = data is not None and data.format == "text"  # without prompts to generate from
        metrics = [name for name in TASKS[task].metrics if METRICS[name].per_item and not (plain and generates(name))]
        return cls(
            possible=_possible(model, data),
            impossible=tuple((t, model.unable.get(t, "")) for t in served if t not in model.tasks) if model else (),
            metrics=tuple(sorted(metrics, key=lambda name: name != TASKS[task].metric)),
            texts=() if TASKS[task].adds_head else tuple(texts),
        )

    @property
    def able(self) -> list[tuple[str, str]]:
        """The possible tasks with their titles."""
        return [(task, capitalized(_(TASKS[task].title))) for task in self.possible]

    @property
    def unable(self) -> list[tuple[str, str]]:
        """The titles of the impossible tasks, and why they are."""
        return [(_(TASKS[task].title), capitalized(why)) for task, why in self.impossible]

    @property
    def generates_text(self) -> bool:
        """The model is also tested on generated text."""
        return any(generates(metric) for metric in self.metrics)

    @property
    def metric_options(self) -> list[tuple[str, str]]:
        """The metrics; the task's default is the empty choice."""
        return [("" if place == 0 else name, title(name)) for place, name in enumerate(self.metrics)]

    @property
    def text_options(self) -> list[tuple[str, str]]:
        """The general texts."""
        return [("", _("none: forgetting is not measured")), *((text.name, text.title) for text in self.texts)]


@dataclass(frozen=True)
class Choices:
    """Base models and datasets, by name."""

    models: tuple[BaseModelRow, ...]
    newest: tuple[DataChoice, ...]
    """The newest version of each dataset."""
    versions: tuple[DataChoice, ...] = ()
    """Every version that is ready, by its reference, for a form that names one."""

    @classmethod
    def of(cls, session: Session) -> "Choices":
        """Everything that is registered."""
        versions = (row for row in datasets.all_versions(session) if row.status == "ready")
        return cls(
            tuple(base_models.everyone(session)),
            tuple(map(DataChoice.of, datasets.everyone(session))),
            tuple(map(DataChoice.version, versions)),
        )

    def first_form(self, dataset: str = "", base_model: str = "", task: str = "") -> StudyForm:
        """A new form: the named model, else the sample or another that is ready and can use the named data; the named
        data, else the first on which the model can do the named task, or any."""
        models = sorted((m for m in self.models if m.facts), key=lambda m: (m.name != base_model, m.source != "sample"))
        named = next((d for d in (*self.newest, *self.versions) if d.name == dataset), None)
        usable = (m for m in models if named is None or _possible(m.facts, named.facts))
        model = next(usable, next(iter(models), None))
        tasks = {d.name: _possible(model.facts if model else None, d.facts) for d in self.newest}
        data = named or min(self.newest, key=lambda d: (task not in tasks[d.name], not tasks[d.name]), default=None)
        form = StudyForm.new(model.name if model else "", data.name if data else "", data.title if data else "")
        form = form.limited("task", (), task)
        chosen = self.task_model(self.settled(form))
        possible = {offer.kind for _family, _title, methods in offers(chosen) for offer in methods if not offer.problem}
        return replace(form, arms=tuple(new_arm(kind, chosen) for kind in FIRST_ARMS if kind in possible))

    def model(self, form: StudyForm) -> BaseModelRow | None:
        """The chosen base model."""
        return next((m for m in self.models if m.name == form.values["base_model"]), None)

    def dataset(self, form: StudyForm) -> DataChoice | None:
        """The chosen dataset, or version of one."""
        return next((d for d in (*self.newest, *self.versions) if d.name == form.values["dataset"]), None)

    def data(self, form: StudyForm) -> tuple[DataChoice, ...]:
        """The newest version of each dataset, and the version that the form names."""
        return (*(d for d in self.versions if d.name == form.values["dataset"]), *self.newest)

    def settled(self, form: StudyForm) -> StudyForm:
        """The form with a task, a metric and a general text that the chosen model and data allow, and with the default
        name for them unless it has a name of its own."""
        step = self.step(form)
        tasks = step.possible or tuple(task for task, _why in step.impossible)
        form = form.limited("task", tasks, next(iter(tasks), ""))
        model, data = self.model(form), self.dataset(form)
        if model and data and form.values["name"] in self._default_names:
            form = form.with_values(name=default_name(model.name, data.title))
        step = self.step(form)
        return form.limited("metric", step.metrics).limited("general_text", [text.name for text in step.texts])

    def step(self, form: StudyForm) -> TaskStep:
        """The tasks, metrics and general texts for the chosen model and data."""
        model, data = self.model(form), self.dataset(form)
        texts = [d for d in self.newest if d.facts.format == "text" and d != data]
        return TaskStep.of(form.task, model.facts if model else None, data.facts if data else None, texts)

    def task_model(self, form: StudyForm) -> TaskModel | None:
        """The chosen model with a head for the task and the data; None where it is not known or cannot do the task."""
        model, data = self.model(form), self.dataset(form)
        return task_model(model.facts if model else None, form.task, data.facts if data else None)

    @cached_property
    def _default_names(self) -> set[str]:
        return {default_name(model.name, data.title) for model in self.models for data in self.newest}


def task_model(model: ModelFacts | None, task: Task, data: DatasetFacts | None) -> TaskModel | None:
    """A model with a head for a task and as many labels as the data has; None where it cannot do the task."""
    if model is None or task not in model.tasks:
        return None
    return model.task_model(task, len(data.labels) if data else 2)


def _possible(model: ModelFacts | None, data: DatasetFacts | None) -> tuple[Task, ...]:
    served = data.tasks if data else tuple(TASKS)
    return tuple(task for task in served if model is None or task in model.tasks)
