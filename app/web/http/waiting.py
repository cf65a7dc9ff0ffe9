"""Waiting for estimates: a route requests them, and polls until all are ready or the caller's `wait` is over.

Asynchronously, so that waiting takes no thread.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import Query
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from app.broker.queue import Doorbell
from app.services.resources.estimates import Answer, read_or_request, request
from app.store.database.session import Database

POLL_SECONDS = 0.25

Wait = Annotated[float, Query(ge=0, le=30, description="Seconds to wait for what is not ready yet.")]
Result = TypeVar("Result")


def partial(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """For `responses=` of a route: its answer before everything is ready."""
    return {202: {"model": model, "description": "What is ready so far"}}


async def answered(
    db: Database, bell: Doorbell, make: Callable[[Session, Doorbell | None], Answer], wait: float
) -> Answer:
    """Request, then poll until it is settled or `wait` seconds are over. Raises what `make` raises."""
    deadline = time.monotonic() + wait
    answer = await run_in_threadpool(request, db, bell, make)
    while not answer.settled and time.monotonic() < deadline:
        await asyncio.sleep(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))
        answer = await run_in_threadpool(read_or_request, db, bell, make)
    return answer


async def ended(
    db: Database, read: Callable[[Session], Result], working: Callable[[Result], bool], wait: float
) -> Result:
    """Poll until it is no longer `working`, or `wait` seconds are over. Raises what `read` raises."""
    deadline = time.monotonic() + wait
    while True:
        result = await run_in_threadpool(_read, db, read)
        if not working(result) or time.monotonic() >= deadline:
            return result
        await asyncio.sleep(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))


def _read(db: Database, read: Callable[[Session], Result]) -> Result:
    with db.reading() as session:
        return read(session)
