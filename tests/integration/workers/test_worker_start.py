"""A worker that cannot work does not start, and says why in a sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from app.settings import ROOT
from app.store.database import migrate
from app.store.database.session import Database


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("VEZNA_DATABASE_URL", "postgresql://u@127.0.0.1:9/d", "The database does not answer"),
        ("VEZNA_PORT", "0", "VEZNA_PORT: Must be 1 or more"),
    ],
)
def test_a_worker_that_cannot_work_does_not_start(tmp_path: Path, variable: str, value: str, says: str) -> None:
    done = start(tmp_path, **{variable: value})
    assert done.returncode != 0
    assert says in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_worker_without_the_requested_gpu_does_not_start(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/vezna.sqlite")
    migrate.upgrade(database)
    database.dispose()
    done = start(tmp_path, VEZNA_DEVICE="cuda")
    assert done.returncode != 0
    assert "VEZNA_DEVICE is cuda, but no GPU can be used: " in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("queue", ["train", "control"])
def test_a_pool_child_of_any_node_removes_the_folder_that_a_killed_one_left(tmp_path: Path, queue: str) -> None:
    left = tmp_path / "work" / "run-left"
    left.mkdir(parents=True)
    code = "from worker import celery; celery.app.amqp.queues.select([QUEUE]); celery.warm_up()".replace(
        "QUEUE", repr(queue)
    )
    environment = os.environ | {"VEZNA_HOME": str(tmp_path), "VEZNA_WARM_SPARE": "false"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (done.returncode, left.exists()) == (0, False), done.stderr


def start(home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Start a worker and wait until it has ended."""
    command = [sys.executable, "-m", "celery", "-A", "worker.celery", "worker", "-Q", "train", "-c", "1"]
    environment = os.environ | {"VEZNA_HOME": str(home), "VEZNA_BROKER_URL": "redis://127.0.0.1:9/0"}
    return subprocess.run(
        command, cwd=ROOT, env=environment | variables, capture_output=True, text=True, timeout=200, check=False
    )
