"""The control node as processes: nothing outlives it, it sweeps whatever its pool does, and it stops at once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr
from transformers import BertConfig

from app.broker.queue import CONTROL_QUEUE, INSPECT, TRAIN_QUEUE, Doorbell
from app.domain.methods import FullSpec
from app.domain.runs.spec import RunSpec
from app.services.resources import estimates
from app.services.runs import attempts
from app.services.runs import runs as run_service
from app.settings import ROOT, Settings
from app.store.database.session import Database, after_commit
from app.store.models import queries as base_models
from app.store.runs import queries as runs
from app.store.tables import BaseModelRow, EstimateRow
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.estimates import request
from tests.support.servers.running_stack import until
from tests.support.tiny import texts as tiny

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


@pytest.mark.nightly
@ON_SQLITE
def test_no_process_outlives_a_node_that_is_killed(node: Node) -> None:
    until(lambda: len(node.family()) >= 2, 60)
    family = node.family()
    os.kill(node.process.pid, signal.SIGKILL)
    node.process.wait(30)
    _gone, left = psutil.wait_procs(family, 20)
    assert left == []


@pytest.mark.nightly
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


@pytest.mark.nightly
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


@pytest.mark.nightly
@ON_SQLITE
def test_sweeps_keep_coming_while_a_real_estimate_and_real_inspections_occupy_the_pool(
    settings: Settings, registered: Database, broker: str, tmp_path: Path
) -> None:
    BertConfig(**tiny.config().to_dict() | {"num_hidden_layers": 1000}).save_pretrained(tmp_path / "deep")
    log = tmp_path / "log"
    node = Node(CONTROL_QUEUE, settings, broker, log, VEZNA_SWEEP_SECONDS="0.5", VEZNA_LOG_LEVEL="debug")
    bell = Doorbell(settings.model_copy(update={"broker_url": SecretStr(broker)}))

    def in_progress() -> int:
        """How many of the two pool processes have work; one takes the next inspection when it has finished one."""
        with registered.reading() as session:
            models = [base_models.by_name(session, name) for name in names]
            row = session.get_one(EstimateRow, estimate_id)
            inspected = sum(bool(m and m.status == "inspecting" and m.inspection_started_at) for m in models)
            return inspected + (row.status == "working")

    def swept() -> int:
        return log.read_text().count("swept")

    try:
        names = [f"deep-{number}" for number in range(3)]
        with registered.transaction() as session:
            estimate_id = estimates.wanted(session, bell, request(location=str(tmp_path / "deep"))).id
            for name in names:
                row = BaseModelRow(name=name, source="directory", location=str(tmp_path / "deep"), status="inspecting")
                session.add(row)
                session.flush()
                after_commit(session, partial(bell.ring, INSPECT, row.id))
        until(lambda: in_progress() == 2, 60)
        before = swept()
        until(lambda: swept() >= before + 6, 120)
        assert in_progress() == 2  # had the sweeps waited for either, it would be done by now
    finally:
        node.end()


@pytest.mark.nightly
@ON_SQLITE
@pytest.mark.parametrize("work", ["inspection", "estimation"])
def test_a_node_that_waits_for_a_child_process_stops_at_once_and_hands_its_work_back(
    work: str, settings: Settings, registered: Database, broker: str, tmp_path: Path
) -> None:
    silent = tmp_path / "sitecustomize.py"  # the process waits instead of answering
    silent.write_text(f"import sys, time\nif 'worker.{work}.child' in ' '.join(sys.orig_argv):\n    time.sleep(600)\n")
    node = Node(CONTROL_QUEUE, settings, broker, tmp_path / "log", PYTHONPATH=f"{tmp_path}:{ROOT}")
    bell = Doorbell(settings.model_copy(update={"broker_url": SecretStr(broker)}))
    try:
        with registered.transaction() as session:
            if work == "estimation":
                row_id = estimates.wanted(session, bell, request()).id
            else:
                row = BaseModelRow(name="slow", source="directory", location="/nowhere", status="inspecting")
                session.add(row)
                session.flush()
                row_id = row.id
                after_commit(session, partial(bell.ring, INSPECT, row_id))
        until(lambda: any(f"worker.{work}.child" in " ".join(p.cmdline()) for p in node.family()), 60)
        family = node.family()
        node.process.terminate()
        node.process.wait(60)  # an inspection may take 150, a first estimate 180
        _gone, left = psutil.wait_procs(family, 20)
        assert left == []
        with registered.reading() as session:
            if work == "estimation":
                waiting = session.get_one(EstimateRow, row_id)
                assert (waiting.status, waiting.seen_at) == ("queued", None)
            else:
                model = base_models.by_id(session, row_id)
                assert model and (model.status, model.inspection_started_at) == ("inspecting", None)
    finally:
        node.end()


def _status(database: Database, run_id: int) -> str:
    with database.reading() as session:
        return runs.get(session, run_id).status
