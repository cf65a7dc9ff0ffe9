"""A trainer of a group that trains nothing. `python group_trainer.py BEHAVIOUR…`, one for each run of the group:
`succeeds`, `fails`, `overflows` its memory, cannot train with others (`alone`), `waits` until it is told to stop,
`kills` the process when every other one has ended or waits."""

import os
import signal
import sys
import threading

from app.domain.failures import Failure, FailureCode
from app.domain.runs.job import (
    AloneReport,
    FailureReport,
    GroupJob,
    MemberReport,
    PhaseReport,
    ResultReport,
    RunReport,
    StepsReport,
    StoppedReport,
)
from app.domain.runs.status import Phase
from tests.support.rows.results import result, step
from worker.children.child import EXIT_STOPPED
from worker.training.protocol import Handover

FAILURES = {
    "fails": Failure(code=FailureCode.DIVERGED, message="loss is not finite at step 3"),
    "overflows": Failure(code=FailureCode.OUT_OF_MEMORY, message="The device ran out of memory."),
}
handover = Handover.model_validate_json(sys.stdin.readline() or sys.exit(76))
jobs = GroupJob.model_validate_json(handover.job.read_text()).jobs
stops = {job.run_id: threading.Event() for job in jobs}


def listen() -> None:
    for line in sys.stdin:
        if line.startswith("stop "):
            stops[int(line.removeprefix("stop "))].set()
    os._exit(76)


def say(run_id: int, report: RunReport) -> None:
    sys.stdout.write(MemberReport(run_id=run_id, report=report).model_dump_json() + "\n")
    sys.stdout.flush()


threading.Thread(target=listen, daemon=True).start()
for job in jobs:
    say(job.run_id, PhaseReport(phase=Phase.TRAIN, total_steps=10))
    say(job.run_id, StepsReport(steps=[step(1)]))
waiting = []
for job, behaviour in zip(jobs, sys.argv[1:], strict=True):
    if behaviour == "succeeds":
        done = result().model_copy(update={"trained_together": len(jobs), "artifacts": []})
        say(job.run_id, ResultReport(result=done))
    elif behaviour in FAILURES:
        say(job.run_id, FailureReport(failure=FAILURES[behaviour]))
    elif behaviour == "alone":
        say(job.run_id, AloneReport(why="the checkpoint lacks a pooler"))
    elif behaviour == "kills":
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        waiting.append(job.run_id)
for run_id in waiting:
    stops[run_id].wait()
    say(run_id, StoppedReport())
sys.exit(EXIT_STOPPED if waiting else 0)
