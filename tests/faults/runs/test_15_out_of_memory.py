"""Fault 15: memory runs out. The run says how much was requested and what would save it, is not tried again, and the
device is free for the next run."""

import psutil
import pytest

from app.domain.failures import FailureCode
from tests.faults.engine import ROOM
from tests.faults.installation import Installation
from tests.support.tiny import texts as tiny

WORDS = 500_000
EMBEDDINGS = WORDS * 32 * 4
"""Bytes of the model's largest tensor, of its gradient, and of each of AdamW's moments."""
TRAINING = {"max_steps": 3, "per_device_train_batch_size": 4, "max_length": 16, "bf16": False}
LORA = {"kind": "lora", "r": 2, "target_modules": ["query", "value"]}


@pytest.mark.slow
def test_a_run_that_is_out_of_memory_says_so_once_and_lora_then_fits(vezna: Installation) -> None:
    assert 2 * EMBEDDINGS < ROOM < 3 * EMBEDDINGS, "room for the model and one more copy: not for training all of it"
    place = tiny.save_model(vezna.settings.home / "many-words", vocab_size=WORDS, num_hidden_layers=1)
    run = {"base_model": vezna.add_model(place), "training": TRAINING}
    supervisor = vezna.pool_child()

    failed = vezna.submit("lacks memory", **run)

    message = vezna.require_failed_once(failed, FailureCode.OUT_OF_MEMORY)
    assert message.startswith("The device ran out of memory (61 MiB more were requested; the peak before was ")
    assert message.endswith(" Use a smaller batch size with gradient accumulation, a shorter max_length, or LoRA.")
    failure = vezna.api.get(f"/runs/{failed}").json()["failure"]
    assert failure["requested_bytes"] == EMBEDDINGS
    assert "DefaultCPUAllocator" in vezna.log("worker"), "the worker's log has the allocator's own words"

    lora = vezna.submit("lacks memory", method=LORA, **run)

    succeeded = vezna.until_status(lora, "succeeded")
    assert (succeeded.epoch, succeeded.worker) == (1, vezna.run(failed).worker)
    assert psutil.pid_exists(supervisor.pid) and vezna.pool_child() == supervisor
