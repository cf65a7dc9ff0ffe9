"""A fake trainer's side of the protocol of `worker.training.child`."""

import os
import sys
import threading

from pydantic import BaseModel

from app.domain.runs.job import TrainJob
from worker.training.protocol import Handover


def take_job() -> tuple[TrainJob, threading.Event]:
    """The job that is handed over on standard input, and an event that is set when the worker says stop. The process
    ends with its worker."""
    handover = Handover.model_validate_json(sys.stdin.readline() or sys.exit(76))
    os.dup2(os.open(handover.stderr, os.O_WRONLY | os.O_CREAT), 2)
    stop = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            if line == "stop\n":
                stop.set()
        os._exit(76)

    threading.Thread(target=listen, daemon=True).start()
    return TrainJob.model_validate_json(handover.job.read_text()), stop


def say(report: BaseModel) -> None:
    """Report to the worker."""
    sys.stdout.write(report.model_dump_json() + "\n")
    sys.stdout.flush()
