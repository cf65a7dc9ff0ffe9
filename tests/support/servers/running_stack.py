"""Vezna running as processes, with a tiny base model and a small dataset: for end-to-end tests."""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx2
import psutil
import pytest

from app.broker.embedded import Stack, stack
from app.services.data import datasets as dataset_service
from app.settings import Settings
from app.store.database import migrate
from app.store.database.session import Database
from app.store.files.files import Files
from tests.conftest import small_dataset
from tests.support.tiny import texts as tiny

TIMES = {
    "LEASE_SECONDS": "6",
    "HEARTBEAT_SECONDS": "2",
    "SWEEP_SECONDS": "2",
    "RING_AGAIN_SECONDS": "4",
    "CHECKPOINT_SECONDS": "0.5",
}
"""A lease of a few seconds, so that tests notice a lost worker soon."""


class RunningStack(NamedTuple):
    """The running processes and a client of their API."""

    stack: Stack
    api: httpx2.Client


def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home below `folder`: a migrated database with the dataset `small`, and the model `tiny` to register. Tests of a
    module share it: processes that import torch take longer to start than a test takes."""
    for name, value in TIMES.items():
        monkeypatch.setenv(f"VEZNA_{name}", value)
    monkeypatch.setenv("VEZNA_MODEL_ROOTS", f'["{folder}"]')
    # bitsandbytes, here for the tests of QLoRA, has every trainer import torch's compiler: a second more each.
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    tiny.save_model(folder / "tiny")
    settings = Settings(home=folder / "home", port=free_port())
    database = Database(settings.database)
    migrate.upgrade(database)
    labels, rows = small_dataset()
    with database.transaction() as session:
        dataset_service.register(
            session, Files(settings.files), name="small", title="Small", form="labelled", labels=labels, rows=rows
        )
    database.dispose()
    return settings


@contextmanager
def start(settings: Settings, models: Sequence[str] = ("tiny",)) -> Iterator[RunningStack]:
    """Start everything; register and inspect the models, directories of these names."""
    with stack(settings) as processes, httpx2.Client(base_url=f"{processes.url}/api/v1") as api:
        for name in models:
            location = str(settings.model_roots[0] / name)
            answer = api.post("/models", json={"name": name, "source": "directory", "location": location})
            assert answer.status_code == 202, answer.text
        for name in models:
            await_model(api, name)
        yield RunningStack(processes, api)


def await_model(api: httpx2.Client, name: str) -> None:
    """Wait for the inspection of a model."""
    until(lambda: api.get(f"/models/{name}").json()["status"] == "ready", 90)


def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until a condition holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def marked_processes(mark: str) -> list[psutil.Process]:
    """Every process with this in its PYTHONPATH, whichever process is its parent by now."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if mark in process.environ().get("PYTHONPATH", "") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def free_port() -> int:
    """A port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
