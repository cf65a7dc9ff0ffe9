"""Many runs while random processes are killed: `make soak ARGS="--seed 7"` (`python -m tests.support.servers.soak
--help`).

Vezna as `vezna up` starts it, with real trainers of a tiny model. Every kind of process is killed by SIGKILL, in an
order that follows from the seed, each when so many runs have ended and a pause, also from the seed, has passed. A main
process is started again at once, as `vezna up` does. In the end every run must have succeeded, once, with each step
stored once, and nothing may be left. The exit status is 1 otherwise.
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import psutil
import pytest

from app.broker.embedded import Stack
from app.settings import ROOT, Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.runs import events, steps
from app.store.runs import queries as runs
from app.store.tables import RunRow
from tests.support.servers.running_stack import marked_processes, prepare, start, until

NODES = ("broker", "control", "worker", "web")
CHILDREN = {"trainer": "worker.training.child", "pool child": "celery", "estimation": "worker.estimation.child"}
"""Children of the nodes, by a part of their command lines."""
KINDS = (*NODES, *CHILDREN)
PAUSE_SECONDS = 4.0
"""At most, between the end of a run and a kill: about as long as a run takes."""
ABSENT_SECONDS = 5.0
"""How long to wait for a process of the kind whose turn it is."""
REST_SECONDS = 60.0


@dataclass
class Report:
    """What became of the runs, and what was left."""

    seed: int
    runs: int
    seconds: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    succeeded: int = 0
    lost: int = 0
    """Ended without success."""
    stuck: int = 0
    """Not ended in time."""
    duplicated: int = 0
    """With two ends, a claim too many, or a step that is stored twice or not at all."""
    processes: int = 0
    """Left when everything had stopped."""
    files: int = 0
    """Left: folders of attempts, checkpoints, files of lost attempts."""
    rows: int = 0
    """Written: steps and lines of logs."""
    lock_errors: int = 0

    @property
    def passed(self) -> bool:
        """Every run succeeded once, and nothing is left."""
        bad = self.lost + self.stuck + self.duplicated + self.processes + self.files + self.lock_errors
        return bad == 0 and self.succeeded == self.runs

    def table(self) -> str:
        """As a Markdown table."""
        cells = {
            "seed": self.seed,
            "runs": self.runs,
            "kills": self.kills.total(),
            "minutes": f"{self.seconds / 60:.1f}",
            "attempts": self.attempts,
            "succeeded": self.succeeded,
            "lost": self.lost,
            "stuck": self.stuck,
            "duplicated": self.duplicated,
            "processes left": self.processes,
            "files left": self.files,
            "rows written": f"{self.rows:,}",
            "lock errors": self.lock_errors,
        }
        lines = [cells.keys(), ["---"] * len(cells), map(str, cells.values())]
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.kills.most_common())
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\nKilled: {kinds or 'nothing'}."


def soak(folder: Path, *, count: int, kills: int, seed: int, minutes: float) -> Report:
    """Submit runs, kill processes until all have ended, and examine what is left."""
    report, began = Report(seed, count), time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder}:{ROOT}")
        settings = prepare(folder, patch)
        patch.setenv("VEZNA_MAX_ATTEMPTS", str(kills + 1))  # each of them could meet the same run
        with start(settings) as (stack, api):
            database = Database(settings.database)
            ids = [_submit(api, number) for number in range(count)]
            deadline = began + minutes * 60
            with suppress(AssertionError):
                for number, (pause, kind) in enumerate(_schedule(random.Random(seed), kills)):
                    _await_ends(database, ids, number * count // kills, deadline)
                    time.sleep(pause)
                    report.kills[kind] += _kill(stack, kind)
                _await_ends(database, ids, count, deadline)
            with suppress(AssertionError):
                until(lambda: not _left_files(settings, database, ids), REST_SECONDS)
            _count(report, settings, database, ids)
            database.dispose()
    report.processes = len(marked_processes(str(folder)))
    report.seconds = time.monotonic() - began
    return report


def _submit(api: httpx2.Client, number: int) -> int:
    """One of nine configurations, so that there is something to estimate, each a few seconds long."""
    rank, targets = 2 ** (number % 4), [["query", "value"], ["query", "key", "value"]][number // 4 % 2]
    lora = {"kind": "lora", "r": rank, "target_modules": targets}
    training = {"num_train_epochs": 100, "per_device_train_batch_size": 8, "max_length": 16, "seed": number}
    spec = {"base_model": "tiny", "dataset": "small", "training": training}
    answer = api.post("/runs", json=spec | {"method": {"kind": "full"} if number % 3 == 0 else lora})
    assert answer.status_code == 202, answer.text
    return int(answer.json()["id"])


def _schedule(rng: random.Random, kills: int) -> Iterator[tuple[float, str]]:
    """A pause and the kind of process to kill then: every kind as often as any other, in random order."""
    kinds: list[str] = []
    for _ in range(kills):
        if not kinds:
            kinds = rng.sample(KINDS, len(KINDS))
        yield rng.uniform(0, PAUSE_SECONDS), kinds.pop()


def _await_ends(database: Database, ids: Sequence[int], count: int, deadline: float) -> None:
    """Wait until so many runs have ended. Raises AssertionError at the deadline (monotonic seconds)."""
    until(lambda: _ended(database, ids) >= count, max(0.1, deadline - time.monotonic()))


def _kill(stack: Stack, kind: str) -> int:
    """Kill a process of a kind, and start it again if it is a main one. Returns how many there were to kill."""
    if kind in NODES:
        place, child = next((i, c) for i, c in enumerate(stack.children) if c.name == kind)
        child.process.kill()
        child.process.wait()
        stack.children[place] = child.again()
        return 1
    deadline = time.monotonic() + ABSENT_SECONDS
    while time.monotonic() < deadline:
        for process in _children(stack, kind):
            with suppress(psutil.NoSuchProcess):
                process.kill()
                return 1
        time.sleep(0.1)
    return 0


def _children(stack: Stack, kind: str) -> list[psutil.Process]:
    """The processes of a kind, those that have a run before those that wait for one."""
    parents = [child.process.pid for child in stack.children if child.name in ("control", "worker")]
    found: list[tuple[bool, psutil.Process]] = []
    for parent in parents:
        with suppress(psutil.NoSuchProcess):
            below = psutil.Process(parent).children(recursive=kind != "pool child")
            for process in below:
                with suppress(psutil.NoSuchProcess):  # one that ends meanwhile does not hide the others
                    if CHILDREN[kind] in " ".join(process.cmdline()):
                        found.append((process.cwd() == "/", process))
    return [process for _, process in sorted(found, key=lambda pair: pair[0])]


def _rows(database: Database, ids: Sequence[int]) -> list[RunRow]:
    with database.reading() as session:
        return runs.some(session, ids)


def _ended(database: Database, ids: Sequence[int]) -> int:
    return sum(run.finished_at is not None for run in _rows(database, ids))


def _count(report: Report, settings: Settings, database: Database, ids: Sequence[int]) -> None:
    """Fill in the report, while everything still runs."""
    for run in (rows := _rows(database, ids)):
        with database.reading() as session:
            said = [event.message for event in events.after(session, run.id)]
            stored = [int(number) for number in steps.read(session, run.id)["step"]]
        report.attempts += run.epoch
        report.rows += len(said) + len(stored)
        report.succeeded += run.status == "succeeded"
        report.stuck += run.finished_at is None
        report.lost += run.finished_at is not None and run.status != "succeeded"
        ends = sum(line.startswith(("succeeded", "failed", "cancelled")) for line in said)
        claims = sum(line.startswith("claimed by") for line in said)
        whole = run.result is None or stored == list(range(1, run.result.steps + 1))
        report.duplicated += ends > 1 or claims != run.epoch or not whole
    report.lost += len(ids) - len(rows)
    report.files = len(_left_files(settings, database, ids))
    logs = (path.read_text(errors="replace") for path in (settings.home / "logs").iterdir())
    report.lock_errors = sum(log.count("database is locked") for log in logs)


def _left_files(settings: Settings, database: Database, ids: Sequence[int]) -> list[str]:
    """Folders of attempts on the worker's disk, and files in the store that are not a result's."""
    files, left = Files(settings.files), [str(path) for path in (settings.home / "work").glob("run-*")]
    for run in _rows(database, ids):
        own = f"{files.root}/runs/{run.id}/"
        if files.fs.exists(own):
            left += [name for name in files.fs.find(own) if not name.startswith(f"{own}{run.epoch}/")]
    return left


def main() -> int:
    """Print the report; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--kills", type=int, default=56)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=14.0)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="vezna-soak-") as folder:
        report = soak(Path(folder), count=options.runs, kills=options.kills, seed=options.seed, minutes=options.minutes)
    print(report.table())
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
