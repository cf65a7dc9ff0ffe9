"""Live events of runs and studies as a stream (server-sent events).

`progress` carries a snapshot, `log` a line of a run's log with its id, `status` a change of state (of a study also: a
run that has ended). After `end` the stream closes, and the client need not reconnect.
A client that reconnects with `Last-Event-ID` gets the log lines that it has missed. A client that says in the address
what it shows (`status`, `done`) gets a `status` event at once if that has changed: a run may begin between the request
for a page and that for its stream.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy.orm import Session

from app.domain.accounts.ownership import Viewer
from app.domain.runs.status import RunStatus
from app.domain.studies.spec import StudyStatus
from app.services.studies import studies as study_service
from app.store.runs import events
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.tables import RunRow
from app.web.http.dependencies import Db, Streams, User
from app.web.http.errors import problems
from app.web.http.feed import Feed, Read, Snapshot, State
from app.web.http.middleware.limits import client_of

router = APIRouter(tags=["events"])

FIELDS = (
    "id", "arm", "seed", "trial_round", "learning_rate", "status", "phase", "downloaded_bytes", "download_bytes",
    "step", "total_steps", "eta_seconds", "train_loss", "validation_score", "metric", "score", "memory_bytes",
    "failure_code",
)  # fmt: skip
"""Fields of a run in an event `progress`."""


def known_run(db: Db, run_id: int) -> int:
    """The id of an existing run, checked before the stream begins: a stream that has begun cannot answer 404."""
    with db.reading() as session:
        return runs.get(session, run_id).id


def known_study(db: Db, study_id: int) -> int:
    with db.reading() as session:
        return studies.get(session, study_id).id


async def place(feed: Streams, user: User, request: Request) -> AsyncIterator[None]:
    """A place among the open streams; one too many is answered before it begins."""
    async for held in feed.place(client_of(request.scope), user.owner):
        yield held


KnownRun = Annotated[int, Depends(known_run)]
KnownStudy = Annotated[int, Depends(known_study)]
LastEventId = Annotated[int, Header(alias="Last-Event-ID", ge=0)]
ShownRun = Annotated[RunStatus | None, Query(alias="status", description="The status that the client shows.")]
ShownStudy = Annotated[StudyStatus | None, Query(alias="status", description="The status that the client shows.")]
ShownDone = Annotated[int | None, Query(alias="done", ge=0, description="The number of ended runs that it shows.")]


@router.get(
    "/runs/{run_id}/events",
    operation_id="watchRun",
    response_class=EventSourceResponse,
    responses=problems(404, 503),
    dependencies=[Depends(place)],
)
async def of_run(
    feed: Streams, db: Db, run_id: KnownRun, last_event_id: LastEventId = 0, status: ShownRun = None
) -> AsyncIterator[ServerSentEvent]:
    """Watch a run until it ends."""

    def read(session: Session, last_line: int) -> State:
        lines = [
            {"id": line.id, "at": line.at.isoformat(), "kind": line.kind, "message": line.message}
            for line in events.after(session, run_id, last_line)
        ]
        return lines, _snapshot(runs.get(session, run_id))

    async for event in _watch(feed, db.viewer, ("run", run_id), read, RunStatus, {"status": status}, last_event_id):
        yield event


@router.get(
    "/studies/{study_id}/events",
    operation_id="watchStudy",
    response_class=EventSourceResponse,
    responses=problems(404, 503),
    dependencies=[Depends(place)],
)
async def of_study(
    feed: Streams, db: Db, study_id: KnownStudy, status: ShownStudy = None, done: ShownDone = None
) -> AsyncIterator[ServerSentEvent]:
    """Watch a study until its last run has ended."""

    def read(session: Session, _last_line: int) -> State:
        progress = study_service.progress(session, study_id)
        return [], Snapshot(
            id=study_id,
            status=progress.status.value,
            done=progress.done,
            total=len(progress.runs),
            runs=[_snapshot(run) for run in progress.runs],
        )

    async for event in _watch(
        feed, db.viewer, ("study", study_id), read, StudyStatus, {"status": status, "done": done}
    ):
        yield event


async def _watch(
    feed: Feed,
    viewer: Viewer | None,
    key: tuple[str, int],
    read: Read,
    statuses: type[RunStatus | StudyStatus],
    shown: dict[str, Any],
    last_line: int = 0,
) -> AsyncIterator[ServerSentEvent]:
    """Events until the status is terminal, or what is watched has been deleted. `shown` is what a `status` event is
    about, as the client shows it; None where the client does not say."""
    before = {name: value for name, value in shown.items() if value is not None}
    async with feed.watch(key, read, last_line, viewer) as watched:
        while not watched.gone:
            changed = watched.changed
            lines, now = await watched.state(last_line)
            if (ended := statuses(now["status"]).terminal) and not lines:
                lines, now = await watched.state(last_line, fresh=True)
            for line in lines:
                last_line = line["id"]
                yield ServerSentEvent(event="log", id=str(last_line), data=line)
            if now != before:
                yield ServerSentEvent(event="progress", raw_data=now.text)
                if ended or any(name in before and before[name] != now[name] for name in shown):
                    yield ServerSentEvent(event="status", data={name: now[name] for name in shown})
                before = now
            if ended and not lines:
                yield ServerSentEvent(event="end", data={"status": now["status"]})
                return
            if not lines:
                await changed.wait()


def _snapshot(run: RunRow) -> Snapshot:
    return Snapshot({name: getattr(run, name) for name in FIELDS})
