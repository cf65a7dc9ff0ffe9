"""`adapter_config.json` is a function of the adapter, not of the process that writes it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import ROOT
from tests.support.tiny import texts as tiny

PROGRAM = """
import sys
from pathlib import Path

from app.domain.methods import LoraSpec
from tests.support.tiny import texts as tiny
from worker.engine.loop.attempt import Attempt

training = tiny.FAST.model_copy(update={"num_train_epochs": 1, "max_steps": 1})
method = LoraSpec(r=2, target_modules=["query", "key", "value", "dense"])
job = tiny.job(Path(sys.argv[2]), Path(sys.argv[1]), method, training)
Attempt(job, tiny.Recorder()).run()
print(repr(set("a word of each kind for a set".split())))
"""


@pytest.mark.nightly
def test_processes_that_order_sets_differently_write_the_same_bytes(tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "model")
    runs = {}
    for seed in ("1", "2"):
        command = [sys.executable, "-c", PROGRAM, str(model), str(tmp_path / seed)]
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        runs[seed] = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    orders = [run.communicate(timeout=120)[0].splitlines()[-1] for run in runs.values()]
    assert [run.returncode for run in runs.values()] == [0, 0]
    assert orders[0] != orders[1], "sets are in another order"
    first, second = ((tmp_path / seed / "output" / "adapter" / "adapter_config.json").read_bytes() for seed in runs)
    assert first == second and b"target_modules" in first
