"""Fault 2: the web server is killed after it has committed a run and before it rings. The sweep rings."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from app.settings import ROOT
from app.store.runs import queries as runs
from tests.faults.installation import Installation, spec
from tests.support.servers.running_stack import free_port, until

pytestmark = pytest.mark.slow

PROGRAM = """
import os, signal, sys
from app.cli.program import main
from app.broker.queue import TRAIN, Doorbell
ring = Doorbell.ring
Doorbell.ring = lambda bell, task, *a: os.kill(os.getpid(), signal.SIGKILL) if task == TRAIN else ring(bell, task, *a)
sys.argv = ["vezna", "web"]
main()
"""


@contextmanager
def server_that_dies_before_it_rings(vezna: Installation) -> Iterator[str]:
    """The URL of another web server of the installation; it must have died at the end."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = vezna.child("web").environment | {"VEZNA_PORT": str(port)}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment) as web:
        try:
            until(lambda: _answers(url), 60)
            yield url
            assert web.wait(10) == -signal.SIGKILL
        finally:
            web.kill()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/readyz").is_success
    except httpx2.TransportError:
        return False


@pytest.mark.nightly
def test_a_run_whose_server_died_before_ringing_is_rung_for_by_the_sweep(vezna: Installation) -> None:
    with vezna.database.reading() as session:
        before = runs.count_by_status(session)
    with server_that_dies_before_it_rings(vezna) as url, pytest.raises(httpx2.TransportError):
        httpx2.post(f"{url}/api/v1/runs", json=spec("succeeds"))
    [newest, *_] = vezna.api.get("/runs").json()["items"]
    vezna.require_succeeded_once(newest["id"])
    with vezna.database.reading() as session:
        after = runs.count_by_status(session)
    assert after == before | {"succeeded": before["succeeded"] + 1}
