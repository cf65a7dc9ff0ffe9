"""The control node as processes: nothing outlives it, it sweeps whatever its pool does, and it stops at once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from app.domain.methods import FullSpec
from app.domain.runs.spec import RunSpec
from app.queue import CONTROL_QUEUE, INSPECT, TRAIN_QUEUE, Doorbell
from app.services import attempts
from app.services import runs as run_service
from app.settings import ROOT, Settings
from app.store.queries import base_models, runs
from app.store.session import Database
from app.store.tables import BaseModelRow
from tests.fakes import SilentBell
from tests.running_stack import until

pytestmark = pytest.mark.slow


class Node:
    """A Celery node in a process, with its family."""

    def __init__(self, queue: str, settings: Settings, broker: str, log: Path, **environment: str) -> None:
        self.log = log
        names = {
            "VEZNA_HOME": str(settings.home),
            "VEZNA_DATABASE_URL": settings.database,
            "VEZNA_BROKER_URL": broker,
            "VEZNA_SWEEP_SECONDS": "1",
            "VEZNA_DEVICE": "cpu",
        }
        command = [sys.executable, *f"-m celery -A worker.celery worker -Q {queue} -n {queue}@%h -c 2".split()]
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | names | environment, stdout=out, stderr=out, start_new_session=True
            )
        until(lambda: " ready." in self.log.read_text(), 120)

    def family(self) -> list[psutil.Process]:
        """Every process below it."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> None:
        for process in [*self.family(), psutil.Process(self.process.pid)] if self.process.poll() is None else []:
            process.kill()
        self.process.wait(30)


@pytest.fixture
def node(settings: Settings, broker: str, tmp_path: Path) -> Iterator[Node]:
    running = Node(CONTROL_QUEUE, settings, broker, tmp_path / "log")
    yield running
    running.end()


ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@ON_SQLITE
def test_no_process_outlives_a_node_that_is_killed(node: Node) -> None:
    until(lambda: len(node.family()) >= 2, 60)
    family = node.family()
    os.kill(node.process.pid, signal.SIGKILL)
    node.process.wait(30)
    _gone, left = psutil.wait_procs(family, 20)
    assert left == []


@ON_SQLITE
@pytest.mark.parametrize("queue", [CONTROL_QUEUE, TRAIN_QUEUE])
def test_a_node_dates_its_heartbeat_file_ahead_as_long_as_it_works(
    queue: str, settings: Settings, broker: str, tmp_path: Path
) -> None:
    file = tmp_path / "heartbeat"
    times = {"VEZNA_HEARTBEAT_SECONDS": "0.2", "VEZNA_SWEEP_SECONDS": "0.2", "VEZNA_HEARTBEAT_FILE": str(file)}
    node = Node(queue, settings, broker, tmp_path / "log", **times)
    try:
        until(file.exists, 30)
        first = file.stat().st_mtime
        assert time.time() + 30 < first < time.time() + 61
        until(lambda: file.stat().st_mtime > first, 30)
    finally:
        node.end()


@ON_SQLITE
def test_a_sweep_is_not_held_up_by_a_pool_that_is_busy(node: Node, registered: Database) -> None:
    until(lambda: len(node.family()) >= 2, 60)
    for process in node.family():
        process.suspend()
    with registered.transaction() as session:
        spec = RunSpec(base_model="tiny", dataset="small", method=FullSpec())
        run_id = run_service.submit(session, SilentBell(), spec).id
        assert attempts.claim(session, run_id, "lost", 0.1)
    until(lambda: _status(registered, run_id) == "queued", 30)


@ON_SQLITE
def test_a_node_that_waits_for_an_inspection_stops_at_once_and_hands_it_back(
    settings: Settings, registered: Database, broker: str, tmp_path: Path
) -> None:
    silent = tmp_path / "sitecustomize.py"  # the inspection process waits instead of answering
    silent.write_text(
        "import sys, time\nif 'worker.inspection.child' in ' '.join(sys.orig_argv):\n    time.sleep(600)\n"
    )
    node = Node(CONTROL_QUEUE, settings, broker, tmp_path / "log", PYTHONPATH=f"{tmp_path}:{ROOT}")
    try:
        with registered.transaction() as session:
            row = BaseModelRow(name="slow", source="directory", location="/nowhere", status="inspecting")
            session.add(row)
            session.flush()
            model_id = row.id
        Doorbell(settings.model_copy(update={"broker_url": SecretStr(broker)})).ring(INSPECT, model_id)
        until(lambda: any("worker.inspection.child" in " ".join(p.cmdline()) for p in node.family()), 60)
        family = node.family()
        node.process.terminate()
        node.process.wait(60)  # an inspection may take 120
        _gone, left = psutil.wait_procs(family, 20)
        assert left == []
        with registered.reading() as session:
            model = base_models.by_id(session, model_id)
            assert model and (model.status, model.inspection_started_at) == ("inspecting", None)
    finally:
        node.end()


def _status(database: Database, run_id: int) -> str:
    with database.reading() as session:
        return runs.get(session, run_id).status
