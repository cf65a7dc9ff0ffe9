"""Connections that clients keep open without using them: each is closed when its client takes too long.

uvicorn closes a connection that is idle between two requests, and no other. Here a client also has to

    finish its headers         within HEADER_SECONDS after it has connected, or has begun another request
    send the body              at BYTES_A_WINDOW at least in each WINDOW_SECONDS, while the application wants more
    take the answer            some of it in each WINDOW_SECONDS
"""

import asyncio
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 15.0
WINDOW_SECONDS = 30.0
BYTES_A_WINDOW = 15_000
"""500 bytes a second, what Apache's mod_reqtimeout asks of a body."""
TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class _Counted:
    """A transport that counts the bytes that are written to it: the size of its buffer alone does not say whether
    anything left it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self.written = transport, 0

    def write(self, data: bytes) -> None:
        """Send bytes, or keep them until the client takes them."""
        self.written += len(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class LimitedConnection(H11Protocol):
    """A connection of uvicorn with limits on its client's time."""

    header_seconds, window_seconds = HEADER_SECONDS, WINDOW_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_timer: asyncio.TimerHandle | None = None
        self._window_timer: asyncio.TimerHandle | None = None
        self._received, self._in_body, self._taken = 0, False, -1
        """Bytes of this window; at its begin, whether a body was to come, and the bytes that the client had taken if
        others waited for it, otherwise -1."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the headers of the first request."""
        self._counted = _Counted(transport)
        super().connection_made(self._counted)  # type: ignore[arg-type]
        self._header_timer = self._later(self.header_seconds, self._headers_are_late)
        self._window_timer = self._later(self.window_seconds, self._window_ends)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._header_timer, self._window_timer):
            if timer is not None:
                timer.cancel()
        self._header_timer = self._window_timer = None

    def data_received(self, data: bytes) -> None:
        """Count what arrives; a request that begins has its time for headers."""
        self._received += len(data)
        if self._header_timer is None and self.conn.their_state is h11.IDLE:
            self._header_timer = self._later(self.header_seconds, self._headers_are_late)
        super().data_received(data)
        if self._header_timer is not None and self.conn.their_state is not h11.IDLE:
            self._header_timer.cancel()
            self._header_timer = None

    def _later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, call)

    def _headers_are_late(self) -> None:
        self._header_timer = None
        if self.conn.their_state is h11.IDLE:
            self.transport.write(TIMEOUT)
            self.transport.close()

    def _window_ends(self) -> None:
        """Close the connection of a client that has sent too little of its body, or has taken nothing of the answer,
        for a whole window."""
        body = self.conn.their_state is h11.SEND_BODY and not self.flow.read_paused
        unsent = self.transport.get_write_buffer_size()
        taken = self._counted.written - unsent if unsent else -1
        if unsent and taken == self._taken:
            self.transport.abort()
            return
        if body and self._in_body and self._received < BYTES_A_WINDOW:
            if self.conn.our_state is h11.SEND_RESPONSE:
                self.transport.write(TIMEOUT)
            self.transport.close()
        self._in_body, self._taken, self._received = body, taken, 0
        self._window_timer = self._later(self.window_seconds, self._window_ends)
