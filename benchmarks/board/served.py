"""A server that was started for a measurement: how long until it answered, what its processes hold, and its end."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil

PATIENCE_SECONDS = 180.0
SETTLED_SECONDS = 3.0
"""After the first answer, until memory is read."""


@dataclass
class Served:
    """A server on 127.0.0.1."""

    url: str
    process: subprocess.Popen[bytes]
    ready_seconds: float

    def memory(self) -> tuple[int, int]:
        """Resident and proportional bytes of the whole tree of processes; the second counts shared pages once."""
        time.sleep(SETTLED_SECONDS)
        top = psutil.Process(self.process.pid)
        full = [one.memory_full_info() for one in (top, *top.children(recursive=True))]
        return sum(one.rss for one in full), sum(one.pss for one in full)

    def stop(self) -> None:
        """End it, and everything that it started."""
        top = psutil.Process(self.process.pid)
        every = [*top.children(recursive=True), top]
        for one in every:
            one.terminate()
        _gone, alive = psutil.wait_procs(every, timeout=10)
        for one in alive:
            one.kill()
        self.process.wait()


def serve(command: Sequence[str], environment: Mapping[str, str], url: str, first: str, log: Path) -> Served:
    """Start a server and wait until it answers `first`."""
    began = time.perf_counter()
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, env=os.environ | dict(environment), stdout=out, stderr=subprocess.STDOUT, cwd=log.parent
        )
    while time.perf_counter() - began < PATIENCE_SECONDS:
        if process.poll() is not None:
            raise SystemExit(f"{command[0]} ended; see {log}")
        try:
            if httpx2.get(url + first, timeout=30.0).status_code == 200:
                return Served(url, process, time.perf_counter() - began)
        except httpx2.TransportError:
            time.sleep(0.01)
    process.kill()
    raise SystemExit(f"{command[0]} did not answer within {PATIENCE_SECONDS:.0f} s; see {log}")


def good(answer: httpx2.Response) -> None:
    """Read whole; anything but 200 ends the measurement."""
    if answer.status_code != 200:
        raise SystemExit(f"{answer.url} answered {answer.status_code}: {answer.text[:500]}")


def clock(call: Callable[[], None]) -> float:
    """Seconds."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
