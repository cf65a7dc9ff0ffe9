"""Fault 18: a stored checkpoint is truncated. The run resumes from the one before or starts again, and says so."""

from pathlib import Path

import pytest

from app.store.tables import RunRow
from tests.faults.installation import Installation
from tests.support.servers.running_stack import until
from tests.support.servers.supervised import attempt, claimed, drained, left_folders, messages, row, stored, submitted
from worker.nodes.context import Context


def queued_with_two_checkpoints(vezna: Installation) -> RunRow:
    """A run that a worker has handed back, for a worker that is not there yet."""
    run_id = vezna.submit("trains")
    until(lambda: len(vezna.run(run_id).checkpoints) == 2, 60)
    worker = vezna.child("worker")
    worker.stop()
    assert worker.process.wait(vezna.settings.stop_seconds + 10) == 0
    return vezna.run(run_id)


@pytest.mark.slow
def test_a_worker_resumes_from_the_checkpoint_before_a_truncated_one(vezna: Installation) -> None:
    run = queued_with_two_checkpoints(vezna)
    before, newest = run.checkpoints
    weights = Path(vezna.files.root, newest.prefix, "weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])

    vezna.restart()

    ended = vezna.require_succeeded_once(run.id, attempts=2)
    assert ended.result and ended.result.resumed_from == before.step
    why = "the checksum of weights.safetensors is wrong"
    assert f"The checkpoint of step {newest.step} is unusable: {why}." in vezna.messages(run.id)
    assert f"going on from step {before.step}" in vezna.messages(run.id)
    assert "checkpoint unusable" in vezna.log("worker")


@pytest.mark.nightly
def test_a_worker_begins_again_where_every_checkpoint_is_truncated(vezna: Installation) -> None:
    run = queued_with_two_checkpoints(vezna)
    for checkpoint in run.checkpoints:
        Path(vezna.files.root, checkpoint.prefix, "state.json").write_bytes(b"")

    vezna.restart()

    ended = vezna.require_succeeded_once(run.id, attempts=2)
    assert ended.result and (ended.result.resumed_from, ended.result.steps) == (None, 10)
    assert [line for line in vezna.messages(run.id) if "is unusable" in line] == [
        f"The checkpoint of step {checkpoint.step} is unusable: the checksum of state.json is wrong."
        for checkpoint in reversed(run.checkpoints)
    ]


@pytest.mark.slow
def test_a_damaged_checkpoint_makes_way_for_the_one_before_and_that_is_recorded(here: Context) -> None:
    run_id = submitted(here)
    newest = drained(here, run_id).checkpoints[-1]
    Path(here.files.root, newest.prefix, "weights.safetensors").write_bytes(b"weights of")

    assert attempt(here, claimed(here, run_id), "leaves-a-checkpoint").status == "succeeded"
    said = messages(here, run_id)
    assert "The checkpoint of step 10 is unusable: the checksum of weights.safetensors is wrong." in said
    assert "going on from step 9" in said


@pytest.mark.slow
def test_without_a_whole_checkpoint_the_run_begins_again(here: Context) -> None:
    run_id = submitted(here)
    for checkpoint in drained(here, run_id).checkpoints:
        here.files.remove(checkpoint.prefix)

    attempt(here, claimed(here, run_id), "succeeds")

    said = messages(here, run_id)
    assert row(here, run_id).status == "succeeded"
    assert [m.partition(":")[0] for m in said if "is unusable" in m] == [
        "The checkpoint of step 10 is unusable",
        "The checkpoint of step 9 is unusable",
    ]
    assert not any("going on" in m for m in said)
    assert (stored(here), left_folders(here)) == ([], [])
