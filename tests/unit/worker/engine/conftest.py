"""Fixtures of the engine's tests."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.tiny import texts as tiny
from worker.engine.loop import attempt


@pytest.fixture(scope="session", autouse=True)
def _rates_are_measured_once() -> Iterator[None]:
    """Every attempt begins by measuring the device, which takes longer here than its training: all share one
    measurement per precision."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt, "device_rates", cache(attempt.device_rates))
        yield


@pytest.fixture
def recorder() -> tiny.Recorder:
    """A sink that remembers."""
    return tiny.Recorder()


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model's directory."""
    return tiny.save_model(tmp_path_factory.mktemp("base"))
