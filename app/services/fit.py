"""Does a spec fit what is registered? Asked before anything is queued; answers with the fields and the remedies."""

from sqlalchemy.orm import Session

from app.domain.errors import FieldError, Invalid
from app.domain.methods import AnyMethod
from app.domain.models import ModelFacts
from app.domain.runs import RunSpec
from app.domain.studies import StudySpec
from app.domain.tasks import TASKS, Task, generates
from app.services import workers
from app.store.queries import base_models, datasets
from app.store.tables import BaseModelRow, DatasetRow


def check_run(session: Session, spec: RunSpec) -> tuple[BaseModelRow, DatasetRow]:
    """The base model and the dataset of a run. Raises Invalid."""
    model, dataset, problems = _look_up(session, spec)
    problems += _method_problems(session, model, spec.method, spec.task, "method")
    return _all_or_nothing(model, dataset, problems)


def check_study(session: Session, spec: StudySpec) -> tuple[BaseModelRow, DatasetRow]:
    """The base model and the dataset of a study, every arm checked. Raises Invalid."""
    model, dataset, problems = _look_up(session, spec)
    for place, arm in enumerate(spec.arms):
        problems += _method_problems(session, model, arm.method, spec.task, f"arms.{place}.method")
    return _all_or_nothing(model, dataset, problems)


def _method_problems(
    session: Session, model: BaseModelRow | None, method: AnyMethod, task: Task, path: str
) -> list[FieldError]:
    """Why the method does not fit the base model, and why no worker could carry it out."""
    found = [workers.lacking(session, method.needs)]
    if model and (facts := model.facts):
        found.append(facts.unfit(method, task))
    return [FieldError(f"{path}.{error.path}", error.message, error.remedy) for error in found if error]


def _task_problems(model: BaseModelRow, facts: ModelFacts, spec: RunSpec | StudySpec) -> list[FieldError]:
    """What the task wants of the base model."""
    problems = []
    if spec.task not in facts.tasks:
        able = ", ".join(facts.tasks)
        why = facts.unable.get(spec.task, f"{model.name} was not inspected for it")
        problems.append(FieldError("task", why.rstrip("."), f"{model.name} can do: {able}"))
    if facts.max_positions is not None and spec.training.max_length > facts.max_positions:
        what = (
            f"{facts.architecture} has {facts.max_positions} positions, so it cannot read "
            f"{spec.training.max_length} tokens"
        )
        problems.append(FieldError("training.max_length", what, f"at most {facts.max_positions}"))
    return problems


def _data_problems(dataset: DatasetRow, facts: ModelFacts | None, spec: RunSpec | StudySpec) -> list[FieldError]:
    """What the task and the metric want of the rows."""
    form = dataset.facts.format
    if form not in TASKS[spec.task].formats:
        wanted, able = " or ".join(TASKS[spec.task].formats), " or ".join(dataset.facts.tasks)
        what = f"{spec.task} learns from rows of {wanted}, and {dataset.name} holds {form}"
        return [FieldError("task", what, f"with this dataset: {able}")]
    problems = []
    if form == "text" and generates(spec.verdict_metric):
        what = f"{spec.verdict_metric} judges generated text, and rows of plain text have no prompt to begin from"
        problems.append(FieldError("metric", what, "token_accuracy"))
    if form == "messages" and facts is not None and not facts.chat_template:
        what = "the base model's tokenizer has no chat template to write messages with"
        problems.append(FieldError("base_model", what, "a chat model, or a dataset of prompts and completions"))
    if spec.training.packing and spec.task != "causal-lm":
        problems.append(FieldError("training.packing", f"rows of {spec.task} are not packed", "false"))
    return problems


def _general_text_problems(session: Session, name: str | None) -> list[FieldError]:
    """Forgetting is measured on plain texts."""
    if name is None:
        return []
    found = datasets.by_name(session, name)
    texts = ", ".join(d.name for d in datasets.everyone(session) if d.facts.format == "text") or "none yet"
    if found is None:
        return [FieldError("general_text", f"there is no dataset {name!r}", f"datasets of plain text: {texts}")]
    if found.facts.format != "text":
        what = f"{name!r} holds rows of {found.facts.format}, not plain text"
        return [FieldError("general_text", what, f"datasets of plain text: {texts}")]
    return []


def _look_up(
    session: Session, spec: RunSpec | StudySpec
) -> tuple[BaseModelRow | None, DatasetRow | None, list[FieldError]]:
    model_name, dataset_name = spec.base_model, spec.dataset
    problems = _general_text_problems(session, spec.general_text)
    model = base_models.by_name(session, model_name)
    if model is None:
        known = ", ".join(m.name for m in base_models.everyone(session)) or "none yet"
        problems.append(
            FieldError(
                "base_model",
                f"there is no base model {model_name!r}",
                f"registered: {known}; register another with POST /api/v1/models",
            )
        )
    elif model.status != "ready":
        remedy = (
            "try again in a few seconds" if model.status == "inspecting" else "register it again under another name"
        )
        what = "is still being inspected" if model.status == "inspecting" else f"cannot be used: {model.message}"
        problems.append(FieldError("base_model", f"the base model {model_name!r} {what}", remedy))
    dataset = datasets.by_name(session, dataset_name)
    if dataset is None:
        known = ", ".join(d.name for d in datasets.everyone(session)) or "none yet"
        problems.append(FieldError("dataset", f"there is no dataset {dataset_name!r}", f"registered: {known}"))
    facts = model.facts if model else None
    if model and facts:
        problems += _task_problems(model, facts, spec)
    if dataset:
        problems += _data_problems(dataset, facts, spec)
    return model, dataset, problems


def _all_or_nothing(
    model: BaseModelRow | None, dataset: DatasetRow | None, problems: list[FieldError]
) -> tuple[BaseModelRow, DatasetRow]:
    if problems or model is None or dataset is None:
        message = "; ".join(p.message for p in problems)
        raise Invalid(message[:1].upper() + message[1:], problems)
    return model, dataset
