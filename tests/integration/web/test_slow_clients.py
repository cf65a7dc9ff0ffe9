"""Clients that send or take nothing: their connections are closed."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, StreamingResponse

from app.cli.serve import server_options
from app.settings import Settings
from app.web.http.middleware.connections import LimitedConnection
from tests.support.servers.running_stack import until
from tests.support.servers.served import served

ENDED = threading.Event()
"""The answer without an end has been given up."""


class Impatient(LimitedConnection):
    header_seconds, window_seconds = 0.3, 0.3


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server whose clients have three tenths of a second."""
    app = FastAPI()

    @app.post("/echo")
    async def echo(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def body() -> object:
            try:
                while True:
                    yield b"x" * 65536
                    await asyncio.sleep(0)
            finally:
                ENDED.set()

        return StreamingResponse(body())  # type: ignore[arg-type]

    with served(app, http=Impatient) as address:
        yield int(address.rpartition(":")[2])


def sent(port: int, data: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.sendall(data)
    return client


def rest(client: socket.socket) -> bytes:
    """Everything until the server closes the connection."""
    parts = []
    try:
        while data := client.recv(1 << 16):
            parts.append(data)
    except ConnectionResetError:
        pass
    return b"".join(parts)


@pytest.mark.parametrize("headers", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"], ids=["nothing", "half of its headers"])
def test_a_client_that_does_not_finish_its_headers_gets_408(port: int, headers: bytes) -> None:
    with sent(port, headers) as client:
        assert rest(client).startswith(b"HTTP/1.1 408")


def test_a_client_that_stops_in_its_body_gets_408(port: int) -> None:
    with sent(port, b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n12345") as client:
        assert rest(client).startswith(b"HTTP/1.1 408")


def test_a_client_that_takes_nothing_of_its_answer_is_disconnected(port: int) -> None:
    with sent(port, b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n") as client:
        assert client.recv(1)
        assert ENDED.wait(30)


def test_beyond_the_most_connections_a_request_is_answered_503_until_some_are_closed() -> None:
    options = server_options(Settings())
    assert options["limit_concurrency"] == 2500, "docs/reliability.md says so"
    app = FastAPI()

    @app.get("/")
    async def page() -> PlainTextResponse:
        return PlainTextResponse("a page")

    request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with served(app, http=options["http"], limit_concurrency=4) as address, ExitStack() as idle:
        port = int(address.rpartition(":")[2])
        clients = [idle.enter_context(sent(port, b"GET / HTTP/1.1\r\n")) for _ in range(3)]

        def answer() -> bytes:
            with sent(port, request) as client:
                return rest(client)

        until(lambda: answer().startswith(b"HTTP/1.1 503"), 30)
        clients[0].close()
        until(lambda: answer().endswith(b"a page"), 30)


class Buffer:
    """A transport whose client takes what a test says."""

    def __init__(self) -> None:
        self.unsent, self.aborted = 0, False

    def write(self, data: bytes) -> None:
        self.unsent += len(data)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        pass

    def get_extra_info(self, _name: str) -> None:
        return None


def test_a_buffer_of_the_same_size_is_no_client_that_takes_nothing() -> None:
    async def aborted(*taken: int) -> bool:
        config = uvicorn.Config(FastAPI())
        config.load()
        connection = LimitedConnection(config, uvicorn.server.ServerState(), {})
        buffer = Buffer()
        connection.connection_made(buffer)  # type: ignore[arg-type]
        connection.transport.write(b"x" * 1000)
        for size in taken:
            connection._window_ends()
            buffer.unsent -= size
            connection.transport.write(b"x" * size)  # the application fills the buffer again
        connection._window_ends()
        connection.connection_lost(None)
        return buffer.aborted

    assert not asyncio.run(aborted(1000, 600, 1))
    assert asyncio.run(aborted(1000, 0))


def test_a_client_that_asks_twice_on_one_connection_is_answered_twice(port: int) -> None:
    request = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345"
    with sent(port, request) as client:
        for again in (request, b""):
            answer = b""
            while not answer.endswith(b"\r\n\r\n5"):  # head and body may arrive apart
                part = client.recv(1 << 16)
                assert part, answer
                answer += part
            client.sendall(again)
