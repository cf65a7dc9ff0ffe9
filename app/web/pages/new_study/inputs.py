"""What a study is on: the base models and datasets to choose from, and what the chosen ones can do together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from sqlalchemy.orm import Session

from app.domain.data.dataset import DatasetFacts
from app.domain.models.architecture import TaskModel
from app.domain.models.base_model import ModelFacts
from app.domain.tasks import METRICS, TASKS, MetricName, Task, generates
from app.store.data import queries as datasets
from app.store.models import queries as base_models
from app.store.tables import BaseModelRow, DatasetRow
from app.web.pages.new_study.arms import new_arm, offers
from app.web.pages.new_study.form import StudyForm
from app.words.i18n import gettext as _

FIRST_ARMS = ("full", "lora", "head-only")
"""The arms of a new study, as far as they are compatible with its model."""


@dataclass(frozen=True)
class StudyInputs:
    """A form, and what it can be filled in with."""

    form: StudyForm
    models: Sequence[BaseModelRow]
    newest: Mapping[str, DatasetRow]
    """The newest version of each dataset, by name."""
    versions: Mapping[str, DatasetRow]
    """Every version that is ready, by its reference, for a form that names one."""

    @classmethod
    def of(cls, session: Session, form: StudyForm) -> "StudyInputs":
        """The form with values that the chosen model and data allow."""
        return cls._everything(session, form)._settled()

    @classmethod
    def first(cls, session: Session, dataset: str, base_model: str, task: str) -> "StudyInputs":
        """A new form: the named model, else the sample or another that is ready and can use the named data; the named
        data, else the first on which the model can do the named task, or any."""
        inputs = cls._everything(session, StudyForm.new(dataset=dataset, task=task))
        ready = [(m, facts) for m in inputs.models if (facts := m.facts)]
        ready.sort(key=lambda pair: (pair[0].name != base_model, pair[0].source != "sample"))
        data = inputs.dataset
        usable = (pair for pair in ready if data is None or possible_tasks(pair[1], data.facts))
        model, model_facts = next(usable, next(iter(ready), (None, None)))
        if data is None:
            tasks = {name: possible_tasks(model_facts, row.facts) for name, row in inputs.newest.items()}
            dataset = min(tasks, key=lambda name: (task not in tasks[name], not tasks[name]), default="")
            data = inputs.newest.get(dataset)
        name = default_name(model.name, title_of(dataset, data)) if model and data else ""
        form = inputs.form.with_values(base_model=model.name if model else "", dataset=dataset, name=name)
        inputs = replace(inputs, form=form)._settled()
        able = {method.kind for _family, _title, some in offers(inputs.task_model) for method, why in some if not why}
        arms = tuple(new_arm(kind, inputs.task_model) for kind in FIRST_ARMS if kind in able)
        return replace(inputs, form=replace(inputs.form, arms=arms))

    @classmethod
    def _everything(cls, session: Session, form: StudyForm) -> "StudyInputs":
        ready = [row for row in datasets.all_versions(session) if row.status == "ready"]  # the newest of a name first
        newest = {row.name: row for row in reversed(ready)}
        return cls(
            form=form,
            models=base_models.everyone(session),
            newest={name: newest[name] for name in sorted(newest)},
            versions={row.reference: row for row in ready},
        )

    def _settled(self) -> "StudyInputs":
        """With a task, a metric and a general text that model and data allow, and with the default name for them unless
        the study has a name of its own."""
        tasks = self.tasks or list(self.impossible_tasks)
        form = self.form.limited("task", tasks, next(iter(tasks), ""))
        names = {default_name(m.name, title_of(name, row)) for m in self.models for name, row in self.newest.items()}
        if self.model and self.dataset and form.values["name"] in names:
            title = title_of(form.values["dataset"], self.dataset)
            form = form.with_values(name=default_name(self.model.name, title))
        inputs = replace(self, form=form)
        form = form.limited("metric", inputs.metrics).limited("general_text", inputs.general_texts)
        return replace(inputs, form=form)

    @property
    def datasets(self) -> dict[str, DatasetRow]:
        """The newest version of each dataset by name, after the version that the form names."""
        chosen = self.form.values["dataset"]
        return {name: row for name, row in self.versions.items() if name == chosen} | dict(self.newest)

    @cached_property
    def model(self) -> BaseModelRow | None:
        return next((m for m in self.models if m.name == self.form.values["base_model"]), None)

    @cached_property
    def dataset(self) -> DatasetRow | None:
        """The chosen dataset, or version of one."""
        return self.datasets.get(self.form.values["dataset"])

    @cached_property
    def model_facts(self) -> ModelFacts | None:
        return self.model.facts if self.model else None

    @cached_property
    def data_facts(self) -> DatasetFacts | None:
        return self.dataset.facts if self.dataset else None

    @property
    def tasks(self) -> list[Task]:
        """What the data can serve and the model can do; a missing choice rules nothing out."""
        return possible_tasks(self.model_facts, self.data_facts)

    @property
    def impossible_tasks(self) -> dict[Task, str]:
        """What the data could serve, and why the model cannot do it."""
        facts, served = self.model_facts, possible_tasks(None, self.data_facts)
        return {task: facts.unable.get(task, "") for task in served if task not in facts.tasks} if facts else {}

    @property
    def metrics(self) -> list[MetricName]:
        """What the verdict can rest on, the task's default first."""
        task = TASKS[self.form.task]
        plain = self.data_facts is not None and self.data_facts.format == "text"  # without prompts to generate from
        able = [name for name in task.metrics if METRICS[name].per_item and not (plain and generates(name))]
        return sorted(able, key=lambda name: name != task.metric)

    @property
    def general_texts(self) -> dict[str, DatasetRow]:
        """Datasets of plain text on which forgetting can be measured; none for a task that is no language model's."""
        if not TASKS[self.form.task].forgets_as:
            return {}
        chosen = self.dataset.name if self.dataset else ""
        return {name: row for name, row in self.newest.items() if row.facts.format == "text" and name != chosen}

    @property
    def task_model(self) -> TaskModel | None:
        """The chosen model with a head for the task and the data; None where it is not known or cannot do the task."""
        return task_model(self.model_facts, self.form.task, self.data_facts)


def task_model(model: ModelFacts | None, task: Task, data: DatasetFacts | None) -> TaskModel | None:
    """A model with a head for a task and as many labels as the data has; None where it cannot do the task."""
    if model is None or task not in model.tasks:
        return None
    return model.task_model(task, len(data.labels) if data else 2)


def possible_tasks(model: ModelFacts | None, data: DatasetFacts | None) -> list[Task]:
    """The tasks that data can serve and a model can do, as far as they are known."""
    return [task for task in (data.tasks if data else TASKS) if model is None or task in model.tasks]


def title_of(name: str, row: DatasetRow) -> str:
    """The title of a dataset; one that is chosen by its reference has its version in it."""
    title = row.title or row.name
    return title if name == row.name else _("%(title)s, version %(number)s", title=title, number=row.version)


def default_name(base_model: str, dataset_title: str) -> str:
    """The name of a study until it is given another."""
    return _("%(data)s on %(model)s", data=dataset_title, model=base_model)
