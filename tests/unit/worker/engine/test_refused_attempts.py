"""What an attempt refuses before it trains though it was queued: by the field, as it would have been at the door."""

from pathlib import Path

import pytest

from app.domain.failures import FailureCode, RunFailed
from app.domain.methods import PromptSpec
from app.domain.runs.status import Phase
from tests import tiny
from worker.engine.attempt import Attempt


def test_a_budget_that_a_method_does_not_go_with(base: Path, tmp_path: Path, recorder: tiny.Recorder) -> None:
    packed = tiny.FAST.model_copy(update={"packing": True})
    job = tiny.job(tmp_path, base, PromptSpec(num_virtual_tokens=2), packed)
    with pytest.raises(
        RunFailed, match=r"training\.packing: The method prompt tuning does not work with packing: "
    ) as failed:
        Attempt(job, recorder).run()
    assert failed.value.code is FailureCode.BAD_CONFIGURATION
    assert recorder.phases == [Phase.LOAD]
