"""Requests of a tool to the REST API, as the caller of the tool."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx2
from fastmcp.exceptions import ToolError

Connect = Callable[[], AbstractAsyncContextManager[httpx2.AsyncClient]]
"""A client of /api/v1 with the caller's token."""
TIMEOUT = httpx2.Timeout(30.0, read=90.0)


class Ask:
    """GET and POST below /api/v1. A refusal becomes a ToolError: what is wrong, why, and what to do."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    async def get(self, path: str, **query: Any) -> Any:
        """The JSON of a resource."""
        return await self._sent("GET", path, params=query)

    async def post(self, path: str, body: Any = None, key: str = "", **query: Any) -> Any:
        """The answer to a request. With a `key` it is accepted once however often it is sent."""
        headers = {"Idempotency-Key": f'"{key}"'} if key else {}
        return await self._sent("POST", path, json=body, params=query, headers=headers)

    async def _sent(self, method: str, path: str, **options: Any) -> Any:
        try:
            async with self._connect() as client:
                answer = await client.request(method, path, **options)
                content = answer.json()
        except httpx2.TransportError as error:
            raise ToolError(f"The server does not answer: {error}. Try again later.") from error
        except ValueError as error:
            raise ToolError("The server's answer is not Vezna's. Check the address.") from error
        if not answer.is_success:
            raise ToolError(refusal(content))
        return content


def refusal(problem: Mapping[str, Any]) -> str:
    """A problem document (RFC 9457) as sentences, a line for each field."""
    fields = [f"{e['path']}: {e['message']}. {e['remedy']}." for e in problem.get("errors", []) if e.get("path")]
    return "\n".join([str(problem.get("detail") or problem.get("title", "")), *fields])


@asynccontextmanager
async def at_address(url: str, token: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a server by its address."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx2.AsyncClient(base_url=f"{url.rstrip('/')}/api/v1", headers=headers, timeout=TIMEOUT) as client:
        yield client
