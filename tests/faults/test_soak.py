"""A short soak: runs of a real engine while processes are killed. `make soak` is the long one."""

from pathlib import Path

import pytest

from tests.soak import soak


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_eight_runs_survive_four_kills(tmp_path: Path) -> None:
    report = soak(tmp_path, count=8, kills=4, seed=1, minutes=5)
    assert report.passed, report.table()
    assert report.kills
