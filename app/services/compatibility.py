"""Compatibility of method, base model and data, checked before anything is queued; errors name fields and remedies.

A request checks once and passes the result on.
"""

from typing import NamedTuple, NoReturn

from sqlalchemy.orm import Session

from app.domain.data.dataset import Split
from app.domain.data.versions import reference_in
from app.domain.errors import FieldError, Invalid
from app.domain.messages import _
from app.domain.methods import AnyMethod
from app.domain.models.base_model import ModelFacts
from app.domain.models.positions import crowded, too_long
from app.domain.resources.estimate import EstimateSpec
from app.domain.runs.spec import RunSpec
from app.domain.studies.spec import StudySpec
from app.domain.tasks import TASKS, generates
from app.services import workers
from app.store.queries import base_models, datasets
from app.store.tables import BaseModelRow, DatasetRow

REQUIRED_SPLITS: tuple[Split, ...] = ("train", "test")
"""Without a validation split the last weights are kept; without one of these there is nothing to do."""

Spec = RunSpec | StudySpec | EstimateSpec


class Compatible(NamedTuple):
    """The base model and the dataset of a spec that passed."""

    model: BaseModelRow
    dataset: DatasetRow


def check(session: Session, spec: RunSpec | StudySpec, *, queueing: bool = True, since: int = 0) -> Compatible:
    """Check a run, or a study's arms from the place `since` on. Raises Invalid. `queueing`: a worker must have the
    capabilities that the methods require."""
    model, dataset, problems = _check(session, spec, queueing=queueing, since=since)
    if isinstance(spec, StudySpec) and spec.tuning.rounds and dataset and not dataset.facts.counts.get("validation"):
        what = _(
            "%(name)s has no rows in its validation split, which tuning needs to choose learning rates",
            name=dataset.name,
        )
        problems.append(FieldError("tuning", what, _("Choose another dataset, or set tuning to none")))
    if problems or model is None or dataset is None:
        _refuse(problems)
    return Compatible(model, dataset)


def check_estimate(session: Session, spec: EstimateSpec) -> tuple[BaseModelRow | None, DatasetRow | None]:
    """Check as far as a base model and a dataset are named. Raises Invalid. A pasted config is only inspected by a
    worker."""
    model, dataset, problems = _check(session, spec, queueing=False, since=0)
    if problems:
        _refuse(problems)
    return model, dataset


def _check(
    session: Session, spec: Spec, *, queueing: bool, since: int
) -> tuple[BaseModelRow | None, DatasetRow | None, list[FieldError]]:
    model, dataset, problems = _look_up(session, spec)
    for path, method in _methods(spec)[since:]:
        errors = [workers.lacking(session, method.needs) if queueing else None]
        if model and (facts := model.facts):
            errors.append(facts.incompatibility(method, spec.task))
            errors.append(crowded(facts, spec.task, spec.training, method, writes=_writes(spec, dataset)))
        problems += [FieldError(f"{path}.{error.path}", error.message, error.remedy) for error in errors if error]
        if clash := method.clash(spec.training):  # its path is the budget's, which a study's arms share
            problems.append(clash)
    return model, dataset, problems


def _methods(spec: Spec) -> list[tuple[str, AnyMethod]]:
    """Each method with its path."""
    match spec:
        case RunSpec():
            return [("method", spec.method)]
        case StudySpec():
            return [(f"arms.{place}.method", arm.method) for place, arm in enumerate(spec.arms)]
        case _:
            return [(f"methods.{place}", method) for place, method in enumerate(spec.methods)]


def _writes(spec: Spec, dataset: DatasetRow | None) -> bool:
    return dataset is not None and TASKS[spec.task].writes(dataset.facts.format)


def _task_problems(model: BaseModelRow, facts: ModelFacts, spec: Spec) -> list[FieldError]:
    """What the task wants of the base model."""
    problems = []
    if spec.task not in facts.tasks:
        able = ", ".join(facts.tasks)
        why = facts.unable.get(spec.task)
        what = (
            _("%(name)s does not support %(task)s: %(why)s", name=model.name, task=spec.task, why=why)
            if why
            else _("%(name)s was not inspected for %(task)s", name=model.name, task=spec.task)
        )
        problems.append(FieldError("task", what, _("Use %(name)s for: %(tasks)s", name=model.name, tasks=able)))
    return problems


