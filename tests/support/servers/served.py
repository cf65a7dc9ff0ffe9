"""An application served by uvicorn in a thread, for tests that need a socket."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI


@contextmanager
def served(app: FastAPI, **options: object) -> Iterator[str]:
    """The address of the running server. `options` are uvicorn's."""
    chosen = {"host": "127.0.0.1", "port": 0, "log_level": "error", "timeout_graceful_shutdown": 1} | options
    server = uvicorn.Server(uvicorn.Config(app, **chosen))  # type: ignore[arg-type]
    started = threading.Event()
    startup = server.startup

    async def start(*args: object, **kwargs: object) -> None:
        await startup(*args, **kwargs)  # type: ignore[arg-type]
        started.set()

    server.startup = start  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        assert started.wait(30)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
