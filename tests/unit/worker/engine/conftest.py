"""Fixtures of the engine's tests."""

from pathlib import Path

import pytest

from tests import tiny


@pytest.fixture
def recorder() -> tiny.Recorder:
    """A sink that remembers."""
    return tiny.Recorder()


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model's directory."""
    return tiny.save_model(tmp_path_factory.mktemp("base"))
