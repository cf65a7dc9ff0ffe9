"""Waiting for estimates: a route asks, and looks again until all is there or its caller's patience is over.

Asynchronously, so that those who wait take no thread from those who do not.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Query
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from app.queue import Doorbell
from app.store.session import Database

LOOK_SECONDS = 0.25

Wait = Annotated[float, Query(ge=0, le=30, description="Seconds to wait for what is not ready yet.")]


def partial(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """For `responses=` of a route: what it answers before all is ready."""
    return {202: {"model": model, "description": "What is ready so far"}}


class Report(Protocol):
    """An answer that may be incomplete."""

    @property
    def settled(self) -> bool:
        """Nothing more will come."""

    @property
    def unrequested(self) -> int:
        """Of what is missing, what nobody has asked for."""


Answer = TypeVar("Answer", bound=Report)
Found = TypeVar("Found")


async def answered(
    db: Database, bell: Doorbell, make: Callable[[Session, Doorbell | None], Answer], wait: float
) -> Answer:
    """Ask, then look until it is settled or `wait` seconds are over. Raises what `make` raises."""
    deadline = time.monotonic() + wait
    found = await run_in_threadpool(_ask, db, bell, make)
    while not found.settled and time.monotonic() < deadline:
        await asyncio.sleep(min(LOOK_SECONDS, max(0.0, deadline - time.monotonic())))
        found = await run_in_threadpool(look_or_ask, db, bell, make)
    return found


def look_or_ask(db: Database, bell: Doorbell, make: Callable[[Session, Doorbell | None], Answer]) -> Answer:
    """Look; and ask for what nobody has asked for."""
    with db.reading() as session:
        found = make(session, None)
    return _ask(db, bell, make) if found.unrequested else found


def _ask(db: Database, bell: Doorbell, make: Callable[[Session, Doorbell | None], Answer]) -> Answer:
    with db.transaction() as session:
        return make(session, bell)


async def ended(db: Database, look: Callable[[Session], Found], working: Callable[[Found], bool], wait: float) -> Found:
    """Look until what is looked at is no longer worked on, or `wait` seconds are over. Raises what `look` raises."""
    deadline = time.monotonic() + wait
    while True:
        found = await run_in_threadpool(_look, db, look)
        if not working(found) or time.monotonic() >= deadline:
            return found
        await asyncio.sleep(min(LOOK_SECONDS, max(0.0, deadline - time.monotonic())))


def _look(db: Database, look: Callable[[Session], Found]) -> Found:
    with db.reading() as session:
        return look(session)
