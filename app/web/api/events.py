"""Live events of runs and studies as a stream (server-sent events).

`progress` carries a snapshot, `log` a line of a run's log with its id, `status` a change of state (of a study also: a
run that has ended). After `end` the stream closes, and a client that knows it need not come back.
A client that comes back with `Last-Event-ID` gets the log lines that it has missed. One that says in the address what
it has shown (`status`, `done`) is told at once if that is no longer so: between a page and its stream a run may begin.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from app.domain.runs.status import RunStatus
from app.domain.studies.spec import StudyStatus
from app.services import studies as study_service
from app.store.queries import events, runs, studies
from app.store.session import Database
from app.store.tables import RunRow
from app.web.http.dependencies import Db, Reading
from app.web.http.errors import problems

router = APIRouter(tags=["events"])

POLL_SECONDS = 0.5
SNAPSHOT = (
    "id", "arm", "seed", "trial_round", "learning_rate", "status", "phase", "downloaded_bytes", "download_bytes",
    "step", "total_steps", "eta_seconds", "train_loss", "validation_score", "metric", "score", "memory_bytes",
    "failure_code",
)  # fmt: skip
"""Fields of a run in an event `progress`."""


def known_run(session: Reading, run_id: int) -> int:
    """The id of a run that is there: a stream that has begun cannot answer 404."""
    return runs.get(session, run_id).id


def known_study(session: Reading, study_id: int) -> int:
    """The id of a study that is there."""
    return studies.get(session, study_id).id


KnownRun = Annotated[int, Depends(known_run, scope="function")]
KnownStudy = Annotated[int, Depends(known_study, scope="function")]
LastEventId = Annotated[int, Header(alias="Last-Event-ID", ge=0)]
ShownRun = Annotated[RunStatus | None, Query(alias="status", description="The state that the client has shown.")]
ShownStudy = Annotated[StudyStatus | None, Query(alias="status", description="The state that the client has shown.")]
ShownDone = Annotated[int | None, Query(alias="done", ge=0, description="The runs that it has shown as ended.")]


@router.get(
    "/runs/{run_id}/events",
    operation_id="watchRun",
    response_class=EventSourceResponse,
    responses=problems(404),
)
async def of_run(
    db: Db, run_id: KnownRun, last_event_id: LastEventId = 0, status: ShownRun = None
) -> AsyncIterator[ServerSentEvent]:
    """Watch a run until it ends."""
    seen, before = last_event_id, _shown(status=status)
    while True:
        lines, now = await run_in_threadpool(_look_at_run, db, run_id, seen)
        for line in lines:
            seen = line["id"]
            yield ServerSentEvent(event="log", id=str(seen), data=line)
        if now != before:
            yield ServerSentEvent(event="progress", data=now)
            if _differs(before, now, "status") or RunStatus(now["status"]).terminal:
                yield ServerSentEvent(event="status", data={"status": now["status"]})
            before = now
        if RunStatus(now["status"]).terminal and not lines:
            yield ServerSentEvent(event="end", data={"status": now["status"]})
            return
        await asyncio.sleep(POLL_SECONDS)


@router.get(
    "/studies/{study_id}/events",
    operation_id="watchStudy",
    response_class=EventSourceResponse,
    responses=problems(404),
)
async def of_study(
    db: Db, study_id: KnownStudy, status: ShownStudy = None, done: ShownDone = None
) -> AsyncIterator[ServerSentEvent]:
    """Watch a study until its last run has ended."""
    before = _shown(status=status, done=done)
    while True:
        now = await run_in_threadpool(_look_at_study, db, study_id)
        if now != before:
            yield ServerSentEvent(event="progress", data=now)
            if _differs(before, now, "done", "status") or StudyStatus(now["status"]).terminal:
                yield ServerSentEvent(event="status", data={"status": now["status"], "done": now["done"]})
            before = now
        if StudyStatus(now["status"]).terminal:
            yield ServerSentEvent(event="end", data={"status": now["status"]})
            return
        await asyncio.sleep(POLL_SECONDS)


def _shown(**said: Any) -> dict[str, Any]:
    """What the client says that it has shown."""
    return {name: value for name, value in said.items() if value is not None}


def _differs(before: dict[str, Any], now: dict[str, Any], *names: str) -> bool:
    """Whether something is no longer as it was, or as the client had shown it."""
    return any(name in before and before[name] != now[name] for name in names)


def _look_at_run(db: Database, run_id: int, seen: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    with db.reading() as session:
        run = runs.get(session, run_id)
        lines = [
            {"id": e.id, "at": e.at.isoformat(), "kind": e.kind, "message": e.message}
            for e in events.after(session, run_id, seen)
        ]
        return lines, _snapshot(run)


def _look_at_study(db: Database, study_id: int) -> dict[str, Any]:
    with db.reading() as session:
        progress = study_service.progress(session, study_id)
        return {
            "id": study_id,
            "status": progress.status.value,
            "done": progress.done,
            "total": len(progress.runs),
            "runs": [_snapshot(run) for run in progress.runs],
        }


def _snapshot(run: RunRow) -> dict[str, Any]:
    return {name: getattr(run, name) for name in SNAPSHOT}
