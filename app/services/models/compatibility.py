"""Compatibility of method, base model and data, checked before anything is queued; errors name fields and remedies.

A request checks once and passes the result on.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy.orm import Session

from app.domain.data.dataset import CHATS, DatasetFacts, Split
from app.domain.data.versions import reference_in
from app.domain.errors import FieldError, Invalid
from app.domain.messages import _
from app.domain.methods import AnyMethod
from app.domain.models.base_model import ModelFacts
from app.domain.models.positions import crowded, too_long
from app.domain.resources.estimate import EstimateSpec
from app.domain.runs.in_batch import clash_of
from app.domain.runs.spec import RunSpec
from app.domain.studies.budget_checks import budget_problem
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.search_space import Configuration
from app.domain.tasks import TASKS, generates
from app.services.workers import workers
from app.store.data import queries as datasets
from app.store.database.ownership import owner_of
from app.store.models import hub_tokens
from app.store.models import queries as base_models
from app.store.tables import BaseModelRow, DatasetRow

REQUIRED_SPLITS: tuple[Split, ...] = ("train", "test")
"""Without a validation split the last weights are kept; without one of these there is nothing to do."""

Spec = RunSpec | StudySpec | EstimateSpec


class Compatible(NamedTuple):
    """The base model and the dataset of a spec that passed."""

    model: BaseModelRow
    dataset: DatasetRow


def check(
    session: Session,
    spec: RunSpec | StudySpec,
    *,
    queueing: bool = True,
    since: int = 0,
    owner_id: int | None = None,
) -> Compatible:
    """Check a run, or a study's arms from the place `since` on. Raises Invalid. `queueing`: a worker must have the
    capabilities that the methods require. `owner_id`: the owner of the study, if that is not the session's user."""
    model, dataset, problems = _check(session, spec, queueing=queueing, since=since, owner_id=owner_id)
    if isinstance(spec, StudySpec) and spec.tuning.rounds and dataset and not dataset.facts.counts.get("validation"):
        what = _(
            "%(name)s has no rows in its validation split, which tuning needs to choose a configuration",
            name=dataset.name,
        )
        problems.append(FieldError("tuning", what, _("Choose another dataset, or set tuning to none")))
    rows = dataset.facts.counts.get("train") if dataset else None
    if isinstance(spec, StudySpec) and rows and (problem := budget_problem(spec, rows)):
        problems.append(problem)
    if problems or model is None or dataset is None:
        raise Invalid.of(problems)
    return Compatible(model, dataset)


def check_estimate(session: Session, spec: EstimateSpec) -> tuple[BaseModelRow | None, DatasetRow | None]:
    """Check as far as a base model and a dataset are named. Raises Invalid. A pasted config is only inspected by a
    worker."""
    model, dataset, problems = _check(session, spec, queueing=False, since=0)
    if problems:
        raise Invalid.of(problems)
    return model, dataset


def _check(
    session: Session, spec: Spec, *, queueing: bool, since: int, owner_id: int | None = None
) -> tuple[BaseModelRow | None, DatasetRow | None, list[FieldError]]:
    model = base_models.by_name(session, spec.base_model) if spec.base_model else None
    dataset = datasets.by_name(session, spec.dataset) if spec.dataset else None
    facts, rows = model.facts if model else None, dataset.facts if dataset else None
    writes = rows is not None and TASKS[spec.task].writes(rows.format)
    problems = [
        *_general_text_problems(session, spec.general_text, spec.dataset),
        *_missing(session, spec, model, dataset, owner_id or owner_of(session)),
    ]
    if model and facts:
        problems += [*_task_problems(model.name, facts, spec), *too_long(facts, spec.training, writes=writes)]
    if dataset and rows:
        problems += _data_problems(dataset.name, rows, facts, spec)
    if queueing and (error := workers.lacking(session, spec.training.needed)):
        problems.append(FieldError("training.compile_blocks", error.message, error.remedy))
    for path, method in _methods(spec)[since:]:
        errors = [workers.lacking(session, method.needed) if queueing else None]
        if facts:
            errors.append(facts.incompatibility(method, spec.task))
            errors.append(crowded(facts, spec.task, spec.training, method, writes=writes))
        problems += [FieldError(f"{path}.{error.path}", error.message, error.remedy) for error in errors if error]
    problems += _clashes(spec, since)
    if isinstance(spec, StudySpec) and facts:
        problems += _rank_problems(facts, spec, since)
    return model, dataset, list(dict.fromkeys(problems))  # two arms may have the same one with the budget


