"""A connection to one address, whatever the host of the URL, whose reads and writes together end at a deadline."""

import ssl
import time
from collections.abc import Iterable

import httpcore2


class Pinned(httpcore2.NetworkBackend):
    """Connects to one address, whatever the host, and reads and writes until a deadline."""

    def __init__(self, address: str, deadline: float) -> None:
        self._address, self._deadline, self._backend = address, deadline, httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to the address, at the port of the URL."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpcore2.ConnectTimeout
        timeout = left if timeout is None else min(timeout, left)
        stream = self._backend.connect_tcp(self._address, port, timeout, local_address, socket_options)
        return _UntilDeadline(stream, self._deadline)


class _UntilDeadline(httpcore2.NetworkStream):
    """A stream whose reads and writes together end at a deadline: a timeout alone begins anew with each byte."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def _left(self) -> float:
        if (left := self._deadline - time.monotonic()) <= 0:
            raise httpcore2.ReadTimeout
        return left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        """TLS with the name of the URL."""
        return _UntilDeadline(self._stream.start_tls(ssl_context, server_hostname, self._left()), self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)
