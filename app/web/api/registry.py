"""What is registered and who works: base models, datasets, workers."""

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Body
from pydantic import BaseModel

from app.domain.datasets import DatasetFacts
from app.domain.errors import NotFound
from app.domain.models import ModelFacts, ModelRegistration, ModelSource, ModelStatus
from app.domain.names import Name
from app.services import models as model_service
from app.services import workers as worker_service
from app.services.workers import WorkerView
from app.store.queries import base_models, datasets
from app.store.tables import BaseModelRow, DatasetRow
from app.web.dependencies import Bell, Config, Db, Reading
from app.web.errors import problems

router = APIRouter()


class ModelOut(BaseModel):
    """A base model; `facts` is there once a worker has inspected it."""

    name: str
    source: ModelSource
    location: str
    revision: str
    status: ModelStatus
    message: str
    facts: ModelFacts | None
    created_at: datetime

    @classmethod
    def of(cls, row: BaseModelRow) -> Self:
        """From the store."""
        return cls.model_validate(row, from_attributes=True)


class DatasetOut(BaseModel):
    """A dataset with its splits."""

    name: str
    title: str
    facts: DatasetFacts
    created_at: datetime

    @classmethod
    def of(cls, row: DatasetRow) -> Self:
        """From the store."""
        return cls.model_validate(row, from_attributes=True)


REGISTRATION = {
    "sample": {"summary": "The packaged sample", "value": {"name": "all-MiniLM-L6-v2", "source": "sample"}},
    "hub": {
        "summary": "From the Hugging Face hub",
        "value": {"name": "roberta-base", "source": "hub", "location": "FacebookAI/roberta-base", "revision": "main"},
    },
}


@router.post("/models", status_code=202, tags=["models"], operation_id="registerModel", responses=problems(409, 422))
def register_model(
    db: Db, bell: Bell, settings: Config, wanted: Annotated[ModelRegistration, Body(openapi_examples=REGISTRATION)]
) -> ModelOut:
    """Make a base model known under a name; a worker inspects it (no weights are loaded) and then it can be used."""
    with db.transaction() as session:
        return ModelOut.of(model_service.register(session, bell, wanted, settings.model_roots))


@router.get("/models", tags=["models"], operation_id="listModels")
def list_models(session: Reading) -> list[ModelOut]:
    """Every registered base model."""
    return [ModelOut.of(row) for row in base_models.everyone(session)]


@router.get("/models/{name:path}", tags=["models"], operation_id="getModel", responses=problems(404, 422))
def get_model(session: Reading, name: Name) -> ModelOut:
    """A base model: its architecture, its linear modules, its parameters."""
    row = base_models.by_name(session, name)
    if row is None:
        raise NotFound(f"there is no base model {name!r}")
    return ModelOut.of(row)


@router.get("/datasets", tags=["datasets"], operation_id="listDatasets")
def list_datasets(session: Reading) -> list[DatasetOut]:
    """Every registered dataset."""
    return [DatasetOut.of(row) for row in datasets.everyone(session)]


@router.get("/datasets/{name:path}", tags=["datasets"], operation_id="getDataset", responses=problems(404, 422))
def get_dataset(session: Reading, name: Name) -> DatasetOut:
    """A dataset: its labels, its splits, its hash."""
    row = datasets.by_name(session, name)
    if row is None:
        raise NotFound(f"there is no dataset {name!r}")
    return DatasetOut.of(row)


@router.get("/workers", tags=["workers"], operation_id="listWorkers")
def list_workers(session: Reading, settings: Config) -> list[WorkerView]:
    """Workers seen in the last day."""
    return worker_service.live(session, settings)