def _clashes(spec: Spec, since: int) -> Iterator[FieldError]:
    """Training arguments that do not work with a method: those of the budget, or that an arm sets or searches."""
    if not isinstance(spec, StudySpec):
        yield from (clash for _path, m in _methods(spec)[since:] if (clash := clash_of(m, spec.task, spec.training)))
        return
    for place, arm in enumerate(spec.arms[since:], since):
        if clash := clash_of(arm.method, spec.task, spec.training_of(arm)):
            name = clash.path.removeprefix("training.")
            own = getattr(arm, name, None) is not None
            yield replace(clash, path=f"arms.{place}.{name}") if own else clash
            continue
        sizes = [value for name, value in arm.search.extremes() if name == "batch_size"] if arm.search else []
        for size in sorted({int(size) for size in sizes}, reverse=True):
            searched = arm.at(Configuration(batch_size=size), spec.training)
            if clash := clash_of(arm.method, spec.task, searched.training(spec.training)):
                remedy = _("Search none below 2") if size == 1 else _("Search none above the batch size")
                yield replace(clash, path=f"arms.{place}.search.batch_size", remedy=remedy)
                break


def _rank_problems(facts: ModelFacts, spec: StudySpec, since: int) -> Iterator[FieldError]:
    """Ranks to search that are too high for the base model."""
    for place, arm in enumerate(spec.arms[since:], since):
        error = facts.incompatibility(arm.largest.method, spec.task) if arm.largest is not arm else None
        if error and not facts.incompatibility(arm.method, spec.task):
            yield FieldError(f"arms.{place}.search.r", error.message, error.remedy)


def _methods(spec: Spec) -> list[tuple[str, AnyMethod]]:
    """Each method with its path."""
    match spec:
        case RunSpec():
            return [("method", spec.method)]
        case StudySpec():
            return [(f"arms.{place}.method", arm.method) for place, arm in enumerate(spec.arms)]
        case _:
            return [(f"methods.{place}", method) for place, method in enumerate(spec.methods)]


def _missing(
    session: Session, spec: Spec, model: BaseModelRow | None, dataset: DatasetRow | None, owner_id: int | None
) -> Iterator[FieldError]:
    """A base model or a dataset that does not exist, or a base model that is not ready, or not for the owner."""
    if spec.base_model and model is None:
        names = ", ".join(m.name for m in base_models.everyone(session)) or "none yet"
        remedy = _("Choose from: %(names)s; or register it with POST /api/v1/models", names=names)
        yield FieldError("base_model", _("There is no base model %(name)r", name=spec.base_model), remedy)
    elif model and model.status == "inspecting":
        what = _("The base model %(name)r is still being inspected", name=model.name)
        yield FieldError("base_model", what, _("Try again in a few seconds"))
    elif model and model.status != "ready":
        what = _("The base model %(name)r cannot be used: %(why)s", name=model.name, why=model.message)
        yield FieldError("base_model", what, _("Register it again under another name"))
    elif model and model.restricted and owner_id is not None and hub_tokens.of_user(session, owner_id) is None:
        if owner_id != owner_of(session):
            what = _("The hub opens %(name)s to some accounts only, and the owner has no token of one", name=model.name)
            yield FieldError("base_model", what, _("Ask the owner to store one on the page Account"))
            return
        what = _("The hub opens %(name)s to some accounts only, and you have stored no token of one", name=model.name)
        yield FieldError("base_model", what, _("Store a hub token with access on the page Account"))
    if spec.dataset and dataset is None:
        names = ", ".join(d.name for d in datasets.everyone(session)) or "none yet"
        what = _("There is no dataset %(name)r", name=spec.dataset)
        yield FieldError("dataset", what, _("Choose from: %(names)s", names=names))


def _task_problems(name: str, facts: ModelFacts, spec: Spec) -> Iterator[FieldError]:
    """A task that the base model does not support."""
    if spec.task not in facts.tasks:
        if why := facts.unable.get(spec.task):
            what = _("%(name)s does not support %(task)s: %(why)s", name=name, task=spec.task, why=why)
        else:
            what = _("%(name)s was not inspected for %(task)s", name=name, task=spec.task)
        remedy = _("Use %(name)s for: %(tasks)s", name=name, tasks=", ".join(facts.tasks))
        yield FieldError("task", what, remedy)


