"""Base models over HTTP: register, list, get, and what each method would do to one."""

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.domain.errors import Conflict, Invalid, NotFound
from app.domain.messages import _
from app.domain.methods import Family, MethodSpec
from app.domain.models.adaptations import Adaptation, adaptations
from app.domain.models.base_model import ModelFacts, ModelRegistration, ModelSource, ModelStatus
from app.domain.names import Name
from app.domain.tasks import Task
from app.services import deletion
from app.services import models as model_service
from app.services.deletion import Deletion
from app.store.queries import base_models
from app.store.tables import BaseModelRow
from app.web.api.examples import METHODS_OF_MODEL, REGISTRATION
from app.web.http.dependencies import Bell, Config, Db, Reading
from app.web.http.errors import problems

router = APIRouter(prefix="/models", tags=["models"])


class ModelListed(BaseModel):
    """A base model in a list; what is known of it is there once a worker has inspected it."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    source: ModelSource
    location: str
    revision: str = Field(validation_alias="pinned")
    """The commit, or the hash of a directory's files, that was inspected and that every run loads; until then what was
    registered."""
    asked_revision: str = Field(validation_alias="revision")
    """As it was registered: a branch, a tag, a commit; empty for the newest."""
    status: ModelStatus
    message: str
    architecture: str | None = None
    parameters: int | None = None
    """Of the base model without any head."""
    tasks: list[Task] = []
    """What it can do."""
    created_at: datetime

    @classmethod
    def of(cls, row: BaseModelRow) -> Self:
        """From the store."""
        found, facts = cls.model_validate(row), row.facts
        if facts is None:
            return found
        known = {"architecture": facts.architecture, "parameters": facts.parameters, "tasks": list(facts.tasks)}
        return found.model_copy(update=known)


class ModelOut(BaseModel):
    """A base model; `facts` is there once a worker has inspected it."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    source: ModelSource
    location: str
    revision: str = Field(validation_alias="pinned")
    """The commit, or the hash of a directory's files, that was inspected and that every run loads; until then what was
    registered."""
    asked_revision: str = Field(validation_alias="revision")
    """As it was registered: a branch, a tag, a commit; empty for the newest."""
    status: ModelStatus
    message: str
    facts: ModelFacts | None
    created_at: datetime

    @classmethod
    def of(cls, row: BaseModelRow) -> Self:
        """From the store."""
        return cls.model_validate(row)


class Remark(BaseModel):
    """What is wrong, or good to know, about a method."""

    model_config = ConfigDict(from_attributes=True)

    path: str
    """The field of `spec`."""
    message: str
    remedy: str


class MethodOut(BaseModel):
    """A method held against a base model."""

    kind: str
    family: Family
    label: str
    formula: str
    """How its trainable parameters are counted, beside a new head."""
    paper: str
    """Who proposed it; several with a semicolon between."""
    spec: MethodSpec
    """Its usual settings, as a run's or an arm's `method`."""
    fits: bool
    trainable_parameters: int | None
    """None where it does not fit."""
    total_parameters: int
    """Of the model with its head."""
    touches: list[str]
    """Modules of the untouched model that it changes or wraps."""
    reason: Remark | None
    """Why it does not fit: the field of `spec`, what is wrong, what to do."""
    advice: list[Remark]
    """What one should know though it fits."""

    @classmethod
    def of(cls, adapted: Adaptation) -> Self:
        """From the domain."""
        return cls(
            kind=adapted.facts.kind,
            family=adapted.facts.family,
            label=adapted.spec.label,
            formula=adapted.facts.formula,
            paper=adapted.facts.paper,
            spec=adapted.spec,
            fits=adapted.incompatibility is None,
            trainable_parameters=adapted.trainable,
            total_parameters=adapted.total,
            touches=list(adapted.touches),
            reason=Remark.model_validate(adapted.incompatibility) if adapted.incompatibility else None,
            advice=[Remark.model_validate(advice) for advice in adapted.advice],
        )


@router.post("", status_code=202, operation_id="registerModel", responses=problems(409, 422))
def register_model(
    db: Db, bell: Bell, settings: Config, wanted: Annotated[ModelRegistration, Body(openapi_examples=REGISTRATION)]
) -> ModelOut:
    """Make a base model known under a name; a worker inspects it (no weights are loaded) and then it can be used."""
    with db.transaction() as session:
        return ModelOut.of(model_service.register(session, bell, wanted, settings.model_roots))


@router.get("", operation_id="listModels")
def list_models(session: Reading) -> list[ModelListed]:
    """Every registered base model, in short."""
    return [ModelListed.of(row) for row in base_models.everyone(session)]


@router.get(
    "/{name:path}/methods",
    operation_id="listMethodsOfModel",
    responses=METHODS_OF_MODEL | problems(404, 409, 422),
)
def list_methods(
    session: Reading,
    name: Name,
    task: Annotated[Task | None, Query(description="What for; the first that the model can do unless said")] = None,
    labels: Annotated[int, Query(ge=1, le=100_000, description="Of a classifier's head")] = 2,
) -> list[MethodOut]:
    """What each method, with its usual settings, would touch and train in a base model, or why it does not fit."""
    row = _model(session, name)
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
    """Delete a base model; 409 while studies or runs use it. Its weights, which lie with the workers, stay there."""
    with db.transaction() as session:
        deletion.delete_model(session, name)


@router.get("/{name:path}", operation_id="getModel", responses=problems(404, 422))
def get_model(session: Reading, name: Name) -> ModelOut:
    """A base model as each task that it can do sees it: its parameters, its linear layers, its blocks; and why it
    cannot do the others."""
    return ModelOut.of(_model(session, name))


def _model(session: Session, name: str) -> BaseModelRow:
    row = base_models.by_name(session, name)
    if row is None:
        raise NotFound(_("There is no base model %(name)r.", name=name))
    return row
