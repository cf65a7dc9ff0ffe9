"""Parity checks of servers over REST."""

from typing import Annotated

from fastapi import APIRouter, Body

from app.features.shipping.rules.parity import Parity
from app.features.shipping.rules.parity_check import NewParityCheck
from app.features.shipping.services import parity_checks as service
from app.features.shipping.services.work import CHECKS
from app.web.api.examples import PARITY
from app.web.api.work import WorkOut, add_work
from app.web.http.dependencies import Bell, Config, Db, RowId
from app.web.http.errors import problems
from app.web.http.idempotency import OnceByHeader

router = APIRouter(tags=["exports"])


class ParityCheckOut(WorkOut):
    """A comparison of a server with a run."""

    run_id: int
    url: str
    """Base URL of the server."""
    model: str
    """The model's name there."""
    sample: int | None
    """Test items that are sent; null: all."""
    result: Parity | None
    """Null before it has succeeded."""


@router.post(
    "/runs/{run_id}/parity-checks", status_code=202, operation_id="checkServing", responses=problems(404, 409, 422)
)
def submit(
    db: Db,
    bell: Bell,
    settings: Config,
    once: OnceByHeader,
    run_id: RowId,
    request: Annotated[NewParityCheck, Body(openapi_examples=PARITY)],
) -> ParityCheckOut:
    """Have a worker send a run's test items to an OpenAI-compatible server and compare the answers with the run's. 422
    for a run that generates no text, and for a host that `VEZNA_OUTBOUND_HOSTS` does not list; 409 while this model of
    the server is being compared."""
    with db.transaction() as session:
        row = service.submit(session, bell, settings, run_id, request)
        return once.keep(session, ParityCheckOut.from_object(row))


add_work(
    router,
    CHECKS,
    ParityCheckOut,
    lambda _session, row: ParityCheckOut.from_object(row),
    names=("ParityChecks", "ParityCheck"),
    paths=("/runs/{run_id}/parity-checks", "/parity-checks/{check_id}"),
)
