"""Does a spec fit what is registered? Asked before anything is queued; answers with the fields and the remedies."""

from typing import NoReturn

from sqlalchemy.orm import Session

from app.domain.data.dataset import Split
from app.domain.data.versions import reference_in
from app.domain.errors import FieldError, Invalid
from app.domain.messages import _
from app.domain.methods import AnyMethod
from app.domain.models.base_model import ModelFacts
from app.domain.models.positions import crowded, too_long
from app.domain.resources.memory_fit import EstimateSpec
from app.domain.runs.spec import RunSpec
from app.domain.studies.spec import StudySpec
from app.domain.tasks import TASKS, generates
from app.services import workers
from app.store.queries import base_models, datasets
from app.store.tables import BaseModelRow, DatasetRow

NEEDED: tuple[Split, ...] = ("train", "test")
"""Without a validation split the last weights are kept; without one of these there is nothing to do."""


Asked = RunSpec | StudySpec | EstimateSpec


def check_run(session: Session, spec: RunSpec, *, queueing: bool = True) -> tuple[BaseModelRow, DatasetRow]:
    """The base model and the dataset of a run. Raises Invalid. `queueing`: a worker must be able to carry it out."""
    model, dataset, problems = _look_up(session, spec)
    problems += _method_problems(session, model, dataset, spec, spec.method, "method", queueing=queueing)
    return _all_or_nothing(model, dataset, problems)


def check_study(
    session: Session, spec: StudySpec, *, queueing: bool = True, since: int = 0
) -> tuple[BaseModelRow, DatasetRow]:
    """The base model and the dataset of a study, every arm checked from the place `since` on; otherwise as
    `check_run`."""
    model, dataset, problems = _look_up(session, spec)
    for place, arm in list(enumerate(spec.arms))[since:]:
        path = f"arms.{place}.method"
        problems += _method_problems(session, model, dataset, spec, arm.method, path, queueing=queueing)
    if spec.tuning.rounds and dataset and not dataset.facts.counts.get("validation"):
        what = _("%(name)s has no row in its validation split, by which learning rates are chosen", name=dataset.name)
        problems.append(FieldError("tuning", what, _("a dataset with one, or tuning: none")))
    return _all_or_nothing(model, dataset, problems)


def check_request(session: Session, asked: EstimateSpec) -> tuple[BaseModelRow | None, DatasetRow | None]:
    """The base model and the dataset, as far as they are named. Raises Invalid; of a pasted config, little is known
    before a worker has looked at it."""
    model, dataset, problems = _look_up(session, asked)
    for place, method in enumerate(asked.methods):
        problems += _method_problems(session, model, dataset, asked, method, f"methods.{place}", queueing=False)
    if problems:
        _refuse(problems)
    return model, dataset


def _method_problems(
    session: Session,
    model: BaseModelRow | None,
    dataset: DatasetRow | None,
    spec: Asked,
    method: AnyMethod,
    path: str,
    *,
    queueing: bool,
) -> list[FieldError]:
    """Why the method fits neither the base model nor the budget, and why no worker could carry it out."""
    found = [workers.lacking(session, method.needs) if queueing else None]
    if model and (facts := model.facts):
        found.append(facts.incompatibility(method, spec.task))
        found.append(crowded(facts, spec.task, spec.training, method, writes=_writes(spec, dataset)))
    below = [FieldError(f"{path}.{error.path}", error.message, error.remedy) for error in found if error]
    clash = method.clash(spec.training)  # its path is the budget's, which a study's arms share
    return [*below, clash] if clash else below


def _writes(spec: Asked, dataset: DatasetRow | None) -> bool:
    return dataset is not None and TASKS[spec.task].writes(dataset.facts.format)


def _task_problems(model: BaseModelRow, facts: ModelFacts, spec: Asked) -> list[FieldError]:
    """What the task wants of the base model."""
    problems = []
    if spec.task not in facts.tasks:
        able = ", ".join(facts.tasks)
        why = facts.unable.get(spec.task, f"{model.name} was not inspected for it")
        problems.append(FieldError("task", why.rstrip("."), _("%(name)s can do: %(able)s", name=model.name, able=able)))
    return problems


