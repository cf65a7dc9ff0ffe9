"""Executes attempts as one rank of a team: `python -m tests.support.ranks PLAN RANK WORLD`, with the plan on every
rank.

Starting a process that imports the libraries takes longer than these attempts, so one pair of processes executes a list
of them.
"""

import faulthandler
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from app.domain.runs.job import TrainJob
from app.domain.runs.result import RunResult, StepMetrics
from tests.support.tiny import texts as tiny
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.progress import Stopped
from worker.engine.ranks.team import Followed, Team


class Planned(BaseModel):
    """An attempt for the ranks."""

    name: str
    job: TrainJob
    stop_at: int | None = None
    """Rank 0 is told to stop before this batch of its own."""


class Done(BaseModel):
    """What rank 0 knows of an attempt, and what each rank has measured."""

    steps: list[StepMetrics]
    result: RunResult | None
    """None if it was stopped."""
    checkpoints: list[tuple[int, Path]]
    logs: list[str]
    peaks: list[dict[str, int]]
    """Peak bytes by phase of each rank, in its own memory."""


LIMIT_SECONDS = 300.0
"""For all attempts of a plan, which take some 40 s: ranks that need longer wait for each other."""


def execute(directory: Path, plan: Sequence[Planned], world: int = 2) -> dict[str, Done]:
    """Execute the attempts by so many processes; `directory` is empty. Where they hang, the error has their stacks."""
    file = directory / "plan.json"
    file.write_text(json.dumps([planned.model_dump(mode="json") for planned in plan]))
    command: list[Any] = [sys.executable, "-m", "tests.support.ranks", file]
    ranks = [subprocess.Popen([*command, str(rank), str(world)]) for rank in range(world)]
    until = time.monotonic() + LIMIT_SECONDS
    try:
        while (ends := [rank.poll() for rank in ranks]) != [0] * world:
            assert set(ends) <= {None, 0}, "a rank has failed, for which the others wait"
            assert time.monotonic() < until, _stacks(directory, ranks)
            time.sleep(0.05)
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    return {planned.name: _of_ranks(directory, planned.name, world) for planned in plan}


def _of_ranks(directory: Path, name: str, world: int) -> Done:
    done = [Done.model_validate_json((directory / f"{name}-{rank}.json").read_bytes()) for rank in range(world)]
    return done[0].model_copy(update={"peaks": [own for each in done for own in each.peaks]})


def _stacks(directory: Path, ranks: Sequence[subprocess.Popen[bytes]]) -> str:
    """What every thread of every rank is doing."""
    for rank in ranks:
        rank.send_signal(signal.SIGUSR1)
    time.sleep(2.0)  # they write them in the meantime
    files = sorted(directory.glob("stacks-*.txt"))
    return "\n".join(f"{file.stem}\n{file.read_text()}" for file in files)


def alone(planned: Planned) -> Done:
    """Execute an attempt in this process."""
    return _attempt(planned, Team())


def _attempt(planned: Planned, team: Team) -> Done:
    recorder = tiny.Recorder(planned.stop_at if team.leads else None)
    result = None
    attempt = Attempt(planned.job, recorder, team)
    try:
        result = attempt.run()
    except Stopped:
        with suppress(Followed):
            team.leave()
    except Followed:
        pass
    return Done(
        steps=recorder.seen,
        result=result,
        checkpoints=recorder.checkpoints,
        logs=recorder.logs,
        peaks=[attempt.instruments.memory.peaks()],
    )


def main(file: Path, rank: int, world: int) -> None:
    with file.with_name(f"stacks-{rank}.txt").open("w") as stacks:
        faulthandler.register(signal.SIGUSR1, stacks)
        for place, planned in enumerate(json.loads(file.read_text())):
            stacks.write(f"{planned['name']}\n")
            stacks.flush()
            team = Team(rank, world, file.with_name(f"meeting-{place}"))
            done = _attempt(Planned.model_validate(planned), team)
            file.with_name(f"{planned['name']}-{rank}.json").write_text(done.model_dump_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
