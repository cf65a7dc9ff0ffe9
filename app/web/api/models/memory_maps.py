"""Memory maps over REST: which method fits at which length and batch size."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.domain.resources.memory_map import MapOptions, MapReport, MapSpec
from app.domain.validation import Name
from app.services.resources import memory_maps
from app.web.http.dependencies import Bell, Config, Db
from app.web.http.errors import problems
from app.web.http.waiting import Wait, answered, partial

router = APIRouter(prefix="/models", tags=["models"])


class MapQuery(MapOptions):
    """The options of a map, and how long to wait for it."""

    wait: Wait = 0


@router.get(
    "/{name:path}/map",
    operation_id="getMemoryMap",
    responses=partial(MapReport) | problems(404, 422),
)
async def memory_map(
    response: Response, db: Db, bell: Bell, settings: Config, name: Name, query: Annotated[MapQuery, Query()]
) -> MapReport:
    """Method × length × batch size on one device: fits, tight or does not fit, and the largest batch size that fits.

    200 once it is ready, 202 before.
    """
    spec = MapSpec(base_model=name, **query.model_dump(exclude={"wait"}))
    report = await answered(db, bell, lambda session, b: memory_maps.map_report(session, b, settings, spec), query.wait)
    response.status_code = 200 if report.settled else 202
    return report
