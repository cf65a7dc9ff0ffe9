"""Studies whose runs are trained elsewhere, for tests: a spec, facts, item scores, and a script that calls the API."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.support.servers.served import served
from vezna.sending import sender

FULL, LORA = "full", "LoRA r=8"
SPEC: dict[str, Any] = {
    "name": "MiniLM elsewhere",
    "task": "sequence-classification",
    "arms": [{"label": LORA, "method": "lora"}, {"label": FULL, "method": "full"}],
    "seeds": [0, 1],
    "margin_points": 2.0,
}
FACTS: dict[str, Any] = {
    "splits": {"train": "a" * 64, "validation": "b" * 64, "test": "c" * 64},
    "base_model": "tiny",
    "base_model_hash": "d" * 64,
    "metric_version": "argmax equals label, 1",
    "device": "NVIDIA L4",
    "precision": "bf16",
    "versions": {"torch": "2.13.0", "transformers": "5.1.0"},
    "train_seconds": 12.5,
    "peak_bytes": 150 * 2**20,
    "memory_measure": "allocated",
    "clocks": {"train": 12.5},
    "environment": {"python": "3.12.4"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Iterator[str]:
    """The address of a running server."""
    home = tmp_path_factory.mktemp("home")
    (home / "vezna.sqlite").write_bytes(migrated_file.read_bytes())
    with served(create_app(Settings(home=home))) as address:
        yield address


@pytest.fixture
def send_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of scripts in this process go to the server without the usual pause."""
    monkeypatch.setattr(sender, "INTERVAL_SECONDS", 0.05)


def item_scores(accuracy: float, seed: int, n: int = 60) -> dict[str, float]:
    """Scores of `n` items by hash, all right or wrong; another seed gets other items right."""
    right = np.random.default_rng(seed).permutation(n) < round(accuracy * n)
    return {hashlib.sha256(f"item {i}".encode()).hexdigest(): float(right[i]) for i in range(n)}


@dataclass
class Script:
    """A script that trains elsewhere."""

    api: TestClient
    study: int
    prefix: str = ""
    """Of the API's addresses, if the client's base address has none."""

    def open(self, arm: str = FULL, seed: int = 0, key: str = "", **more: Any) -> Any:
        """Open a run, or find it again; the answer."""
        body = {"key": key or f"{arm}-{seed}", "arm": arm, "seed": seed, **more}
        return self.api.post(f"{self.prefix}/external-studies/{self.study}/runs", json=body)

    def report(self, run: Mapping[str, Any], number: int = 1, **more: Any) -> Any:
        """Send a batch; the answer."""
        body = {"attempt": run["attempt"], "number": number, **more}
        return self.api.post(f"{self.prefix}/runs/{run['run_id']}/reports", json=body)

    def end(self, run: Mapping[str, Any], scores: Mapping[str, float] | None, **more: Any) -> Any:
        """End a run; the answer."""
        body = {"attempt": run["attempt"], "outcome": "succeeded", "item_scores": scores, "facts": FACTS} | more
        return self.api.post(f"{self.prefix}/runs/{run['run_id']}/end", json=body)

    def train(self, arm: str, seed: int, accuracy: float, **more: Any) -> dict[str, Any]:
        """A whole run that succeeds; its last state."""
        run = self.open(arm, seed).json()
        answer = self.end(run, item_scores(accuracy, seed), **more)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def declare(api: TestClient, prefix: str = "", **changes: Any) -> Script:
    """A script of a new study."""
    answer = api.post(f"{prefix}/external-studies", json=SPEC | changes)
    assert answer.status_code == 201, answer.text
    return Script(api, answer.json()["id"], prefix)
