"""A real MLflow server on 127.0.0.1: the code of `mlflow server` with SQLite, without its web page."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psutil

from tests.support.servers.running_stack import free_port


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """The address of a server that keeps everything in a folder."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *stores], stdout=output, stderr=output, env=os.environ | quiet, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(address, process, log)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


@contextmanager
def frozen(address: str) -> Iterator[None]:
    """The server at an address does not answer: the kernel takes requests for it, which it sees only afterwards."""
    port = urlsplit(address).port
    listening = [one for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port == port]
    processes = {one.pid for one in listening if one.pid is not None}
    assert processes
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


def experiments(client: Any, server: str) -> list[Any]:
    """Those of a Vezna server."""
    return list(client.search_experiments(filter_string=f"tags.`vezna.url` LIKE '{server}/%'"))


def runs_of(client: Any, server: str) -> dict[str, Any]:
    """The runs of its only experiment, by the run of Vezna."""
    [experiment] = experiments(client, server)
    found = list(client.search_runs([experiment.experiment_id], max_results=1000))
    by_tag = {run.data.tags["vezna.run"]: run for run in found}
    assert len(by_tag) == len(found), "a run was written twice"
    return by_tag


def _wait(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            if httpx2.get(f"{address}/health").is_success:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(log.read_text())
