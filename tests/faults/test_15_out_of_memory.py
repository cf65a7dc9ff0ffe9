"""Fault 15: memory runs out. The run says how much was requested and what would save it, is not tried again, and the
device is free for the next run."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from app.domain.failures import FailureCode
from app.domain.methods import AnyMethod, FullSpec, LoraSpec
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments
from app.services import attempts, runs
from app.store.tables import BaseModelRow, RunRow
from tests import tiny
from tests.supervised import claimed, left_folders, messages, row
from worker.context import Context
from worker.training.supervisor import supervise
from worker.training.warm_pool import WarmPool

WORDS = 500_000
EMBEDDINGS = WORDS * 32 * 4
"""Bytes of the model's largest tensor, of its gradient, and of each of AdamW's moments."""
PROGRAM = f"""
import os, resource
from worker.training import child

import_execution = child.import_execution

def limited(**how):
    execution = import_execution(**how)
    [used] = [int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmData")]
    most = used + 2 * {EMBEDDINGS} + (24 << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    return execution

child.import_execution = limited
os._exit(child.main())
"""
"""A trainer with room for the model and one more copy of its embeddings beside the libraries: not for training them."""


def attempt(here: Context, method: AnyMethod) -> RunRow:
    training = TrainingArguments(max_steps=3, per_device_train_batch_size=4, max_length=16, bf16=False)
    with here.database.transaction() as session:
        spec = RunSpec(base_model="tiny", dataset="small", method=method, training=training)
        run_id = runs.submit(session, here.bell, spec).id
    supervise(here, claimed(here, run_id))
    return row(here, run_id)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_run_that_is_out_of_memory_says_so_once_and_lora_then_fits(here: Context, tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "model", vocab_size=WORDS)
    with here.database.transaction() as session:
        session.execute(update(BaseModelRow).values(location=str(model)))
    settings = here.settings.model_copy(update={"weight_delta_seconds": 0.0, "lease_seconds": 60.0, "device": "cpu"})
    here = replace(here, settings=settings, trainers=WarmPool((sys.executable, "-c", PROGRAM)))

    failed = attempt(here, FullSpec())

    assert (failed.status, failed.failure_code, failed.attempts) == ("failed", FailureCode.OUT_OF_MEMORY, 1)
    assert failed.failure_requested_bytes == EMBEDDINGS
    assert "61 MiB more were requested; the peak before was " in (failed.failure_message or "")
    assert messages(here, failed.id)[-1].startswith("failed, out_of_memory: ")
    with here.database.transaction() as session:
        assert attempts.claim(session, failed.id, "w1", 45) is None

    lora = attempt(here, LoraSpec(r=2, target_modules=["query", "value"]))

    assert (lora.status, lora.failure_message) == ("succeeded", None)
    assert left_folders(here) == []
