"""Vezna as processes, as `vezna up` starts them, with an engine that mostly trains nothing: what the faults are done
to."""

import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from app.broker.embedded import Child, Stack, stack
from app.domain.failures import FailureCode
from app.domain.models.base_model import ModelFacts
from app.services.runs import attempts
from app.services.runs.attempts import Fenced
from app.settings import ROOT, Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.runs import events, steps
from app.store.runs import queries as runs
from app.store.tables import BaseModelRow, RunRow
from tests.conftest import TINY_FACTS, register_tiny
from tests.faults.engine import BEHAVIOURS, FINISH
from tests.support.fakes.fakes import SilentBell
from tests.support.servers.running_stack import TIMES, free_port, marked_processes, until

SITE = """\
import os, sys
command = " ".join(sys.orig_argv)
if "worker.training.child" in command:
    import tests.faults.engine
    sys.modules["worker.training.execution"] = tests.faults.engine
elif "worker.estimation.child" in command:
    os._exit(1)
elif "worker.machine.probe" in command and "VEZNA_TEST_GPUS" in os.environ:
    import tests.support.fakes.gpus
    tests.support.fakes.gpus.answer_probe()
"""
"""Python executes it in every process at its start."""


class Installation:
    """The processes of one home, their database and a client of their API."""

    def __init__(self, running: Stack, marker: str) -> None:
        self.stack, self.settings, self._marker = running, running.settings, marker
        self.database = Database(self.settings.database)
        self.files = Files(self.settings.files)
        self.api = httpx2.Client(base_url=f"{running.url}/api/v1", timeout=30)
        self._logged: dict[Path, int] = {}

    # Processes

    def child(self, name: str) -> Child:
        """One of `broker`, `control`, `worker`, `web`."""
        return next(child for child in self.stack.children if child.name == name)

    def kill(self, name: str) -> None:
        """End one by SIGKILL."""
        process = self.child(name).process
        process.kill()
        process.wait()

    def restart(self) -> None:
        """Start again what has ended, and wait until the server is ready."""
        for place, child in enumerate(self.stack.children):
            if child.process.poll() is not None:
                self.stack.children[place] = child.again()
        until(self._ready, 60)

    def add_worker(self, name: str, *options: str, **environment: str) -> Child:
        """Start another worker, of this name unless its environment has another."""
        command = [part.replace("train@", f"{name}@") for part in self.child("worker").command]
        command += options
        environment = self.child("worker").environment | {"VEZNA_WORKER_NAME": name} | environment
        self.stack.children.append(Child(name, command, environment, self.child("worker").log.with_name(f"{name}.log")))
        return self.stack.children[-1]

    def remove_worker(self, worker: Child) -> None:
        """Stop an added worker."""
        self.stack.children.remove(worker)
        worker.stop()
        worker.end(time.monotonic() + 30)

    def pool_child(self) -> psutil.Process:
        """The process of the worker that supervises."""
        [found] = psutil.Process(self.child("worker").process.pid).children()
        return found

    def trainer(self) -> psutil.Process:
        """Wait for the trainer that has a job: a run has its status before its trainer is in the run's folder."""
        until(lambda: len(self.trainers()) == 1, 20)
        [found] = self.trainers()
        return found

    def trainers(self) -> list[psutil.Process]:
        """Every trainer that has a job; one that waits is in no run's folder."""
        return [p for p in self.processes() if _is_trainer(p) and _directory(p) not in ("", "/")]

    def spares(self) -> list[psutil.Process]:
        """Every trainer that waits for a job."""
        return [p for p in self.processes() if _is_trainer(p) and _directory(p) == "/"]

    def processes(self) -> list[psutil.Process]:
        """Every process of this installation, whoever is its parent now: a mark in its environment tells."""
        return marked_processes(self._marker)

    def _ready(self) -> bool:
        try:
            ready = httpx2.get(f"{self.stack.url}/readyz", timeout=5).is_success
        except httpx2.TransportError:
            return False
        return ready and any(w["state"] != "lost" for w in self.api.get("/workers").json())

    # Runs

    def add_model(self, location: Path, facts: ModelFacts = TINY_FACTS) -> str:
        """Register a directory as a base model, as if it had been inspected with these facts; returns its name."""
        row = {"name": location.name, "source": "directory", "location": str(location), "status": "ready"}
        with self.database.transaction() as session:
            session.add(BaseModelRow(**row, facts_json=facts.model_dump(mode="json")))
        return location.name

    def submit(self, behaviour: str, **changes: Any) -> int:
        """Submit a run by HTTP whose trainer behaves like that."""
        answer = self.api.post("/runs", json=spec(behaviour, **changes))
        assert answer.status_code == 202, answer.text
        return int(answer.json()["id"])

    def finish(self, run_id: int) -> None:
        """Let a run that trains finish."""
        folder = self.settings.home / FINISH
        folder.mkdir(exist_ok=True)
        (folder / str(run_id)).touch()

    def run(self, run_id: int) -> RunRow:
        """A run's row."""
        with self.database.reading() as session:
            return runs.get(session, run_id)

    def messages(self, run_id: int) -> list[str]:
        """The log of a run."""
        with self.database.reading() as session:
            return [event.message for event in events.after(session, run_id)]

    def steps(self, run_id: int) -> list[int]:
        """The numbers of a run's stored steps."""
        with self.database.reading() as session:
            return [int(number) for number in steps.read(session, run_id)["step"]]

    def until_status(self, run_id: int, status: str, seconds: float = 60) -> RunRow:
        """Wait for a status."""
        until(lambda: self.run(run_id).status == status, seconds)
        return self.run(run_id)

    def until_checkpoint(self, run_id: int) -> RunRow:
        """Wait until a run has a checkpoint in the store."""
        until(lambda: bool(self.run(run_id).checkpoints), 60)
        return self.run(run_id)

    def require_failed_once(self, run_id: int, code: FailureCode, seconds: float = 60) -> str:
        """Wait for the failure in its only attempt, which keeps neither a result nor files; returns its message. No
        later claim, and no write of the ended attempt, changes anything."""
        run = self.until_status(run_id, "failed", seconds)
        message = run.failure_message or ""
        assert (run.failure_code, run.epoch, run.attempts, run.result) == (code, 1, 1, None)
        assert self.messages(run_id)[-1] == f"failed, {code}: {message}" and "Traceback" not in message
        with self.database.transaction() as session:
            assert attempts.claim(session, run_id, "another", 45) is None, "it is not tried again"
        with pytest.raises(Fenced), self.database.transaction() as session:
            attempts.stop(session, SilentBell(), attempts.Attempt(run_id, 1, run.worker))
        assert self.api.get(f"/runs/{run_id}/artifacts").json() == []
        until(lambda: self.trainers() == [], 30)
        return message

    def require_succeeded_once(self, run_id: int, attempts: int = 1, seconds: float = 60) -> RunRow:
        """Wait for success: with that many claims, one end, and every step stored once."""
        run = self.until_status(run_id, "succeeded", seconds)
        said = self.messages(run_id)
        assert sum(line.startswith("claimed by") for line in said) == run.epoch == attempts
        assert sum(line.startswith("succeeded") for line in said) == 1
        assert run.result and self.steps(run_id) == list(range(1, run.result.steps + 1))
        [artifact] = self.api.get(f"/runs/{run_id}/artifacts").json()
        assert self.api.get(f"/artifacts/{artifact['id']}/content").content == b"weights"
        return run

    # What is said and what is left

    def log(self, name: str) -> str:
        """What a process has logged in this test."""
        path = self.settings.home / "logs" / f"{name}.log"
        return path.read_bytes()[self._logged.get(path, 0) :].decode(errors="replace")

    def begin(self) -> None:
        """A test begins: everything runs, and older lines of the logs do not count."""
        self.restart()
        self._logged = {path: path.stat().st_size for path in (self.settings.home / "logs").iterdir()}

    def require_rest(self) -> None:
        """Nothing is left: no run, no folder of an attempt, no checkpoint, no process without its parent."""
        with self.database.reading() as session:
            unfinished = runs.count_by_status(session)
        assert (unfinished["queued"], unfinished["running"]) == (0, 0)
        self.restart()
        until(lambda: self.left_files() == [], 30)
        until(lambda: self.orphans() == [], 30)
        for log in (self.settings.home / "logs").iterdir():
            assert "database is locked" not in self.log(log.stem)

    def left_files(self) -> list[str]:
        """Folders of attempts, and files of checkpoints."""
        work = [str(path) for path in (self.settings.home / "work").glob("run-*")]
        return work + [name for name in self.files.fs.find(self.files.root) if "checkpoints" in name]

    def orphans(self) -> list[int]:
        """Processes that belong to none that runs."""
        ours: set[int] = set()
        for child in self.stack.children:
            if child.process.poll() is None:
                family = psutil.Process(child.process.pid)
                ours |= {family.pid, *(p.pid for p in family.children(recursive=True))}
        return [process.pid for process in self.processes() if process.pid not in ours]