def _data_problems(dataset: DatasetRow, facts: ModelFacts | None, spec: Spec) -> list[FieldError]:
    """What the task and the metric want of the rows."""
    form = dataset.facts.format
    if form not in TASKS[spec.task].formats:
        formats, able = " or ".join(TASKS[spec.task].formats), " or ".join(dataset.facts.tasks)
        what = _(
            "%(task)s trains on rows of %(formats)s, but %(name)s has rows of %(format)s",
            task=spec.task,
            formats=formats,
            name=dataset.name,
            format=form,
        )
        return [FieldError("task", what, _("Use this dataset for: %(tasks)s", tasks=able))]
    problems = [
        FieldError(
            "dataset",
            _("%(name)s has no rows in its %(split)s split", name=dataset.name, split=split),
            _("Choose another dataset"),
        )
        for split in REQUIRED_SPLITS
        if not dataset.facts.counts.get(split)
    ]
    if form == "text" and generates(spec.verdict_metric):
        what = _(
            "%(metric)s scores generated text, but rows of plain text have no prompt to generate from",
            metric=spec.verdict_metric,
        )
        problems.append(FieldError("metric", what, _("Use token_accuracy")))
    if form == "messages" and facts is not None and not facts.chat_template:
        what = _("The base model's tokenizer has no chat template for messages")
        problems.append(
            FieldError("base_model", what, _("Choose a chat model, or a dataset of prompts and completions"))
        )
    if spec.training.packing and spec.task != "causal-lm":
        problems.append(
            FieldError("training.packing", _("Rows of %(task)s cannot be packed", task=spec.task), _("Set it to false"))
        )
    return problems


def _general_text_problems(session: Session, name: str | None, learnt: str | None) -> list[FieldError]:
    """Forgetting is measured on plain texts that the model does not learn from."""
    if name is None:
        return []
    texts = [d for d in datasets.everyone(session) if d.facts.format == "text" and d.facts.counts.get("test")]
    able = ", ".join(d.name for d in texts if d.name != learnt) or "none yet"
    remedy = _("Choose a dataset of plain text: %(names)s", names=able)
    if learnt and reference_in(name).name == reference_in(learnt).name:
        what = _("Forgetting is measured on other texts than the model trains on")
        return [FieldError("general_text", what, _("%(remedy)s; or leave it out", remedy=remedy))]
    dataset = datasets.by_name(session, name)
    if dataset is None:
        return [FieldError("general_text", _("There is no dataset %(name)r", name=name), remedy)]
    if dataset.facts.format != "text":
        return [
            FieldError(
                "general_text",
                _("%(name)r has rows of %(format)s, not plain text", name=name, format=dataset.facts.format),
                remedy,
            )
        ]
    if not dataset.facts.counts.get("test"):
        what = _("%(name)r has no rows in its test split, on which forgetting is measured", name=name)
        return [FieldError("general_text", what, remedy)]
    return []


def _look_up(session: Session, spec: Spec) -> tuple[BaseModelRow | None, DatasetRow | None, list[FieldError]]:
    model_name, dataset_name = spec.base_model, spec.dataset
    problems = _general_text_problems(session, spec.general_text, spec.dataset)
    model = base_models.by_name(session, model_name) if model_name else None
    if model is None and model_name:
        known = ", ".join(m.name for m in base_models.everyone(session)) or "none yet"
        problems.append(
            FieldError(
                "base_model",
                _("There is no base model %(name)r", name=model_name),
                _("Choose from: %(names)s; or register it with POST /api/v1/models", names=known),
            )
        )
    elif model and model.status != "ready":
        remedy = (
            _("Try again in a few seconds")
            if model.status == "inspecting"
            else _("Register it again under another name")
        )
        what = (
            _("The base model %(name)r is still being inspected", name=model.name)
            if model.status == "inspecting"
            else _("The base model %(name)r cannot be used: %(why)s", name=model.name, why=model.message)
        )
        problems.append(FieldError("base_model", what, remedy))
    dataset = datasets.by_name(session, dataset_name) if dataset_name else None
    if dataset is None and dataset_name:
        known = ", ".join(d.name for d in datasets.everyone(session)) or "none yet"
        problems.append(
            FieldError(
                "dataset",
                _("There is no dataset %(name)r", name=dataset_name),
                _("Choose from: %(names)s", names=known),
            )
        )
    facts = model.facts if model else None
    if model and facts:
        problems += _task_problems(model, facts, spec)
        problems += too_long(facts, spec.training, writes=_writes(spec, dataset))
    if dataset:
        problems += _data_problems(dataset, facts, spec)
    return model, dataset, problems


def _refuse(problems: list[FieldError]) -> NoReturn:
    problems = list(dict.fromkeys(problems))  # two arms may have the same one with the budget
    raise Invalid.of(problems)
