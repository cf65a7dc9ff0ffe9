"""Fixtures of the engine's tests."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from app.domain.metrics import Evaluation, StepMetrics
from app.domain.runs import Phase
from tests import tiny
from worker.engine.progress import Stopped


class Recorder:
    """A sink that remembers everything; it stops the attempt at step `stop_at`."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.phases: list[Phase] = []
        self.seen: list[StepMetrics] = []
        self.evaluations: list[tuple[Evaluation, Sequence[str], Sequence[float]]] = []
        self.logs: list[str] = []
        self.stop_at = stop_at
        self.total_steps: int | None = None
        self._calls_in_training = 0

    def phase(self, phase: Phase, total_steps: int | None = None) -> None:
        self.phases.append(phase)
        self.total_steps = total_steps or self.total_steps

    def steps(self, steps: Sequence[StepMetrics]) -> None:
        self.seen += steps

    def evaluation(self, evaluation: Evaluation, items: Sequence[str] = (), scores: Sequence[float] = ()) -> None:
        self.evaluations.append((evaluation, items, scores))

    def log(self, message: str) -> None:
        self.logs.append(message)

    def raise_if_stopped(self) -> None:
        if self.phases and self.phases[-1] is Phase.TRAIN:
            self._calls_in_training += 1
            if self.stop_at is not None and self._calls_in_training > self.stop_at:
                raise Stopped


@pytest.fixture
def recorder() -> Recorder:
    """A sink that remembers."""
    return Recorder()


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model's directory."""
    return tiny.save_model(tmp_path_factory.mktemp("base"))
