"""A spare trainer imports at low priority, until a run waits for it."""

import os
import sys
import threading
from types import ModuleType

import pytest

from worker.children.child import BACKGROUND_NICENESS
from worker.training import child
from worker.training.child import Import

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has a priority per thread")


class Importing:
    """An import that takes until `end`, in a thread of its own."""

    def __init__(self, patch: pytest.MonkeyPatch, imported: Import) -> None:
        self._began, self._may_end = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=imported)
        patch.setattr(child, "import_execution", self._import)

    def _import(self) -> ModuleType:
        self._began.set()
        assert self._may_end.wait(20)
        return os

    def begin(self) -> None:
        self.thread.start()
        assert self._began.wait(20)

    def end(self) -> None:
        self._may_end.set()
        self.thread.join()

    def niceness(self) -> int:
        assert self.thread.native_id
        return os.getpriority(os.PRIO_PROCESS, self.thread.native_id)


OURS = os.getpriority(os.PRIO_PROCESS, 0)
LOW = min(19, OURS + BACKGROUND_NICENESS)


def test_an_import_ahead_is_modest_until_a_run_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = Import(modestly=True)
    importing = Importing(monkeypatch, imported)
    importing.begin()
    assert importing.niceness() == LOW
    imported.hurry()
    assert importing.niceness() == (OURS if os.geteuid() == 0 else LOW), "only root may raise a priority"
    importing.end()
    imported.hurry()  # nothing is imported any more, and no other thread is meant


@pytest.mark.parametrize("modestly", [True, False])
def test_an_import_for_a_run_that_waits_already_is_not_modest(monkeypatch: pytest.MonkeyPatch, modestly: bool) -> None:
    imported = Import(modestly=modestly)
    imported.hurry()
    importing = Importing(monkeypatch, imported)
    importing.begin()
    assert importing.niceness() == OURS
    importing.end()
