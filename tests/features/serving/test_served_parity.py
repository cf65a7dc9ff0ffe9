"""A parity check of a live `vezna serve`: processes train a tiny run, serve it and its base model, and compare."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.domain.comparison.fairness.export_gate import GateOutcome
from app.features.shipping.rules.parity import Model, Parity
from app.services.data import datasets
from app.settings import ROOT, Settings
from app.store.database.session import Database
from app.store.files.files import Files
from tests.support.servers.running_stack import free_port, prepare, start, until
from tests.support.tiny import lm as tiny_lm

pytestmark = pytest.mark.slow
SECONDS = 900.0
"""Nothing waits for so long: every step ends with its condition, and fails only where that never holds."""
RUN = {
    "base_model": "tiny-lm",
    "dataset": "counting",
    "task": "causal-lm",
    "metric": "exact_match",
    "method": {"kind": "lora", "r": 8},
    "training": {"num_train_epochs": 8, "learning_rate": 0.02, "max_length": 24, "max_new_tokens": 8, "bf16": False},
}


@contextmanager
def serving(settings: Settings, run_id: int, port: int) -> Iterator[str]:
    """`vezna serve` of a run, once it answers; its base URL."""
    command = [sys.executable, "-m", "app.cli", "serve", str(run_id), "--port", str(port)]
    environment = os.environ | {"VEZNA_HOME": str(settings.home), "PYTHONPATH": str(ROOT)}
    address = f"http://127.0.0.1:{port}/v1"
    with subprocess.Popen(command, cwd=ROOT, env=environment) as server:

        def answers() -> bool:
            assert server.poll() is None, "vezna serve has ended"
            with suppress(httpx2.TransportError):
                return httpx2.get(f"{address}/models").is_success
            return False

        try:
            until(answers, SECONDS)
            yield address
        finally:
            server.terminate()


def checked(api: httpx2.Client, run_id: int, **request: Any) -> Parity:
    """The result of a parity check."""
    check = api.post(f"/runs/{run_id}/parity-checks", json=request).json()
    until(lambda: api.get(f"/parity-checks/{check['id']}").json()["ended_at"] is not None, SECONDS)
    ended = api.get(f"/parity-checks/{check['id']}").json()
    assert ended["status"] == "succeeded", ended["message"]
    return Parity.model_validate(ended["result"])


@pytest.mark.nightly
def test_vezna_serve_answers_as_the_run_and_its_base_model_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("VEZNA_OUTBOUND_HOSTS", f"127.0.0.1:{port},127.0.0.1")
    settings = prepare(tmp_path, monkeypatch)
    tiny_lm.save_model(tmp_path / "tiny-lm", "llama")
    rows, form = tiny_lm.pairs(test=18), "prompt-completion"
    database = Database(settings.database)
    with database.transaction() as session:
        files = Files(settings.files)
        datasets.register(session, files, name="counting", title="Counting", form=form, labels=[], rows=rows)
    database.dispose()
    with start(settings, ["tiny-lm"]) as running:
        submitted = running.api.post("/runs", json=RUN)
        assert submitted.status_code == 202, submitted.text
        run_id = submitted.json()["id"]
        until(lambda: running.api.get(f"/runs/{run_id}").json()["finished_at"] is not None, SECONDS)
        assert running.api.get(f"/runs/{run_id}").json()["status"] == "succeeded"
        with serving(settings, run_id, port) as address:
            of_run = checked(running.api, run_id, url=address)
            of_base = checked(running.api, run_id, url=address, model="tiny-lm")
    assert (of_run.items, of_run.same, of_run.refused, of_run.left_out, of_run.delta) == (18, 18, 0, 0, 0.0)
    assert of_run.telling >= 7 and of_run.answers_as is Model.RUN
    assert (of_base.outcome, of_base.answers_as) == (GateOutcome.FAIL, Model.BASE)
