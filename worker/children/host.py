"""A child process from the parent's side: start it, exchange JSON lines with it, and end it.

Every process that loads models or reads users' files is started here. It leads its own process group, so that it is
killed together with its children. It starts in an empty directory, so that a hub id is never mistaken for a local
directory. It asks the kernel to die with its parent (`worker.children.child`). A thread of the parent waits for its
end, so that it does not stay a zombie.
"""

import json
import math
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from app.domain.errors import VeznaError
from app.domain.messages import _
from worker.children.child import PARENT
from worker.children.environment import child_environment
from worker.children.interrupt import INTERRUPT

Answer = TypeVar("Answer")
MAX_LINE_BYTES = 32 << 20
CHUNK_BYTES = 1 << 16
EXIT_SECONDS = 5.0
"""A child that has closed its output exits within this time."""


class ChildError(VeznaError):
    """The child is unusable; the message is a sentence for the person who made the request."""


class ChildTimeout(ChildError):
    """The child did not read or write in time."""


class ChildInterrupted(ChildError):
    """The worker shuts down, and does not wait for the child any longer."""


class Child:
    """A running child process. Start it from a thread that lives as long as the worker: the kernel kills a child when
    the thread that started it ends."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        own_session: bool = True,
    ) -> None:
        """`name` appears in messages such as "The inspection process …"; `environment` is added to
        `child_environment()`. Without a `directory` it gets an empty one, which is removed with it. Raises ChildError.

        Set `own_session=False` for a child whose niceness must count against its siblings: between sessions Linux may
        share the cores evenly regardless of niceness (man 7 sched, autogroup).
        """
        self.name = name
        self.environment = child_environment() | dict(environment or {})
        self._own_directory: TemporaryDirectory[str] | None = None
        if directory is None:
            self._own_directory = TemporaryDirectory(prefix="vezna-child-", ignore_cleanup_errors=True)
            directory = Path(self._own_directory.name)
        try:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self.environment | {PARENT: str(os.getpid())},
                cwd=directory,
                start_new_session=own_session,
                process_group=None if own_session else 0,
            )
        except OSError as error:
            self._remove_directory()
            text = _("The %(name)s process could not be started: %(why)s. Try again.", name=name, why=error.strerror)
            raise ChildError(text) from error
        # It is reaped as soon as it ends, also when it ends by itself while nothing is asked of it, or is forgotten.
        with suppress(RuntimeError):  # without memory for a thread it is reaped when it is asked for next
            threading.Thread(target=self._process.wait, daemon=True, name=f"reaper of {name}").start()
        assert self._process.stdin and self._process.stdout  # noqa: S101 both are pipes
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._pending = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def waiting(self) -> bool:
        """The process is running, and everything it wrote has been read."""
        return self.alive and not self._pending and not select.select([self._out], [], [], 0)[0]

    def send(self, line: bytes, seconds: float) -> None:
        """Write one line within `seconds`. Raises ChildTimeout, and ChildError if it has ended."""
        data, deadline = line + b"\n", time.monotonic() + seconds
        while data:
            if not self._ready([], [self._in], deadline):
                raise self._late(seconds)
            try:
                data = data[os.write(self._in, data) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise ChildError(self._how_it_ended()) from error

    def receive(
        self,
        seconds: float,
        *,
        busy: float = 1.0,
        meanwhile: Callable[[], object] = lambda: None,
        every: float = math.inf,
    ) -> bytes:
        """The next line, within `seconds`; `meanwhile` is called at the interval `every` while it is waited for. Time
        in which the child waits for a processor extends the deadline, at most to `busy * seconds`. Raises ChildTimeout,
        ChildError if it has ended, and what `meanwhile` raises."""
        began, extra = time.monotonic(), 0.0
        waited = self._waited_for_processor() if busy > 1 else 0.0
        while True:
            if busy > 1:
                extra = min(max(0.0, self._waited_for_processor() - waited), (busy - 1) * seconds)
            left = began + seconds + extra - time.monotonic()
            if left <= 0:
                raise self._late(time.monotonic() - began)
            try:
                line = self.line(min(left, every))
            except ChildTimeout:
                meanwhile()
                continue
            if line is None:
                raise ChildError(self._how_it_ended())
            return line

    def _waited_for_processor(self) -> float:
        """Seconds in which its threads were ready to run and another process had the processor (proc_pid_schedstat(5)),
        added up; 0 where the kernel does not count them."""
        total = 0
        for path in Path(f"/proc/{self.pid}/task").glob("*/schedstat"):
            with suppress(OSError, ValueError, IndexError):  # a thread may end meanwhile
                total += int(path.read_text().split()[1])
        return total / 1e9

    def line(self, seconds: float) -> bytes | None:
        """The next line, within `seconds`, or None as soon as its output ends: it may not have exited yet. Raises
        ChildTimeout."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._pending:
            if not self._ready([self._out], [], deadline):
                raise self._late(seconds)
            data = os.read(self._out, CHUNK_BYTES)
            if not data:
                return None
            self._pending += data
            if len(self._pending) > MAX_LINE_BYTES:
                text = _("The %(name)s process sent an answer that is too long. Try again.", name=self.name)
                raise ChildError(text)
        line, _newline, self._pending = self._pending.partition(b"\n")
        return line

    def _ready(self, readable: list[int], writable: list[int], deadline: float) -> bool:
        """Wait for a pipe until the deadline. Raises ChildInterrupted."""
        left = max(0.0, deadline - time.monotonic())
        interrupt = INTERRUPT.fileno()
        read, written, _errors = select.select([*readable, interrupt], writable, [], left)
        if interrupt in read:
            raise ChildInterrupted(_("The worker shuts down. The %(name)s process starts again later.", name=self.name))
        return bool(read or written)

    @classmethod
    def ask_once(
        cls,
        name: str,
        command: Sequence[str],
        request: object,
        seconds: float,
        parse: Callable[[bytes], Answer],
        *,
        directory: Path | None = None,
        meanwhile: Callable[[], object] = lambda: None,
        every: float = math.inf,
    ) -> Answer:
        """Start a child without a GPU for one request, and return its answer; `meanwhile` is called at an interval.
        Raises ChildError, also if `parse` raises ValueError."""
        child = cls(name, command, environment={"CUDA_VISIBLE_DEVICES": ""}, directory=directory)
        try:
            child.send(json.dumps(request).encode(), seconds)
            return parse(child.receive(seconds, meanwhile=meanwhile, every=every))
        except ValueError as error:
            raise child.unreadable() from error
        finally:
            child.close()

    def unreadable(self) -> ChildError:
        """The error for a line that cannot be parsed."""
        return ChildError(_("The %(name)s process sent an answer that cannot be read. Try again.", name=self.name))

    def kill(self) -> None:
        """Kill it and its children; does nothing if it has ended. Its exit status stays available."""
        if self.alive:  # once it is reaped, another process may have its id
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def exit_status(self, timeout: float) -> int:
        """Its exit status (negative: the signal). It is killed if it has not ended within `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()

    def close(self) -> None:
        """Kill it, and remove its pipes and its directory."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._remove_directory()

    def _remove_directory(self) -> None:
        if self._own_directory is not None:
            self._own_directory.cleanup()

    def _late(self, seconds: float) -> ChildTimeout:
        text = _(
            "The %(name)s process took longer than %(seconds)s s, so the worker ended it.",
            name=self.name,
            seconds=f"{seconds:.0f}",
        )
        return ChildTimeout(text)

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            return _("The %(name)s process stopped answering. Try again.", name=self.name)
        if status < 0:
            return _(
                "The %(name)s process was killed by signal %(signal)s; the worker may be short of memory. Try again.",
                name=self.name,
                signal=-status,
            )
        return _(
            "The %(name)s process ended with status %(status)s; the worker may be short of memory. Try again.",
            name=self.name,
            status=status,
        )