def _data_problems(name: str, rows: DatasetFacts, facts: ModelFacts | None, spec: Spec) -> Iterator[FieldError]:
    """Rows that the task or the metric cannot use."""
    if rows.format not in TASKS[spec.task].formats:
        what = _(
            "%(task)s trains on rows of %(formats)s, but %(name)s has rows of %(format)s",
            task=spec.task,
            formats=" or ".join(TASKS[spec.task].formats),
            name=name,
            format=rows.format,
        )
        yield FieldError("task", what, _("Use this dataset for: %(tasks)s", tasks=" or ".join(rows.tasks)))
        return
    for split in REQUIRED_SPLITS:
        if not rows.counts.get(split):
            what = _("%(name)s has no rows in its %(split)s split", name=name, split=split)
            yield FieldError("dataset", what, _("Choose another dataset"))
    if rows.format == "text" and generates(spec.verdict_metric):
        what = _(
            "%(metric)s scores generated text, but rows of plain text have no prompt to generate from",
            metric=spec.verdict_metric,
        )
        yield FieldError("metric", what, _("Use token_accuracy"))
    if rows.format in CHATS and facts is not None and not facts.chat_template:
        what = _("The base model's tokenizer has no chat template for messages")
        yield FieldError("base_model", what, _("Choose a chat model, or a dataset of prompts and completions"))
    elif rows.format in CHATS and facts is not None and facts.chat_parts is not None:
        for part, of_rows in rows.chat_parts.items():
            if part not in facts.chat_parts:
                what = _(
                    "The base model's chat template does not render %(part)s, which %(count)s rows of %(name)s have "
                    "(%(items)s)",
                    part=part,
                    count=f"{of_rows.count:,}",
                    name=name,
                    items=", ".join(of_rows.items),
                )
                yield FieldError("base_model", what, _("Choose another base model, or leave it out of the rows"))
    task = TASKS[spec.task]
    if spec.training.packing and not task.packs:
        what = _("Rows of %(task)s cannot be packed", task=spec.task)
        yield FieldError("training.packing", what, _("Set it to false"))
    if spec.training.padding_free:
        if task.reads == "images":
            what = _("Images have one size, so their batches have no padding")
            yield FieldError("training.padding_free", what, _("Set it to false"))
        elif not task.blockwise:
            what = _("Batches of %(task)s need padding", task=spec.task)
            yield FieldError("training.padding_free", what, _("Set it to false"))
        elif spec.training.packing:
            what = _("Packed rows have no batches of their own to free from padding")
            yield FieldError("training.padding_free", what, _("Set packing or padding_free to false"))
    if spec.training.compile_blocks:
        if task.encoder_decoder:
            what = _("Blocks of %(task)s are not compiled: encoder and decoder differ", task=spec.task)
            yield FieldError("training.compile_blocks", what, _("Set it to false"))
        elif not task.blockwise:
            what = _("Compiled blocks were not tested with %(task)s", task=spec.task)
            yield FieldError("training.compile_blocks", what, _("Set it to false"))
        elif spec.training.packing or spec.training.padding_free:
            what = _("Compiled blocks were not tested with packed rows or padding-free batches")
            yield FieldError("training.compile_blocks", what, _("Set it to false, or packing and padding_free"))


def _general_text_problems(session: Session, name: str | None, trained_on: str | None) -> Iterator[FieldError]:
    """Forgetting is measured on plain texts that the model does not learn from."""
    if name is None:
        return
    texts = [d for d in datasets.everyone(session) if d.facts.format == "text" and d.facts.counts.get("test")]
    names = ", ".join(d.name for d in texts if d.name != trained_on) or "none yet"
    remedy = _("Choose a dataset of plain text: %(names)s", names=names)
    dataset = datasets.by_name(session, name)
    if trained_on and reference_in(name).name == reference_in(trained_on).name:
        what = _("Forgetting is measured on other texts than the model trains on")
        remedy = _("%(remedy)s; or leave it out", remedy=remedy)
    elif dataset is None:
        what = _("There is no dataset %(name)r", name=name)
    elif dataset.facts.format != "text":
        what = _("%(name)r has rows of %(format)s, not plain text", name=name, format=dataset.facts.format)
    elif not dataset.facts.counts.get("test"):
        what = _("%(name)r has no rows in its test split, on which forgetting is measured", name=name)
    else:
        return
    yield FieldError("general_text", what, remedy)
