"""From HTTP to the inference process: requests wait in one thread, which lives as long as the server, since the kernel
ends the process with the thread that started it."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from app.domain.errors import Unavailable
from app.domain.messages import _
from app.features.serving.rules import InferenceRequest, failed, raised
from worker.features.serving.inference.host import Inference
from worker.features.serving.openai.schemas import BadRequest

MOST_WAITING = 32
POLL_SECONDS = 1.0
"""Longest time without an event, so that the server notices a client who has left."""


class Answering:
    """Answers requests one at a time, in their order."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._waiting = 0

    async def events(self, request: InferenceRequest) -> AsyncGenerator[dict[str, Any]]:
        """The events of a request but the last one, and `waiting` about once a second without one. The model stops once
        the iterator is closed. Raises BadRequest if too many wait, and what the process refuses the request with."""
        if self._waiting >= MOST_WAITING:
            raise BadRequest("Too many requests wait. Try again soon.", code="rate_limit_exceeded", status=429)
        loop, arrived = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any]]()
        left = threading.Event()

        def answer() -> None:
            try:
                if not left.is_set():
                    for event in self._inference.answer(request, lambda: not left.is_set()):
                        loop.call_soon_threadsafe(arrived.put_nowait, event)
            except Exception as error:
                why = Unavailable(_("The inference process failed (%(why)s).", why=type(error).__name__))
                loop.call_soon_threadsafe(arrived.put_nowait, failed(why))

        self._waiting += 1
        done = loop.run_in_executor(self._thread, answer)
        done.add_done_callback(self._finished)
        try:
            while True:
                try:
                    event = await asyncio.wait_for(arrived.get(), POLL_SECONDS)
                except TimeoutError:
                    event = {"type": "waiting"}
                if event["type"] == "end":
                    return
                if event["type"] == "failed":
                    raise raised(event)
                yield event
        finally:
            left.set()

    def _finished(self, _done: object) -> None:
        self._waiting -= 1

    def close(self) -> None:
        self._thread.submit(self._inference.end)
        self._thread.shutdown(wait=True, cancel_futures=True)
