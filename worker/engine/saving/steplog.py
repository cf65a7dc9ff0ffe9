"""Metrics of optimizer steps, written to metrics.jsonl and reported to the sink a few times a second.

Losses and norms stay on the device until then: reading one waits for all work queued before it.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType

import torch

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.runs.result import StepMetrics
from worker.engine.loop.clocks import Lap
from worker.engine.loop.progress import Instruments

FLUSH_SECONDS = 0.25
_CHUNK = 1000
"""Maximum steps per report."""


class StepLog:
    """Collects steps. A context manager: it closes the file and, unless training failed, writes the remaining steps."""

    def __init__(self, file: Path, steps_per_epoch: int, instruments: Instruments) -> None:
        self._instruments = instruments
        self._steps_per_epoch = steps_per_epoch
        self.file = file
        self._lines = file.open("w", encoding="utf-8")
        self._waiting: list[Callable[..., StepMetrics]] = []
        """Each lacks its loss, its gradient norm and its seconds."""
        self._laps: list[Lap] = []
        self._values: list[torch.Tensor] = []
        self._flushed = time.monotonic()
        self.tokens = 0
        """Real tokens trained on so far."""
        self.steady_tokens = 0
        """Those of `tokens` in steps whose memory was not recorded."""

    def __enter__(self) -> "StepLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lines:
            if kind is None:
                self.flush()

    def resume(self, file: Path | None, tokens: int, steady_tokens: int) -> None:
        """Take over the steps of an interrupted attempt, and report them again."""
        lines = file.read_text(encoding="utf-8").splitlines() if file else []
        self._lines.writelines(f"{line}\n" for line in lines)
        for start in range(0, len(lines), _CHUNK):
            self._instruments.sink.steps(
                [StepMetrics.model_validate_json(line) for line in lines[start : start + _CHUNK]]
            )
        self.tokens, self.steady_tokens = tokens, steady_tokens

    def add(self, step: int, loss: torch.Tensor, rate: float, norm: torch.Tensor, tokens: int, steady: bool) -> None:
        """Record a step. Loss and norm are scalars on the device; `tokens` are those of this step; `steady`: it was not
        measured."""
        self.tokens += tokens
        self._values.append(torch.stack([loss, norm]))
        self._waiting.append(
            partial(
                StepMetrics,
                step=step,
                epoch=step / self._steps_per_epoch,
                learning_rate=rate,
                tokens=self.tokens,
                memory_bytes=self._instruments.memory.used(),
            )
        )
        self._laps.append(self._instruments.clocks.lap())
        if steady:
            self.steady_tokens += tokens
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the waiting steps. Raises `RunFailed(diverged)` at the first step whose loss or gradient norm is not
        finite."""
        self._flushed = time.monotonic()
        if not self._waiting:
            return
        self._instruments.clocks.settle()
        waiting = zip(self._waiting, torch.stack(self._values).tolist(), self._laps, strict=True)
        steps = [step(loss=loss, grad_norm=norm, seconds=lap.seconds) for step, (loss, norm), lap in waiting]
        self._waiting, self._values, self._laps = [], [], []
        finite = [s for s in steps if math.isfinite(s.loss) and math.isfinite(s.grad_norm)]
        self._lines.writelines(f"{s.model_dump_json()}\n" for s in finite)
        self._lines.flush()
        self._instruments.sink.steps(finite)
        for step in steps:
            for name, value in ((_("loss"), step.loss), (_("gradient norm"), step.grad_norm)):
                if not math.isfinite(value):
                    text = _(
                        "The %(name)s became %(value)s at step %(step)s, with learning rate %(rate)s. Lower the "
                        "learning rate or lengthen the warm-up.",
                        name=name,
                        value=value,
                        step=step.step,
                        rate=f"{step.learning_rate:.3g}",
                    )
                    raise RunFailed(FailureCode.DIVERGED, text)
