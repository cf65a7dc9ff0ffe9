"""Requests for inference within an HTTP request: they end when its client leaves."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from app.broker.exchange import Reader
from app.features.serving.rules import InferenceRequest
from app.features.serving.services import inference


async def answered(request: Request, reader: Reader, work: InferenceRequest) -> AsyncGenerator[dict[str, Any]]:
    """The events of a request for inference. Raises ClientDisconnect, Unavailable, TooMany, and what the worker refuses
    the request with."""
    async with aclosing(inference.events(reader, work)) as events:
        async for event in events:
            if event["type"] != "waiting":
                yield event
            elif await request.is_disconnected():
                raise ClientDisconnect
