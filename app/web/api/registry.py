"""What else is registered, and who works: datasets, workers."""

from datetime import datetime
from typing import Self

from fastapi import APIRouter
from pydantic import BaseModel

from app.domain.datasets import DatasetFacts
from app.domain.errors import NotFound
from app.domain.names import Name
from app.services import workers as worker_service
from app.services.workers import WorkerView
from app.store.queries import datasets
from app.store.tables import DatasetRow
from app.web.dependencies import Config, Reading
from app.web.errors import problems

router = APIRouter()


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
