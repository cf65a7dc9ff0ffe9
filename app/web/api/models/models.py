"""Base models over REST: register, list, get, delete, and show what each method does to a model."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Body, Query
from pydantic import AliasPath, BeforeValidator, Field

from app.domain.accounts.ownership import Visibility
from app.domain.errors import Conflict, FieldError, Invalid
from app.domain.messages import _
from app.domain.methods import Family, MethodSpec
from app.domain.models.adaptations import Adaptation, adaptations
from app.domain.models.base_model import ModelFacts, ModelRegistration, ModelSource, ModelStatus
from app.domain.tasks import Task
from app.domain.validation import Name
from app.services.models import models as model_service
from app.services.ownership import deletion
from app.services.ownership.deletion import Deletion
from app.store.models import queries as base_models
from app.web.api.answer import Answer
from app.web.api.examples import REGISTRATION
from app.web.http.dependencies import Bell, Config, Db, NewDb, Reading
from app.web.http.errors import problems

router = APIRouter(prefix="/models", tags=["models"])


class ModelBase(Answer):
    """What is known of a base model before a worker has inspected it."""

    name: str
    source: ModelSource
    location: str = Field(validation_alias="shown_location")
    """A hub id or a directory; of a directory only admins see the path, others its name."""
    revision: str = Field(validation_alias="pinned")
    """The inspected commit, or the hash of a directory's files, which every run loads. Before the inspection, the
    registered revision."""
    asked_revision: str = Field(validation_alias="revision")
    """As registered: a branch, a tag, a commit; empty for the newest."""
    status: ModelStatus
    message: str
    """Why the inspection failed."""
    created_at: datetime
    owner_id: int | None
    """The user to whom it belongs; null without login."""
    visibility: Visibility
    """`private`: its owner and admins see it; `team`: all users."""


class ModelListed(ModelBase):
    """A base model in a list."""

    architecture: str | None = Field(None, validation_alias=AliasPath("facts", "architecture"))
    parameters: int | None = Field(None, validation_alias=AliasPath("facts", "parameters"))
    """Parameters of the base model without any head."""
    tasks: Annotated[list[Task], BeforeValidator(list)] = Field([], validation_alias=AliasPath("facts", "tasks"))


class ModelOut(ModelBase):
    """A base model with the facts of its inspection."""

    facts: ModelFacts | None
    """None until it is inspected."""


class MethodOut(Answer):
    """What a method with default settings does to a base model."""

    kind: str
    family: Family
    label: str
    formula: str
    """Formula of its trainable parameters, without the head."""
    paper: str
    """Separated by semicolons."""
    spec: MethodSpec
    """Its settings, as a run's or an arm's `method`."""
    fits: bool
    trainable_parameters: int | None
    """None if it is incompatible."""
    total_parameters: int
    """Parameters of the model with its head."""
    touches: list[str]
    """Modules of the base model that it changes or wraps."""
    reason: FieldError | None
    """Why it is incompatible; the path is a field of `spec`."""
    advice: Sequence[FieldError]
    """Warnings about a compatible method."""

    @classmethod
    def of(cls, adaptation: Adaptation) -> Self:
        facts, spec = adaptation.facts, adaptation.spec
        return cls.from_object(
            facts,
            label=spec.label,
            spec=spec,
            fits=adaptation.incompatibility is None,
            trainable_parameters=adaptation.trainable,
            total_parameters=adaptation.total,
            touches=list(adaptation.touches),
            reason=adaptation.incompatibility,
            advice=adaptation.advice,
        )


@router.post("", status_code=202, operation_id="registerModel", responses=problems(409, 422))
def register_model(
    db: NewDb,
    bell: Bell,
    settings: Config,
    registration: Annotated[ModelRegistration, Body(openapi_examples=REGISTRATION)],
) -> ModelOut:
    """Register a base model under a name. A worker inspects it without loading weights; then it can be used."""
    with db.transaction() as session:
        return ModelOut.model_validate(model_service.register(session, bell, registration, settings.model_roots))


@router.get("", operation_id="listModels")
def list_models(session: Reading) -> list[ModelListed]:
    """Every base model."""
    return [ModelListed.model_validate(row) for row in base_models.everyone(session)]


@router.get(
    "/{name:path}/methods",
    operation_id="listMethodsOfModel",
    responses=problems(404, 409, 422),
)
def list_methods(
    session: Reading,
    name: Name,
    task: Annotated[Task | None, Query(description="Default: the first task of the model")] = None,
    labels: Annotated[int, Query(ge=1, le=100_000, description="Classes of the head")] = 2,
) -> list[MethodOut]:
    """What each method with default settings changes and trains in a base model, or why it is incompatible."""
    row = base_models.get(session, name)
    facts = row.facts
    if facts is None:
        raise Conflict(
            _(
                "The base model %(name)r has not been inspected: %(why)s",
                name=name,
                why=row.message or _("try again in a few seconds"),
            )
        )
    chosen = next(iter(facts.tasks)) if task is None else task
    if chosen not in facts.tasks:
        why, able = facts.unable.get(chosen, "it was not inspected for it"), ", ".join(facts.tasks)
        raise Invalid.field(
            "task",
            _("%(name)s does not support %(task)s: %(why)s", name=name, task=chosen, why=why),
            _("Choose from: %(names)s", names=able),
        )
    return [MethodOut.of(adapted) for adapted in adaptations(facts.task_model(chosen, labels))]


@router.get("/{name:path}/deletion", operation_id="previewModelDeletion", responses=problems(404, 422))
def preview_deletion(session: Reading, name: Name) -> Deletion:
    """Whether a base model can be deleted, or why not."""
    return deletion.of_model(session, name)


@router.delete("/{name:path}", status_code=204, operation_id="deleteModel", responses=problems(404, 409, 422))
def delete_model(db: Db, name: Name) -> None:
    """Delete a base model; 409 while studies or runs use it. The workers keep its weights."""
    with db.transaction() as session:
        deletion.delete_model(session, name)


@router.get("/{name:path}", operation_id="getModel", responses=problems(404, 422))
def get_model(session: Reading, name: Name) -> ModelOut:
    """A base model for each task that it supports: its parameters, its linear layers, its blocks; and why it does not
    support the others."""
    return ModelOut.model_validate(base_models.get(session, name))
