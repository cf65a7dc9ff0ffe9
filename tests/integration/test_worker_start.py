"""A worker that cannot work does not start, and says why in a sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import ROOT


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("VEZNA_LOG_LEVEL", "info", "Run: vezna migrate"),
        ("VEZNA_DATABASE_URL", "postgresql://u@127.0.0.1:9/d", "The database does not answer"),
        ("VEZNA_PORT", "0", "VEZNA_PORT: Must be 1 or more"),
    ],
)
def test_a_worker_that_cannot_work_does_not_start(tmp_path: Path, variable: str, value: str, says: str) -> None:
    command = [sys.executable, "-m", "celery", "-A", "worker.celery", "worker", "-Q", "train", "-c", "1"]
    environment = os.environ | {
        "VEZNA_HOME": str(tmp_path),
        "VEZNA_BROKER_URL": "redis://127.0.0.1:9/0",
        variable: value,
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert says in done.stderr and "Traceback" not in done.stderr