def _data_problems(dataset: DatasetRow, facts: ModelFacts | None, spec: Asked) -> list[FieldError]:
    """What the task and the metric want of the rows."""
    form = dataset.facts.format
    if form not in TASKS[spec.task].formats:
        wanted, able = " or ".join(TASKS[spec.task].formats), " or ".join(dataset.facts.tasks)
        what = _(
            "%(task)s learns from rows of %(wanted)s, and %(name)s holds %(form)s",
            task=spec.task,
            wanted=wanted,
            name=dataset.name,
            form=form,
        )
        return [FieldError("task", what, _("with this dataset: %(able)s", able=able))]
    problems = [
        FieldError(
            "dataset",
            _("%(name)s has no row in its %(split)s split", name=dataset.name, split=split),
            _("a dataset with one"),
        )
        for split in NEEDED
        if not dataset.facts.counts.get(split)
    ]
    if form == "text" and generates(spec.verdict_metric):
        what = _(
            "%(verdict_metric)s judges generated text, and rows of plain text have no prompt to begin from",
            verdict_metric=spec.verdict_metric,
        )
        problems.append(FieldError("metric", what, _("token_accuracy")))
    if form == "messages" and facts is not None and not facts.chat_template:
        what = _("the base model's tokenizer has no chat template to write messages with")
        problems.append(FieldError("base_model", what, _("a chat model, or a dataset of prompts and completions")))
    if spec.training.packing and spec.task != "causal-lm":
        problems.append(
            FieldError("training.packing", _("rows of %(task)s are not packed", task=spec.task), _("false"))
        )
    return problems


def _general_text_problems(session: Session, name: str | None, learnt: str | None) -> list[FieldError]:
    """Forgetting is measured on plain texts that the model does not learn from."""
    if name is None:
        return []
    texts = [d for d in datasets.everyone(session) if d.facts.format == "text" and d.facts.counts.get("test")]
    able = ", ".join(d.name for d in texts if d.name != learnt) or "none yet"
    remedy = _("datasets of plain text: %(able)s", able=able)
    if learnt and reference_in(name).name == reference_in(learnt).name:
        what = _("forgetting is measured on other texts than the model learns from")
        return [FieldError("general_text", what, _("%(remedy)s; or leave it out", remedy=remedy))]
    found = datasets.by_name(session, name)
    if found is None:
        return [FieldError("general_text", _("there is no dataset %(name)r", name=name), remedy)]
    if found.facts.format != "text":
        return [
            FieldError(
                "general_text",
                _("%(name)r holds rows of %(format)s, not plain text", name=name, format=found.facts.format),
                remedy,
            )
        ]
    if not found.facts.counts.get("test"):
        what = _("%(name)r has no row in its test split, on which forgetting is measured", name=name)
        return [FieldError("general_text", what, remedy)]
    return []


def _look_up(session: Session, spec: Asked) -> tuple[BaseModelRow | None, DatasetRow | None, list[FieldError]]:
    model_name, dataset_name = spec.base_model, spec.dataset
    problems = _general_text_problems(session, spec.general_text, spec.dataset)
    model = base_models.by_name(session, model_name) if model_name else None
    if model is None and model_name:
        known = ", ".join(m.name for m in base_models.everyone(session)) or "none yet"
        problems.append(
            FieldError(
                "base_model",
                _("there is no base model %(model_name)r", model_name=model_name),
                _("registered: %(known)s; register another with POST /api/v1/models", known=known),
            )
        )
    elif model and model.status != "ready":
        remedy = (
            _("try again in a few seconds")
            if model.status == "inspecting"
            else _("register it again under another name")
        )
        what = (
            _("is still being inspected")
            if model.status == "inspecting"
            else _("cannot be used: %(message)s", message=model.message)
        )
        problems.append(
            FieldError(
                "base_model", _("the base model %(model_name)r %(what)s", model_name=model_name, what=what), remedy
            )
        )
    dataset = datasets.by_name(session, dataset_name) if dataset_name else None
    if dataset is None and dataset_name:
        known = ", ".join(d.name for d in datasets.everyone(session)) or "none yet"
        problems.append(
            FieldError(
                "dataset",
                _("there is no dataset %(dataset_name)r", dataset_name=dataset_name),
                _("registered: %(known)s", known=known),
            )
        )
    facts = model.facts if model else None
    if model and facts:
        problems += _task_problems(model, facts, spec)
        problems += too_long(facts, spec.training, writes=_writes(spec, dataset))
    if dataset:
        problems += _data_problems(dataset, facts, spec)
    return model, dataset, problems


def _all_or_nothing(
    model: BaseModelRow | None, dataset: DatasetRow | None, problems: list[FieldError]
) -> tuple[BaseModelRow, DatasetRow]:
    if problems or model is None or dataset is None:
        _refuse(problems)
    return model, dataset


def _refuse(problems: list[FieldError]) -> NoReturn:
    problems = list(dict.fromkeys(problems))  # two arms may have the same one with the budget
    message = "; ".join(p.message for p in problems)
    raise Invalid(message[:1].upper() + message[1:], problems)
