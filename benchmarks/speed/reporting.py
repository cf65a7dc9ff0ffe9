"""What it costs to note a step and to report it."""

import os
import tempfile
import threading
import time
from pathlib import Path

import torch

from worker.engine.loop.clocks import Stopwatch
from worker.engine.loop.progress import Instruments
from worker.engine.memory.measured import MemoryMeter
from worker.engine.saving.steplog import FLUSH_SECONDS, StepLog
from worker.training.execution import Reports
from worker.training.protocol import Channel


class ToNowhere(Channel):
    """Takes reports as the supervisor's pipe does."""

    def __init__(self) -> None:
        self._descriptor = os.open(os.devnull, os.O_WRONLY)


def reporting(step_seconds: float, steps: int = 2000) -> float:
    """Seconds a step that go into noting and reporting it, for steps of the given length."""
    instruments = Instruments(
        Reports(ToNowhere(), threading.Event()),
        Stopwatch(time.time(), torch.device("cpu")),
        MemoryMeter(torch.device("cpu")),
    )
    loss, norm = torch.tensor(1.0), torch.tensor(1.0)
    together = max(1, round(FLUSH_SECONDS / step_seconds))
    with tempfile.TemporaryDirectory() as directory, StepLog(Path(directory) / "log", steps, instruments) as log:
        began = time.perf_counter()
        for step in range(1, steps + 1):
            log.add(step, loss, 1e-3, norm, 1000, steady=True)
            if step % together == 0:
                log.flush()
        return (time.perf_counter() - began) / steps
