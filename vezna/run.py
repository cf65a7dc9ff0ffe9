"""A run that is tracked: what the script reports goes into a file, and from there to the server by another thread."""

import atexit
import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from vezna.facts import PeakMemory, plain
from vezna.sending.buffer import Buffer
from vezna.sending.sender import Sender

log = logging.getLogger("vezna")
LONGEST_MESSAGE = 2000
CLOSE_SECONDS = 10.0
"""How long the end of a script waits for what is not sent yet."""


class Run:
    """A run of a declared study. No method raises for what Vezna cannot do: it says so in one line of the log, and the
    training goes on."""

    def __init__(
        self,
        sender: Sender | None,
        facts: dict[str, Any],
        test_items: Sequence[str] | None,
        item_groups: Mapping[str, str] | None = None,
    ) -> None:
        """Without a sender it reports nothing. `test_items`: the names of the declared test set's items, in order;
        `item_groups`: the group of those that share one."""
        self._sender = sender
        self._buffer: Buffer | None = sender.buffer if sender else None
        self._facts = facts
        self._test_items, self._item_groups = test_items, item_groups
        self._scores: dict[str, float] | None = None
        self._clocks: dict[str, float] = {}
        self._memory = PeakMemory() if sender else None
        self._began, self._last_seconds, self._last_step = time.perf_counter(), 0.0, 0
        self._process = os.getpid()
        self._broken = False
        self._earlier_seconds: float | None = None
        """Seconds of training in processes before this one."""
        self._resumed_blindly = False
        self._training: dict[str, Any] | None = None
        """Time and memory, once the training has ended."""
        if sender:
            sender.start()
            atexit.register(self.leave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if error is None:
            self.finish()
        elif isinstance(error, Exception):
            self.fail(f"{type(error).__name__}: {error}")
        else:  # Ctrl+C and the like: the same script may be started again
            self.leave()

    @property
    def run_id(self) -> int | None:
        """Its number at the server; None until the server has answered."""
        return self._sender.state.run_id if self._sender and self._sender.state else None

    @property
    def file(self) -> Path | None:
        """Where its reports are kept; None if it reports nothing."""
        return self._buffer.path.resolve() if self._buffer else None

    @property
    def cancel_requested(self) -> bool:
        """A person asks the run to stop: end the training and leave the `with` block by `run.cancel()`."""
        return bool(self._sender and self._sender.cancel_requested)

    def log_step(
        self,
        step: int,
        *,
        loss: float | None = None,
        epoch: float = 0.0,
        learning_rate: float = 0.0,
        grad_norm: float | None = None,
        tokens: int = 0,
        memory_bytes: int = 0,
    ) -> None:
        """Report an optimizer step, from 1. `tokens` are those trained on so far."""
        with _checked("a step"):
            if int(step) < 1:
                raise ValueError(f"its number is {step}, and steps begin at 1")
            if self._earlier_seconds is None:
                self._earlier_seconds = self._trained_before(int(step))
            seconds = self._elapsed()
            values = {
                "step": int(step),
                "loss": _number(loss),
                "epoch": _number(epoch),
                "learning_rate": _number(learning_rate),
                "grad_norm": _number(grad_norm),
                "tokens": int(tokens),
                "seconds": round(max(seconds, self._last_seconds), 6),
                "memory_bytes": int(memory_bytes),
            }
            self._last_seconds, self._last_step = max(seconds, self._last_seconds), int(step)
            self._write("step", {name: value for name, value in values.items() if value})

    def log_evaluation(
        self, step: int, *, score: float, items: int, split: str = "validation", loss: float | None = None
    ) -> None:
        """Report the metric on a split other than test, as a fraction of 1."""
        with _checked("an evaluation"):
            fraction = _number(score)
            if fraction is None or not 0 <= fraction <= 1:
                raise ValueError(f"its score is {score}, and a score is from 0 to 1")
            values = {"step": int(step), "split": split, "items": int(items), "score": fraction, "loss": _number(loss)}
            self._write("evaluation", values)

    def log_message(self, text: str) -> None:
        """Add a line to the run's log."""
        self._write("message", {"message": str(text)[:LONGEST_MESSAGE]})

    def log_facts(self, **facts: Any) -> None:
        """State more of the training, by the names of `facts` in docs/elsewhere.md: `dataset="…"`, `settings={…}`."""
        for name, stated in facts.items():
            value, known = plain(stated), self._facts.get(name)
            if value in ("nan", "inf", "-inf") and not isinstance(stated, str):
                log.warning("Vezna: the fact %s is left out: it is %s. Give a finite number.", name, value)
                continue
            self._facts[name] = {**known, **value} if isinstance(known, dict) and isinstance(value, dict) else value

    @contextmanager
    def clock(self, phase: str) -> Iterator[None]:
        """Measure a phase that is no training: `with run.clock("evaluate"): …`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add_seconds(phase, time.perf_counter() - began)

    def add_seconds(self, phase: str, seconds: float) -> None:
        """Add to the clock of a phase that is no training."""
        self._clocks[phase] = self._clocks.get(phase, 0.0) + seconds

    def continue_from(self, step: int) -> None:
        """Say that the training continues after an optimizer step. Its time includes that of the steps before, or is
        left out if these were reported from another directory."""
        self._earlier_seconds = self._trained_before(step + 1)
        self._resumed_blindly = not self._earlier_seconds

    def end_training(self) -> None:
        """Stop the clock of the training and take its peak memory, before the test set is scored."""
        if self._training is None:
            self._training = self._measured(self._elapsed())

    def log_item_scores(self, scores: Mapping[str, float] | Sequence[float]) -> None:
        """Give the score of each test item, from 0 to 1: by the item's name or, if `test` was given to `track`, in the
        order of that test set."""
        try:
            self._take_scores(scores)
        except (TypeError, ValueError) as error:
            self._refuse_scores(f"a score is no number ({error}). Give each test item a score from 0 to 1")

    def _take_scores(self, scores: Mapping[str, float] | Sequence[float]) -> None:
        if isinstance(scores, Mapping):
            named = {str(name): float(score) for name, score in scores.items()}
            if self._test_items is not None and named.keys() != set(self._test_items):
                self._refuse_scores(
                    f"the scores are not those of the declared test set: {_difference(named, self._test_items)}. "
                    "Score every item of the set that was given as test"
                )
                return
        elif self._test_items is None:
            self._refuse_scores(
                "scores in an order need the test set. Give it as test=… or give the scores by the items' names"
            )
            return
        elif len(scores) != len(self._test_items):
            self._refuse_scores(
                f"{len(scores)} scores were given for {len(self._test_items)} test items. Give one for each item, in "
                "the order of the test set"
            )
            return
        else:
            named = {name: float(score) for name, score in zip(self._test_items, scores, strict=True)}
        outside = [name for name, score in named.items() if not 0 <= score <= 1]
        if outside or not named:
            what = f"the score of item {outside[0]} is {named[outside[0]]}" if outside else "no score was given"
            self._refuse_scores(f"{what}. Give each test item a score from 0 to 1")
            return
        self._scores = named

    def finish(self) -> None:
        """End the run as succeeded; it needs the scores of the test items."""
        if self._sender is None or self._buffer is None or self._buffer.end is not None:
            return
        if self._scores is None:
            log.error(
                "Vezna: the run has no score for each test item, so it stays open and cannot be compared. Call "
                "run.log_item_scores(…), and start the script again: it continues the run."
            )
            self.leave()
            return
        groups = {"item_groups": self._item_groups} if self._item_groups else {}
        self._end("succeeded", item_scores=self._scores, **groups)

    def fail(self, why: str) -> None:
        """End the run as failed."""
        self._end("failed", message=why[:LONGEST_MESSAGE])

    def cancel(self) -> None:
        """End the run as cancelled."""
        self._end("cancelled")

    def leave(self) -> None:
        """Send what is left, and let the run go on: the same script, started again, continues it."""
        if self._sender is None or os.getpid() != self._process:
            return
        sender, self._sender = self._sender, None
        atexit.unregister(self.leave)
        wait = 1.0 if sender.stopped else CLOSE_SECONDS
        if not sender.finish(wait) and not sender.stopped:
            log.warning(
                "Vezna: %s does not have all reports yet; they are in %s. Send them by starting the script again, or "
                "by: python -m vezna.sending.send %s",
                sender.address, sender.buffer.path, sender.buffer.path.parent,
            )  # fmt: skip
        sender.close()

    def _end(self, outcome: str, **values: Any) -> None:
        if self._sender is None or self._buffer is None or self._buffer.end is not None:
            return
        training = self._training or self._measured(self._last_seconds or self._elapsed())
        train = {"train": training["train_seconds"]} if "train_seconds" in training else {}
        measured = {
            **training,
            "clocks": train | {name: round(spent, 6) for name, spent in self._clocks.items()},
            **({"steps": self._last_step} if self._last_step else {}),
        }
        self._write("end", {"outcome": outcome, **values, "facts": measured | self._facts})
        self.leave()

    def _elapsed(self) -> float:
        """Seconds of training so far, those of earlier processes too."""
        if self._earlier_seconds is None and (trained := self._trained_before(sys.maxsize)):
            return trained  # no step since the start: an earlier process trained
        return (self._earlier_seconds or 0.0) + time.perf_counter() - self._began - sum(self._clocks.values())

    def _trained_before(self, step: int) -> float:
        """Seconds of training before a step in earlier processes; 0 if they are not known."""
        try:
            return self._buffer.seconds_before(step) if self._buffer else 0.0
        except OSError:
            return 0.0

    def _measured(self, seconds: float) -> dict[str, Any]:
        """Time, unless a part of it is unknown, and memory of the training."""
        time_facts = {} if self._resumed_blindly else {"train_seconds": round(seconds, 6)}
        return time_facts | (self._memory.facts() if self._memory else {})

    def _refuse_scores(self, why: str) -> None:
        log.error("Vezna: %s. The run stays open until it has them.", why)

    def _write(self, kind: str, values: dict[str, Any]) -> None:
        if self._sender is None or self._broken or self._buffer is None or os.getpid() != self._process:
            return
        try:
            self._buffer.append(kind, values)
        except (OSError, ValueError, TypeError) as error:
            self._broken = True
            log.error(
                "Vezna: reports cannot be written to %s (%s), so the rest of this training is not reported. Make room "
                "or give another directory=…, and start the script again.", self._buffer.path, error,
            )  # fmt: skip


@contextmanager
def _checked(what: str) -> Iterator[None]:
    """Leave out a report with a wrong value, with a line in the log."""
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        log.warning("Vezna: %s is left out: %s.", what, error)


def _number(value: Any) -> float | None:
    """None for what is no number."""
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _difference(scores: Mapping[str, float], items: Sequence[str]) -> str:
    """Which items are too many or missing, by name."""
    missing = [name for name in items if name not in scores]
    foreign = sorted(scores.keys() - set(items))
    parts = [f"{len(missing)} are missing, such as {missing[0]}"] if missing else []
    parts += [f"{len(foreign)} do not belong to it, such as {foreign[0]}"] if foreign else []
    return " and ".join(parts)
