"""Parity checks of servers over REST."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body

from app.features.shipping.queries import parity_checks
from app.features.shipping.rules.parity import Parity
from app.features.shipping.rules.parity_check import NewParityCheck, ParityStatus
from app.features.shipping.services import parity_checks as service
from app.store.runs import queries as runs
from app.store.workers.tables import LIVE
from app.web.api.answer import Answer
from app.web.api.examples import PARITY
from app.web.http.dependencies import Bell, Config, Db, Reading, RowId
from app.web.http.errors import problems
from app.web.http.idempotency import OnceByHeader
from app.web.http.waiting import Wait, ended

router = APIRouter(tags=["exports"])


class ParityCheckOut(Answer):
    """A comparison of a server with a run."""

    id: int
    run_id: int
    url: str
    """Base URL of the server."""
    model: str
    """The model's name there."""
    sample: int | None
    """Test items that are sent; null: all."""
    status: ParityStatus
    progress: float
    """Share of the answers that have arrived, from 0 to 1."""
    message: str
    """Why it failed."""
    result: Parity | None
    """Null before it has succeeded."""
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


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


@router.get("/runs/{run_id}/parity-checks", operation_id="listParityChecks", responses=problems(404))
def listing(session: Reading, run_id: RowId) -> list[ParityCheckOut]:
    """The parity checks of a run, the oldest first."""
    runs.get(session, run_id)
    return [ParityCheckOut.from_object(row) for row in parity_checks.of_run(session, run_id)]


@router.get("/parity-checks/{check_id}", operation_id="getParityCheck", responses=problems(404))
async def get(db: Db, check_id: RowId, wait: Wait = 0.0) -> ParityCheckOut:
    """A parity check; with `wait`, once it has ended or the seconds are over."""
    return await ended(
        db,
        lambda session: ParityCheckOut.from_object(parity_checks.get(session, check_id)),
        lambda row: row.status in LIVE,
        wait,
    )


@router.post(
    "/parity-checks/{check_id}/cancel",
    status_code=202,
    operation_id="cancelParityCheck",
    responses=problems(403, 404, 409),
)
def cancel(db: Db, check_id: RowId) -> ParityCheckOut:
    """Cancel a parity check; 409 if it has ended."""
    with db.transaction() as session:
        return ParityCheckOut.from_object(service.cancel(session, check_id))
