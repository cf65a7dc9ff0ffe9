"""Register the packaged sample: its base model and its data."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.data.dataset import SAMPLE_DATASET
from app.domain.errors import Conflict
from app.domain.models.base_model import SAMPLE_MODEL, ModelRegistration
from app.samples.samples import TITLE, Sample
from app.services.data import datasets as dataset_service
from app.services.models import models as model_service
from app.store.data import queries as datasets
from app.store.files.files import Files
from app.store.models import queries as base_models
from app.store.tables import BaseModelRow, DatasetRow

TAKEN = "-sample"
"""Follows a name that a user has given to something else."""
T = TypeVar("T")


class Registered(NamedTuple):
    """A sample's base model and data; None where they are not registered."""

    model: BaseModelRow | None
    dataset: DatasetRow | None

    @property
    def ready(self) -> bool:
        """A study of them can start."""
        return bool(self.model and self.model.status == "ready" and self.dataset)


def register(
    session: Session, bell: Doorbell, files: Files, roots: Sequence[Path], part: Sample
) -> tuple[BaseModelRow, DatasetRow]:
    """Register a sample; a worker then inspects the base model. The same sample twice is one."""
    rows = partial(
        dataset_service.register,
        *(session, files),
        title=part.title,
        form=part.format,
        labels=part.labels,
        rows=part.rows,
    )
    dataset = beside(part.dataset, rows)

    def packaged(name: str) -> BaseModelRow:
        registration = ModelRegistration(name=name, source="sample", location=part.location)
        return model_service.register(session, bell, registration, roots)

    return beside(part.model, packaged), dataset


def registered(session: Session) -> Registered:
    """What is registered of the sample of classification."""
    models = (base_models.by_name(session, name) for name in (SAMPLE_MODEL, f"{SAMPLE_MODEL}{TAKEN}"))
    sets = (datasets.by_name(session, name) for name in (f"{SAMPLE_DATASET}{TAKEN}", SAMPLE_DATASET))
    model = next((row for row in models if row and (row.source, row.location) == ("sample", "")), None)
    return Registered(model, next((row for row in sets if row and row.title == TITLE), None))


def beside(name: str, register: Callable[..., T]) -> T:
    """Register a part of the sample under its name, with `-sample` appended if a user has taken that name.

    The user's entry stays as it is: a reference to the newest version of that name must not resolve to the sample.
    """
    try:
        return register(name=name)
    except Conflict:
        return beside(f"{name}{TAKEN}", register)
