"""What becomes of a run whose script says nothing or ends without an end: news every minute, failures, silence."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

import vezna
from app.settings import ROOT
from app.store.database.session import Database
from app.store.tables import RunRow
from app.store.workers import clock
from tests.integration.tracking.test_trackers import sqlite
from tests.support.rows.external import FULL, LORA, send_at_once
from vezna import Client
from vezna.errors import Unreachable
from vezna.sending import sender
from vezna.trackers.study import read_steps

__all__ = ["send_at_once"]
pytestmark = [pytest.mark.usefixtures("send_at_once"), sqlite]


def until(holds: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_script_without_steps_reports_that_it_goes_on_and_learns_of_a_cancel(
    study_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "NEWS_SECONDS", 0.1)
    with Client(study_server) as client, vezna.track(1, FULL, seed=0, url=study_server, directory=tmp_path) as tracked:
        until(lambda: tracked.run_id is not None)
        assert tracked.run_id is not None

        def heard() -> Any:
            return (client.run(tracked.run_id or 0).model_extra or {})["heard_at"]

        first = heard()
        until(lambda: heard() > first)
        # An answer is lost, and steps are logged meanwhile.
        report, lost = Client.report, []

        def loses(self: Client, run_id: int, batch: dict[str, Any]) -> Any:
            answer = report(self, run_id, batch)
            if not lost:
                lost.append(batch)
                tracked.log_step(1, loss=0.5)
                raise Unreachable(study_server, "lost")
            return answer

        with monkeypatch.context() as patched:
            patched.setattr(Client, "report", loses)
            until(lambda: bool(lost))
            assert lost[0]["steps"] == []
            tracked.log_step(2, loss=0.25)
            until(lambda: client.run(tracked.run_id or 0).step == 2)
        assert [p.value for p in read_steps(client, tracked.run_id) if p.name == "train/loss"] == [0.5, 0.25]
        client.cancel_run(tracked.run_id)
        until(lambda: tracked.cancel_requested)
        tracked.cancel()
        until(lambda: client.run(tracked.run_id or 1).status == "cancelled")


def test_a_script_that_is_not_heard_from_is_shown_so(study_server: str, database: Database) -> None:
    with Client(study_server) as client:
        run = client.open_run(1, {"key": "mine", "arm": LORA, "seed": 0, "total_steps": 10})
        pages = [f"{study_server}{path}" for path in (f"/runs/{run.run_id}", "/external-studies/1")]
        assert not any("ot heard from since" in httpx2.get(page, timeout=60).text for page in pages)
        assert "no_news" not in [one.kind for one in client.compare(collection=1).confounders]
        with database.transaction() as session:
            earlier = clock.now(session) - timedelta(minutes=16)
            session.execute(update(RunRow).values(heard_at=earlier))
        assert all("ot heard from since" in httpx2.get(page, timeout=60).text for page in pages)
        [confounder] = [one for one in client.compare(collection=1).confounders if one.kind == "no_news"]
        assert confounder.effect == "doubt" and "has not been heard from for 15 minutes" in confounder.sentence
        assert client.external_study(1).runs[0].status == "running"
        client.report(run.run_id, {"attempt": 1, "number": 1, "steps": [{"step": 1, "loss": 1.0, "seconds": 1.0}]})
        assert not any("ot heard from since" in httpx2.get(page, timeout=60).text for page in pages)


SCRIPT = """
import sys
from types import SimpleNamespace
from vezna import VeznaCallback

class Trainer:
    train_dataset = eval_dataset = None

    def train(self, ends):
        args = SimpleNamespace(seed=0, bf16=False, fp16=False, learning_rate=0.1, world_size=1)
        state = SimpleNamespace(global_step=0, max_steps=4, num_input_tokens_seen=0)
        self.callback.on_train_begin(args, state, None)
        ends()

def out_of_memory():
    raise RuntimeError("CUDA out of memory")

trainer = Trainer()
rows = [{"text": "a", "label": 0}]
trainer.callback = VeznaCallback(trainer, study=1, arm=sys.argv[2], test=rows, train=rows, score=len,
                                 metric_version="1", settings={}, url=sys.argv[1], directory=sys.argv[3])
import vezna.trainer
vezna.trainer.training_settings = lambda args: {}
trainer.train(out_of_memory)
"""


@pytest.mark.nightly
def test_an_exception_out_of_the_training_is_the_failure_of_its_run(study_server: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, study_server, FULL, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1 and "Vezna" not in done.stderr
    assert done.stderr.strip().splitlines()[-1] == "RuntimeError: CUDA out of memory"
    with Client(study_server) as client:
        run = client.run(client.external_study(1).runs[0].id)
    assert run.status == "failed"
    assert run.failure is not None and run.failure.message == "RuntimeError: CUDA out of memory"
