"""Train a run again, and compare the results, over REST."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.domain.accounts.ownership import Visibility
from app.domain.comparison.fairness.reproduction import Reproduction
from app.domain.runs.status import RunStatus
from app.services.models.compatibility import Compatible
from app.services.runs import runs as run_service
from app.services.runs import submission
from app.services.studies import reproductions
from app.store.runs import queries as runs
from app.web.api.runs.runs import Insist, RunOut
from app.web.http.dependencies import Bell, Config, Db, Reading
from app.web.http.errors import problems
from app.web.http.idempotency import OnceByHeader

router = APIRouter(prefix="/runs/{run_id}/reproductions", tags=["runs"])


class ReproductionOut(BaseModel):
    """A run that was trained again."""

    run_id: int
    """Id of the new run."""
    status: RunStatus
    result: Reproduction | None
    """Null until it has succeeded, or without a score on the same test items."""


@router.post("", status_code=202, operation_id="reproduceRun", responses=problems(404, 409, 422))
def submit(
    db: Db,
    bell: Bell,
    settings: Config,
    once: OnceByHeader,
    run_id: int,
    insist: Insist = False,
    visibility: Annotated[Visibility | None, Query(description="Without it, that of the run.")] = None,
) -> RunOut:
    """Train a run again: the same spec, seed, base model and version of the data, as a run of its own. 409 for a run
    without a score on the test split."""
    with db.reading() as session:
        spec = reproductions.spec_of(session, run_id)
        visibility = visibility or runs.get(session, run_id).visibility

    def accept(session: Session, compatible: Compatible) -> RunOut:
        return once.keep(session, RunOut.of(session, run_service.submit(session, bell, spec, compatible)))

    return submission.submit(db.creating(visibility), bell, settings, spec, accept, insist=insist)


@router.get("", operation_id="listReproductions", responses=problems(404, 409))
def listing(session: Reading, run_id: int) -> list[ReproductionOut]:
    """The runs that repeat a run, the oldest first: identical, within or outside of what another seed would change."""
    return [
        ReproductionOut(run_id=one.run.id, status=RunStatus(one.run.status), result=one.result)
        for one in reproductions.of_run(session, run_id)
    ]
