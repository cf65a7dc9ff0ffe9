"""Does a spec fit what is registered? Asked before anything is queued; answers with the fields and the remedies."""

from sqlalchemy.orm import Session

from app.domain.errors import FieldError, Invalid
from app.domain.models import ModelFacts
from app.domain.runs import RunSpec
from app.domain.studies import StudySpec
from app.store.queries import base_models, datasets
from app.store.tables import BaseModelRow, DatasetRow


def check_run(session: Session, spec: RunSpec) -> tuple[BaseModelRow, DatasetRow]:
    """The base model and the dataset of a run. Raises Invalid."""
    model, dataset, problems = _look_up(session, spec.base_model, spec.dataset)
    if model and (facts := model.facts):
        problems += _too_long(facts, spec.training.max_length)
        if unfit := facts.unfit(spec.method):
            problems.append(FieldError(f"method.{unfit.path}", unfit.message, unfit.remedy))
    return _all_or_nothing(model, dataset, problems)


def check_study(session: Session, spec: StudySpec) -> tuple[BaseModelRow, DatasetRow]:
    """The base model and the dataset of a study, every arm checked. Raises Invalid."""
    model, dataset, problems = _look_up(session, spec.base_model, spec.dataset)
    if model and (facts := model.facts):
        problems += _too_long(facts, spec.training.max_length)
        for place, arm in enumerate(spec.arms):
            if unfit := facts.unfit(arm.method):
                problems.append(FieldError(f"arms.{place}.method.{unfit.path}", unfit.message, unfit.remedy))
    return _all_or_nothing(model, dataset, problems)


def _too_long(facts: ModelFacts, max_length: int) -> list[FieldError]:
    if facts.max_positions is None or max_length <= facts.max_positions:
        return []
    what = f"{facts.architecture} has {facts.max_positions} positions, so it cannot read {max_length} tokens"
    return [FieldError("training.max_length", what, f"at most {facts.max_positions}")]


def _look_up(
    session: Session, model_name: str, dataset_name: str
) -> tuple[BaseModelRow | None, DatasetRow | None, list[FieldError]]:
    problems = []
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
    return model, dataset, problems


def _all_or_nothing(
    model: BaseModelRow | None, dataset: DatasetRow | None, problems: list[FieldError]
) -> tuple[BaseModelRow, DatasetRow]:
    if problems or model is None or dataset is None:
        message = "; ".join(p.message for p in problems)
        raise Invalid(message[:1].upper() + message[1:], problems)
    return model, dataset
