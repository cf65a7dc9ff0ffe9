"""Memory maps over REST: which method fits at which length and batch size."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.domain.names import Name
from app.domain.resources.memory_map import Length, MapReport, MapSpec, Rows
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import Task
from app.services.resources import memory_maps
from app.web.http.dependencies import Bell, Config, Db
from app.web.http.errors import problems
from app.web.http.waiting import Wait, answered, partial

router = APIRouter(prefix="/models", tags=["models"])

DEFAULT = MapSpec(base_model="any")


@router.get(
    "/{name:path}/map",
    operation_id="getMemoryMap",
    responses=partial(MapReport) | problems(404, 422),
)
async def memory_map(
    response: Response,
    db: Db,
    bell: Bell,
    settings: Config,
    name: Name,
    task: Annotated[Task, Query()] = DEFAULT.task,
    labels: Annotated[int, Query(ge=1, le=100_000, description="Of a classifier's head.")] = DEFAULT.labels,
    device: Annotated[str, Query(max_length=120, description="A live worker's name, or a GPU's.")] = "",
    methods: Annotated[
        list[str], Query(min_length=1, max_length=8, description="Kinds, each with its default settings.")
    ] = list(DEFAULT.methods),  # noqa: B006 FastAPI copies it
    lengths: Annotated[list[Length], Query(min_length=1, max_length=10)] = list(DEFAULT.lengths),  # noqa: B006
    batch_sizes: Annotated[list[Rows], Query(min_length=1, max_length=12)] = list(DEFAULT.batch_sizes),  # noqa: B006
    gradient_checkpointing: bool = False,
    bf16: Annotated[bool | None, Query(description="As in training; by default, if the device supports it.")] = None,
    wait: Wait = 0,
) -> MapReport:
    """Method × length × batch size on one device: fits, tight or does not fit, and the largest batch size that fits.

    200 once it is ready, 202 before.
    """
    spec = MapSpec(
        base_model=name,
        task=task,
        labels=labels,
        device=device,
        methods=tuple(methods),
        training=TrainingArguments(gradient_checkpointing=gradient_checkpointing, bf16=bf16),
        lengths=tuple(lengths),
        batch_sizes=tuple(batch_sizes),
    )
    report = await answered(db, bell, lambda session, b: memory_maps.map_report(session, b, settings, spec), wait)
    response.status_code = 200 if report.settled else 202
    return report
