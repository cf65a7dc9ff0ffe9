"""Progress of an export's parts. The worker ends an export process that reports nothing for long, so every part reports
after each tensor, file or batch."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Report = Callable[[float], None]
"""Receives the share of the work that is done."""
LOOK_SECONDS = 1.0


def part(report: Report, begin: float, end: float) -> Report:
    """A report for the part of the work from one share to another."""
    return lambda share: report(begin + (end - begin) * share)


def quiet(_share: float) -> None:
    """No report."""


@contextmanager
def growing(folder: Path, total_bytes: int, report: Report) -> Iterator[None]:
    """Report while a library writes into a folder, each time that its files have grown."""
    ended = threading.Event()

    def look() -> None:
        known = 0
        while not ended.wait(LOOK_SECONDS):
            if (size := _bytes(folder)) > known:
                known = size
                report(min(size / max(total_bytes, 1), 1.0))

    watch = threading.Thread(target=look, daemon=True, name="growing")
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()


def _bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue  # it was just renamed
    return total
