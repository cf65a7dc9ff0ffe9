"""A trainer that trains nothing: it speaks the protocol of `worker.training.child` and behaves as the seed says.

`python trainer.py BEHAVIOUR`
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from app.domain.failures import Failure, FailureCode
from app.domain.runs.job import (
    CheckpointReport,
    EvaluationReport,
    FailureReport,
    LogReport,
    PhaseReport,
    ResultReport,
    StepsReport,
)
from app.domain.runs.result import ArtifactFile
from app.domain.runs.status import Phase
from tests.support.fakes.trainer_protocol import say, take_job
from tests.support.rows.results import evaluation, result, step
from worker.children.child import EXIT_STOPPED

behaviour = sys.argv[1]
job, stop = take_job()
say(PhaseReport(phase=Phase.TRAIN, total_steps=10))

if behaviour == "succeeds":
    say(StepsReport(steps=[step(n) for n in range(1, 11)]))
    say(EvaluationReport(evaluation=evaluation(), items=["a", "b"], scores=[1.0, 0.0]))
    target = Path(job.output) / "adapter" / "adapter_model.safetensors"
    target.parent.mkdir()
    target.write_bytes(b"weights")
    file = ArtifactFile(name="adapter/adapter_model.safetensors", kind="adapter", bytes=7, sha256="ab")
    say(ResultReport(result=result().model_copy(update={"artifacts": [file]})))
elif behaviour == "fails":
    say(FailureReport(failure=Failure(code=FailureCode.DIVERGED, message="loss is not finite at step 3")))
elif behaviour == "crashes":
    print("Traceback: something unforeseen", file=sys.stderr)
    sys.exit(3)
elif behaviour == "abandons":
    sys.exit(76)
elif behaviour == "stops-unasked":
    sys.exit(EXIT_STOPPED)
elif behaviour == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
elif behaviour == "babbles":
    print("a library printed this")
    say(ResultReport(result=result()))
elif behaviour == "steps-forever":
    number = 0
    while not stop.wait(0.05):
        number += 1
        say(StepsReport(steps=[step(number)]))
    sys.exit(EXIT_STOPPED)
elif behaviour.startswith("leaves-"):

    def leave(number: int) -> None:
        folder = Path(job.output) / ".checkpoints" / str(number)
        folder.mkdir(parents=True)
        (folder / "weights.safetensors").write_bytes(b"weights of step %d" % number)
        digest = hashlib.sha256(b"weights of step %d" % number).hexdigest()
        (folder / "state.json").write_text(json.dumps({"step": number, "files": {"weights.safetensors": digest}}))
        say(CheckpointReport(step=number, folder=str(folder)))

    if job.resume:
        state = json.loads((Path(job.resume) / "state.json").read_text())
        say(LogReport(message=f"going on from step {state['step']}"))
        say(ResultReport(result=result()))
    elif behaviour == "leaves-a-checkpoint-and-is-killed":
        leave(3)
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        for number in (3, 6, 9) if behaviour == "leaves-a-checkpoint" else (3, 6):
            say(StepsReport(steps=[step(number)]))
            leave(number)
            time.sleep(0.6)
        if behaviour == "leaves-checkpoints-and-succeeds":
            say(ResultReport(result=result()))
            sys.exit(0)
        stop.wait()
        leave(10)
        sys.exit(EXIT_STOPPED)
elif behaviour == "deaf":
    while True:
        say(PhaseReport(phase=Phase.TRAIN))
        time.sleep(0.1)
elif behaviour == "hangs":
    time.sleep(3600)
