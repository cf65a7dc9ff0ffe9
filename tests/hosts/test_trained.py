"""Two workers on two hosts train a run together, over a real network between them (gloo, on the CPU).

The hosts are network namespaces. Workers, supervisors and trainers are real; only the broker is missing, and the GPUs.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.domain.methods import FullSpec
from app.domain.models.base_model import ModelFacts
from app.domain.runs.spec import RunSpec
from app.services.runs import runs
from app.settings import ROOT
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.runs import queries as run_queries
from app.store.runs import steps
from app.store.tables import BaseModelRow, DeviceRow, RunRow
from tests.conftest import register_tiny
from tests.hosts.namespaces import Host, two_hosts
from tests.support.fakes.fakes import SilentBell
from tests.support.tiny import texts as tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TRAINING = tiny.FAST.model_copy(
    update={"devices": 2, "max_steps": 30, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
)
SETTINGS = {
    "REPORT_SECONDS": "0.2",
    "LEASE_SECONDS": "20",
    "HEARTBEAT_SECONDS": "5",
    "CHECKPOINT_SECONDS": "0.01",
    "WEIGHT_DELTA_SECONDS": "0",
    "THREADS": "1",
}


class Hosts:
    """Two workers, `first` and `second`, their database and what is done to them."""

    def __init__(self, folder: Path, hosts: tuple[Host, Host], database: Database) -> None:
        self.folder, self.database, self.bell = folder, database, SilentBell()
        self.workers = {
            name: self._start(host, name, part)
            for host, name, part in zip(hosts, ("first", "second"), ("leads", "joins"), strict=True)
        }

    def _start(self, host: Host, name: str, part: str) -> subprocess.Popen[bytes]:
        own = {
            "HOME": str(self.folder / name),
            "DATABASE_URL": str(self.database.url),
            "FILES_URL": str(self.folder / "files"),
            "WORKER_NAME": name,
            "RENDEZVOUS_HOST": host.address,
        }
        environment = {f"VEZNA_{key}": value for key, value in (SETTINGS | own).items()}
        command = host.command([sys.executable, "-m", "tests.hosts.worker", part])
        log = (self.folder / f"{name}.txt").open("wb")
        return subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=log
        )

    def submit(self, **changes: object) -> int:
        spec = RunSpec(
            base_model="words",
            dataset="small",
            method=FullSpec(),
            training=TRAINING.model_copy(update=changes),
        )
        with self.database.transaction() as session:
            return runs.submit(session, self.bell, spec).id

    def run(self, run_id: int) -> RunRow:
        with self.database.reading() as session:
            return run_queries.get(session, run_id)

    def losses(self, run_id: int) -> Any:
        with self.database.reading() as session:
            return steps.read(session, run_id)

    def trainers(self, name: str) -> list[psutil.Process]:
        """The trainers of a worker that have a run."""
        try:
            children = psutil.Process(self.workers[name].pid).children()
            return [child for child in children if "run-" in child.cwd()]
        except psutil.NoSuchProcess:
            return []

    def until(self, true: Callable[[], object], seconds: float = 400) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, self.logs()
            assert all(worker.poll() is None for worker in self.workers.values()), self.logs()
            time.sleep(0.1)

    def ended(self, run_id: int) -> RunRow:
        self.until(lambda: self.run(run_id).status not in ("queued", "running"))
        self.until(self.at_rest)
        return self.run(run_id)

    def at_rest(self) -> bool:
        """Every GPU is free, and no process has a run."""
        with self.database.reading() as session:
            free = all(gpu.run_id is None for gpu in session.query(DeviceRow))
        return free and not self.trainers("first") and not self.trainers("second")

    def messages(self, run_id: int) -> list[str]:
        with self.database.reading() as session:
            return [event.message for event in runs.view(session, run_id).events]

    def logs(self) -> str:
        return "\n".join((self.folder / f"{name}.txt").read_text()[-4000:] for name in self.workers)

    def close(self) -> None:
        for worker in self.workers.values():
            worker.kill()
            worker.wait()


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Iterator[Hosts]:
    folder = tmp_path_factory.mktemp("hosts")
    (folder / "vezna.sqlite").write_bytes(migrated_file.read_bytes())
    database = Database(f"sqlite:///{folder / 'vezna.sqlite'}")
    with two_hosts() as both:
        register_tiny(database, Files(str(folder / "files")))
        model = tiny.save_model(folder / "model", hidden_dropout_prob=0.1)
        with database.transaction() as session:
            facts = ModelFacts.model_validate(session.query(BaseModelRow).one().facts_json)
            session.add(
                BaseModelRow(
                    name="words",
                    source="directory",
                    location=str(model),
                    status="ready",
                    facts_json=facts.model_dump(mode="json"),
                )
            )
        running = Hosts(folder, both, database)
        try:
            running.until(lambda: len(_workers(database)) == 2)
            yield running
        finally:
            running.close()


def _workers(database: Database) -> list[str]:
    with database.reading() as session:
        return [gpu.uuid for gpu in session.query(DeviceRow)]


@pytest.mark.nightly
def test_two_hosts_train_a_run_and_a_killed_process_of_the_second_costs_nothing_but_time(hosts: Hosts) -> None:
    whole = hosts.submit()
    undisturbed = hosts.ended(whole)
    assert undisturbed.status == "succeeded", (hosts.messages(whole), hosts.logs())
    assert undisturbed.result is not None
    environment = undisturbed.result.environment
    assert (environment.hosts, environment.gpus) == (2, ["GPU-first", "GPU-second"])
    assert environment.device_name.startswith("(1 + 1) processes on ")
    assert len(undisturbed.result.memory.rank_peak_bytes) == 2
    assert "trains on 2 hosts: first (GPU-first), second (GPU-second)" in hosts.messages(whole)

    interrupted = hosts.submit()
    hosts.until(lambda: hosts.run(interrupted).checkpoints and hosts.trainers("second"))
    [victim] = hosts.trainers("second")
    victim.send_signal(signal.SIGKILL)
    resumed = hosts.ended(interrupted)
    assert resumed.status == "succeeded", (hosts.messages(interrupted), hosts.logs())
    assert (resumed.epoch, resumed.attempts) == (2, 2)
    [why] = [message for message in hosts.messages(interrupted) if message.startswith("queued again")]
    assert "on second" in why
    assert resumed.result is not None and (resumed.result.resumed_from or 0) > 0
    expected, found = hosts.losses(whole), hosts.losses(interrupted)
    assert [list(column) for column in (found["loss"], found["grad_norm"])] == [
        list(column) for column in (expected["loss"], expected["grad_norm"])
    ]
