"""How long a large CSV file takes to be read and to become a dataset, and how much memory the process for it holds.

    python -m benchmarks.reading [megabytes, 1000]

A file of two columns: texts of some 70 words (words as common as in English, by Zipf), and eight labels, of which one
row in two has the first; one row in a hundred repeats another. It is read and prepared as a worker does it, in a
process of its own, whose largest resident set is the kernel's own count (VmHWM).
"""

import random
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.domain.data.findings import Finding
from app.domain.data.splitting import Splitting
from app.domain.data.uploads import Part, ReadingOptions, SourceScan
from app.words.data.findings import with_message
from worker.ingest.host import IngestQueue

WORDS = 50_000
PHRASES = 20_000
PHRASE_WORDS, ROW_PHRASES = 10, 7
LABELS = ["earn", "acq", "crude", "trade", "money-fx", "interest", "ship", "grain"]
REPEATED = 0.01
LOOK_SECONDS = 0.05


class Watched(IngestQueue):
    """Follows the memory of its process."""

    def __init__(self) -> None:
        super().__init__()
        self.peak_bytes = 0

    def measured(self, request: dict[str, Any]) -> tuple[dict[str, Any], float]:
        """The answer, and seconds."""
        self.peak_bytes, done = 0, threading.Event()
        watcher = threading.Thread(target=self._watch, args=(done,), daemon=True)
        watcher.start()
        began = time.perf_counter()
        answer = self.run(request, lambda share, rows: True)
        seconds = time.perf_counter() - began
        done.set()
        watcher.join()
        return answer, seconds

    def _watch(self, done: threading.Event) -> None:
        while not done.wait(LOOK_SECONDS):
            if (process := self._process) is not None:
                self.peak_bytes = max(self.peak_bytes, highest(process.pid))


def highest(pid: int) -> int:
    """A process's largest resident set so far, in bytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def write(path: Path, size: int) -> None:
    """A file of that many bytes, the same every time."""
    drawn = random.Random(0)
    words = [f"w{place:x}" for place in range(WORDS)]
    weights = [1 / (place + 1) for place in range(WORDS)]
    flat = drawn.choices(words, weights, k=PHRASES * PHRASE_WORDS)
    phrases = [" ".join(flat[i * PHRASE_WORDS : (i + 1) * PHRASE_WORDS]) for i in range(PHRASES)]
    shares = [8, *([8 / (len(LABELS) - 1)] * (len(LABELS) - 1))]
    written, last = 0, ""
    with path.open("w", newline="") as file:
        written += file.write("text,label\n")
        while written < size:
            labels = drawn.choices(LABELS, shares, k=1000)
            for label in labels:
                if drawn.random() > REPEATED or not last:
                    last = f'"{", ".join(drawn.choices(phrases, k=ROW_PHRASES))}",{label}\n'
                written += file.write(last)


def main(megabytes: int) -> None:
    """Print both."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "rows.csv"
        write(path, megabytes * 10**6)
        part = Part(name="rows.csv", sha256="0" * 64, bytes=path.stat().st_size)
        source = {
            "parts": [part.model_dump()],
            "paths": [str(path)],
            "options": ReadingOptions().model_dump(),
        }
        preparer = Watched()
        answer, seconds = preparer.measured({"read": source})
        scan = SourceScan.model_validate(answer["scan"])
        tell("read", part.bytes, scan.rows, seconds, preparer.peak_bytes)
        assert scan.mapping is not None
        more = {
            "mapping": scan.mapping.model_dump(mode="json"),
            "splitting": Splitting().model_dump(mode="json"),
            "target": str(folder / "rows.parquet"),
        }
        answer, seconds = preparer.measured({"prepare": source | more})
        tell("prepared", part.bytes, scan.rows, seconds, preparer.peak_bytes)
        for finding in map(Finding.model_validate, answer["findings"]):
            print(f"  {finding.severity:6} {finding.code}: {with_message(finding).message}")


def tell(what: str, size: int, rows: int, seconds: float, peak: int) -> None:
    """A line."""
    speed = size / 1e6 / seconds
    print(
        f"{what:9} {size / 1e6:.0f} MB, {rows:,} rows in {seconds:.0f} s ({speed:.0f} MB/s), "
        f"at most {peak / 2**20:.0f} MiB resident",
        flush=True,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
