"""Requests for inference and their events, exchanged between web and worker through the broker.

    infer                  list: ids of requests that wait, the oldest at the right
    infer:alive            a worker waits for requests, or answers one
    infer:ID               the request; it exists for as long as its reader renews it, so it is its cancellation too
    infer:ID:events        stream: the events (redis.io, XADD); bounded, and gone soon after its last event

Every key has the settings' prefix. Nothing needs cleaning up: whatever a killed process leaves expires.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any

from app.broker.queue import INFER_QUEUE, broker_errors
from app.domain.errors import TooMany, Unavailable
from app.domain.messages import _
from app.settings import Settings

LEASE_SECONDS = 15
"""A request ends when its reader has not renewed it for this long."""
RENEW_SECONDS = 4.0
ALIVE_SECONDS = 20
MOST_WAITING = 32
"""Requests that wait; one more is refused."""
MOST_EVENTS = 20_000
"""Events of a request that are kept for its reader; the oldest go first."""
KEPT_SECONDS = 60
BLOCK_MILLISECONDS = 1000
TAKE_SECONDS = 2
SILENT_SECONDS = 300.0
"""How long a reader waits for its turn, and then for each event: a worker sends one every few seconds, but for the time
in which it reads a model from its disk."""
AGAIN_SECONDS = 5

Event = dict[str, Any]


class _Keys:
    def __init__(self, settings: Settings) -> None:
        self.url, self._prefix = settings.broker, f"{settings.broker_prefix}{INFER_QUEUE}"

    @property
    def waiting(self) -> str:
        return self._prefix

    @property
    def alive(self) -> str:
        return f"{self._prefix}:alive"

    def request(self, request_id: str) -> str:
        return f"{self._prefix}:{request_id}"

    def events(self, request_id: str) -> str:
        return f"{self._prefix}:{request_id}:events"


class Reader:
    """The web's side. Its connections belong to the event loop that uses it."""

    def __init__(self, settings: Settings) -> None:
        self._keys = _Keys(settings)
        self._redis: Any = None
        self._loop: Any = None

    async def ask(self, request_id: str, body: str) -> AsyncGenerator[Event]:
        """Send a request and iterate over its events until the last one, `end` or `failed`; about once a second without
        one there is `waiting`. When the iterator is closed the request is withdrawn. Raises Unavailable, and TooMany if
        too many requests wait."""
        keys, redis = self._keys, self._connected()
        try:
            await self._send(redis, request_id, body)
            try:
                async for event in self._events(redis, request_id):
                    yield event
            finally:
                with suppress(*broker_errors()):
                    await asyncio.shield(redis.delete(keys.request(request_id), keys.events(request_id)))
        except broker_errors() as error:
            raise Unavailable(
                _("The broker does not answer, so the inference worker cannot be reached. Try again later.")
            ) from error

    async def close(self) -> None:
        if self._redis is not None:
            redis, self._redis = self._redis, None
            await redis.aclose()

    async def _send(self, redis: Any, request_id: str, body: str) -> None:
        keys = self._keys
        if not await redis.exists(keys.alive):
            raise Unavailable(
                _(
                    "No worker answers requests for inference. Start one: vezna up, or celery -A worker.celery worker "
                    "-Q control."
                )
            )
        if await redis.llen(keys.waiting) >= MOST_WAITING:
            raise TooMany(_("Too many requests wait for the inference worker. Try again soon."), AGAIN_SECONDS)
        async with redis.pipeline(transaction=True) as together:
            together.set(keys.request(request_id), body, ex=LEASE_SECONDS)
            together.lpush(keys.waiting, request_id)
            await together.execute()

    async def _events(self, redis: Any, request_id: str) -> AsyncGenerator[Event]:
        keys, last, renewed, heard = self._keys, "0", time.monotonic(), time.monotonic()
        while True:
            answer = await redis.xread({keys.events(request_id): last}, count=200, block=BLOCK_MILLISECONDS)
            if answer:
                heard = time.monotonic()
            else:
                yield {"type": "waiting"}
            for _stream, entries in answer:
                for place, fields in entries:
                    last = place
                    event: Event = json.loads(fields["event"])
                    yield event
                    if event["type"] in ("end", "failed"):
                        return
            if time.monotonic() - renewed > RENEW_SECONDS:
                renewed = time.monotonic()
                if not await redis.expire(keys.request(request_id), LEASE_SECONDS):
                    raise Unavailable(
                        _(
                            "The request has expired: the server did not renew it for %(seconds)s s. Try again.",
                            seconds=LEASE_SECONDS,
                        )
                    )
                if not answer and not await redis.exists(keys.alive):
                    raise Unavailable(_("The inference worker has stopped. Try again."))
            if time.monotonic() - heard > SILENT_SECONDS:
                seconds = f"{SILENT_SECONDS:.0f}"
                raise Unavailable(_("The inference worker sent nothing for %(seconds)s s. Try again.", seconds=seconds))

    def _connected(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._redis is None or self._loop is not loop:
            from redis.asyncio import Redis  # noqa: PLC0415 loaded with the first request

            self._redis = Redis.from_url(
                self._keys.url, decode_responses=True,
                protocol=2, socket_connect_timeout=5, socket_keepalive=True,
                health_check_interval=25, max_connections=1100,
            )  # fmt: skip
            self._loop = loop
        return self._redis


class Answerer:
    """The worker's side."""

    def __init__(self, settings: Settings) -> None:
        from redis import Redis  # noqa: PLC0415 as in `app.broker.queue.broker_errors`

        self._keys = _Keys(settings)
        self._redis: Any = Redis.from_url(
            self._keys.url, decode_responses=True,
                protocol=2, socket_connect_timeout=5, socket_timeout=30,
            socket_keepalive=True, health_check_interval=25,
        )  # fmt: skip

    def take(self) -> tuple[str, str] | None:
        """The id and the body of the oldest request whose reader still waits, or None after some seconds."""
        self.alive()
        taken = self._redis.brpop([self._keys.waiting], timeout=TAKE_SECONDS)
        if taken is None:
            return None
        body = self._redis.get(self._keys.request(taken[1]))
        return (taken[1], body) if body is not None else None

    def alive(self) -> None:
        """Tell readers that a worker is there."""
        self._redis.set(self._keys.alive, "1", ex=ALIVE_SECONDS)

    def wanted(self, request_id: str) -> bool:
        """Whether the reader of a request still waits."""
        self.alive()
        return bool(self._redis.exists(self._keys.request(request_id)))

    def send(self, request_id: str, event: Mapping[str, Any]) -> None:
        key = self._keys.events(request_id)
        with self._redis.pipeline(transaction=True) as together:
            together.xadd(key, {"event": json.dumps(event)}, maxlen=MOST_EVENTS, approximate=True)
            together.expire(key, KEPT_SECONDS)
            together.execute()

    def leave(self) -> None:
        """Tell readers that this worker stops, unless another one is there: that says so again soon."""
        with suppress(*broker_errors()):
            self._redis.delete(self._keys.alive)
        self._redis.close()
