"""Event streams stay open for hours, so their user is authenticated again and again."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.domain.accounts import policy
from app.domain.accounts.ownership import viewer_of
from app.domain.accounts.policy import Identity
from app.web.http.errors import DATABASE_AWAY

CHECK_SECONDS = 15.0
"""How often an open event stream is authenticated again."""
Identify = Callable[[], Awaitable[Identity | None]]


class CheckedStream:
    """An event stream that ends once its user may no longer read it: after a logout, when the token is revoked, or when
    the user's role changes what the user sees."""

    def __init__(self, app: ASGIApp, scope: Scope, identity: Identity | None, identify: Identify) -> None:
        """`identify`: the user of the same request now."""
        self._app, self._scope, self._identify = app, scope, identify
        self._viewer = viewer_of(identity) if identity else None
        self._ended = asyncio.Event()

    async def run(self, receive: Receive, send: Send) -> None:
        """Have the application answer, and end its answer in time, whether or not it sends something."""
        unfinished = False

        async def disconnected() -> Message:
            message = asyncio.ensure_future(receive())
            ended = asyncio.ensure_future(self._ended.wait())
            try:
                await asyncio.wait({message, ended}, return_when=asyncio.FIRST_COMPLETED)
                return {"type": "http.disconnect"} if self._ended.is_set() else message.result()
            finally:
                message.cancel()
                ended.cancel()

        async def sending(message: Message) -> None:
            nonlocal unfinished
            if not self._ended.is_set():
                unfinished = message["type"] == "http.response.start" or message.get("more_body", False)
                await send(message)

        checking = asyncio.ensure_future(self._check())
        try:
            await self._app(self._scope, disconnected, sending)
        finally:
            checking.cancel()
        if self._ended.is_set() and unfinished:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _check(self) -> None:
        await asyncio.sleep(CHECK_SECONDS)
        while await self._may_go_on():
            await asyncio.sleep(CHECK_SECONDS)
        self._ended.set()

    async def _may_go_on(self) -> bool:
        try:
            identity = await self._identify()
        except DATABASE_AWAY:
            return True  # nothing can be read then either
        if identity is None or not identity.may(policy.Scope.READ):
            return False
        return viewer_of(identity) == self._viewer