@contextmanager
def installation(folder: Path, database_url: str = "", **environment: str) -> Iterator[Installation]:
    """Start everything in a new home, on a database that is migrated and, by default, SQLite; nothing outlives it."""
    site = folder / f"site-{secrets.token_hex(8)}"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            TIMES | {"REPORT_SECONDS": "0.2", "DEVICE": "cpu", "WEIGHT_DELTA_SECONDS": "0"} | environment
        ).items():
            patch.setenv(f"VEZNA_{name}", value)
        patch.setenv("TORCHDYNAMO_DISABLE", "1")  # see `running_stack.prepare`
        if database_url:
            patch.setenv("VEZNA_DATABASE_URL", database_url)
        patch.setenv("PYTHONPATH", f"{site}:{ROOT}")
        settings = Settings(home=folder / "home", port=free_port())
        database = Database(settings.database)
        register_tiny(database, Files(settings.files))
        database.dispose()
        starting = stack(settings)
        running = starting.__enter__()
    found = Installation(running, site.name)
    try:
        yield found
    finally:
        found.api.close()
        found.database.dispose()
        starting.__exit__(None, None, None)
    assert found.processes() == []


def spec(behaviour: str, **changes: Any) -> dict[str, Any]:
    """A run whose trainer behaves like that; `changes` are of the run's fields, and `training` adds to the seed."""
    training = {"seed": BEHAVIOURS.index(behaviour)} | changes.pop("training", {})
    run = {"base_model": "tiny", "dataset": "small", "method": {"kind": "full"}, "training": training}
    return run | changes


def signal_family(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal to a process and everything below it, the process first."""
    for member in [process, *process.children(recursive=True)]:
        os.kill(member.pid, number)


def _is_trainer(process: psutil.Process) -> bool:
    try:
        return "worker.training.child" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _directory(process: psutil.Process) -> str:
    try:
        return process.cwd()
    except psutil.Error:
        return ""
