"""A trainer of one host of several that trains nothing: `python host_trainer.py BEHAVIOUR`.

trains     meets the others if it has rank 0, and goes on until it is told to stop
succeeds   the same, and ends with a result
breaks     the same, and then its connection to the others breaks
dies       is killed once its part has begun
fails      runs out of memory
"""

import os
import signal
import sys
import time

from app.domain.failures import Failure, FailureCode
from app.domain.runs.job import (
    FailureReport,
    ListeningReport,
    MetReport,
    PhaseReport,
    ResultReport,
    StepsReport,
)
from app.domain.runs.status import Phase
from tests.support.fakes.trainer_protocol import say, take_job
from tests.support.rows.results import result, step
from worker.children.child import EXIT_STOPPED

BROKEN = Failure(code=FailureCode.INTERNAL, message="RuntimeError: [gloo] Connection closed by peer [10.0.0.2]:1")
MEMORY = Failure(code=FailureCode.OUT_OF_MEMORY, message="The device ran out of memory.")

behaviour = sys.argv[1]
job, stop = take_job()
assert job.place is not None
if job.place.host == 0:
    say(ListeningReport(endpoint="10.0.0.1:29500"))
    if behaviour != "meets nobody":
        say(MetReport())
    say(PhaseReport(phase=Phase.TRAIN, total_steps=10))
    say(StepsReport(steps=[step(1)]))
else:
    assert job.place.endpoint == "10.0.0.1:29500"
if behaviour == "dies":
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)
if behaviour in ("breaks", "fails"):
    time.sleep(0.3)
    say(FailureReport(failure=BROKEN if behaviour == "breaks" else MEMORY))
    os._exit(0)
if behaviour == "succeeds":
    say(ResultReport(result=result().model_copy(update={"artifacts": []})))
    os._exit(0)
while not stop.wait(0.05):
    pass
sys.exit(EXIT_STOPPED)
