"""`worker.training.child` with a trainer that computes on the CPU, whatever GPU it has."""

import os
import sys
from types import ModuleType

import torch

from worker.training import child

_import_execution = child.import_execution


def import_execution() -> ModuleType:
    """The same, with another device."""
    execution = _import_execution()
    sys.modules["worker.engine.loop.attempt"].choose_device = lambda wanted: torch.device("cpu")  # type: ignore[attr-defined]
    return execution


if __name__ == "__main__":
    child.import_execution = import_execution
    status = child.main()
    sys.stderr.flush()
    os._exit(status)
