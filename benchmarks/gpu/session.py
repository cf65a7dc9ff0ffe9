"""A session on a GPU: parts in order until a deadline, each measurement in a process of its own, and what they found.

The process of the session never touches the GPU: a measurement is a forked child, which ends with its CUDA context and
its memory, and which is killed at the deadline. The results are written after every measurement.
"""

import json
import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, TypeVar

from worker.children.child import die_with_parent

T = TypeVar("T")
Value = str | int | float | bool | None


class NotMeasured(Exception):
    """Why a number is missing."""


class DeadlineReached(NotMeasured):
    """The session is over."""


@dataclass
class Part:
    """The results of a part: rows of a table, and why others are missing."""

    name: str
    title: str
    state: Literal["not started", "running", "done", "failed", "ended by the deadline"] = "not started"
    seconds: float = 0.0
    rows: list[dict[str, Value]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """A section with a table."""
        lines = [f"## {self.title}", "", f"`{self.name}`: {self.state}, {self.seconds:.0f} s", ""]
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        if columns:
            lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
            lines += ["| " + " | ".join(_shown(row.get(name)) for name in columns) + " |" for row in self.rows]
            lines.append("")
        return "\n".join([*lines, *(f"- {note}" for note in self.notes), ""])


class Session:
    """Runs parts and writes `session.json` and `session.md`."""

    def __init__(self, directory: Path, scratch: Path, seconds: float, *, rehearsal: bool) -> None:
        """`directory` receives the results, `scratch` the models; `seconds` from now is the deadline. A `rehearsal`
        runs everything with tiny models on the CPU."""
        self.directory, self.scratch, self.rehearsal = directory, scratch, rehearsal
        self.device: Literal["cpu", "cuda"] = "cpu" if rehearsal else "cuda"
        self.about: dict[str, Value] = {}
        self.parts: list[Part] = []
        self._ends = time.monotonic() + seconds
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self._ends - time.monotonic()

    def run(self, name: str, title: str, work: Callable[["Session", Part], None]) -> None:
        """Run a part. Its failure is recorded and ends nothing else."""
        part = Part(name, title)
        self.parts.append(part)
        if self.left <= 0:
            part.notes.append("The deadline was reached before it began.")
            self.write()
            return
        part.state, began = "running", time.monotonic()
        self.write()
        try:
            work(self, part)
            part.state = "done"
        except DeadlineReached as why:
            part.state = "ended by the deadline"
            part.notes.append(str(why))
        except Exception as error:
            part.state = "failed"
            part.notes.append(reason(error))
            traceback.print_exc()
        part.seconds = time.monotonic() - began
        self.write()

    def measure(self, part: Part, label: dict[str, Value], work: Callable[[], dict[str, Value]]) -> bool:
        """Add a row to a part, measured in a process of its own, or the reason why there is none. Raises
        DeadlineReached."""
        try:
            part.rows.append(label | self.apart(work))
        except DeadlineReached:
            raise
        except NotMeasured as why:
            part.rows.append(label | {"not measured": str(why)})
        self.write()
        return "not measured" not in part.rows[-1]

    def apart(self, work: Callable[[], T]) -> T:
        """The result of some work in a forked process. Raises NotMeasured with the reason if there is none."""
        if (left := self.left) <= 0:
            raise DeadlineReached("The deadline was reached.")
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_answer, args=(sender, work))
        process.start()
        sender.close()
        try:
            if not receiver.poll(left):
                raise DeadlineReached("The deadline was reached during a measurement, which was ended.")
            found, why = receiver.recv()
        except EOFError:
            process.join()
            raise NotMeasured(f"The process ended with {_ending(process.exitcode)}.") from None
        finally:
            process.kill()
            process.join()
        if why:
            raise NotMeasured(why)
        return found  # type: ignore[no-any-return]

    def write(self) -> None:
        """Write everything so far."""
        content = {"about": self.about, "parts": [asdict(part) for part in self.parts]}
        (self.directory / "session.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
        about = [f"- {name}: {_shown(value)}" for name, value in self.about.items()]
        sections = [part.markdown() for part in self.parts]
        (self.directory / "session.md").write_text("\n".join([*about, "", *sections]), encoding="utf-8")

    @property
    def failed(self) -> bool:
        """A part failed."""
        return any(part.state == "failed" for part in self.parts)


def reason(error: BaseException) -> str:
    """An exception in one line."""
    text = str(error).strip().split("\n")[0]
    return text if isinstance(error, NotMeasured) else f"{type(error).__name__}: {text}".rstrip(": ")


def _answer(sender: Connection, work: Callable[[], Any]) -> None:
    die_with_parent()  # a measurement may measure in processes of its own
    try:
        sender.send((work(), ""))
    except Exception as error:
        if not isinstance(error, NotMeasured):
            traceback.print_exc()
        sender.send((None, reason(error)))


def _ending(code: int | None) -> str:
    return f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"status {code}"


def _shown(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else value.replace("|", "\\|")
