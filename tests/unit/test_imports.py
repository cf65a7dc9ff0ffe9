"""Imports of large libraries."""

import gc
from pathlib import Path

import pytest

from app.imports import import_large


@pytest.mark.slow
def test_a_large_import_is_not_searched_for_garbage_which_is_collected_again_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "large_library.py").write_text(
        "import gc\nSEARCHED = gc.isenabled()\nOBJECTS = [[] for _ in range(5000)]\n"
    )
    (tmp_path / "broken_library.py").write_text("raise RuntimeError('no driver')\n")
    frozen = gc.get_freeze_count()
    found = import_large("large_library")
    assert not found.SEARCHED and gc.isenabled()
    assert gc.get_freeze_count() >= frozen + 5000
    assert import_large("large_library") is found
    with pytest.raises(RuntimeError, match="no driver"):
        import_large("broken_library")
    assert gc.isenabled()
