"""One installation for the faults of a session: each test finds it running, and leaves nothing in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.installation import Installation, installation
from tests.integration.conftest import api
from tests.support.servers.supervised import claim, here, meanwhile

__all__ = ["api", "claim", "here", "meanwhile", "vezna"]


@pytest.fixture(scope="session")
def _shared(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("faults")
    (folder / "home").mkdir()
    (folder / "home" / "vezna.sqlite").write_bytes(migrated_file.read_bytes())
    with installation(folder) as running:
        yield running


@pytest.fixture
def vezna(_shared: Installation) -> Iterator[Installation]:
    """A running installation on SQLite. Afterwards every run has ended, and no file and no process is left."""
    _shared.begin()
    yield _shared
    _shared.require_rest()
