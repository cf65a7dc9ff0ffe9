"""Fault 18: a stored checkpoint is truncated. The run resumes from the one before or starts again, and says so."""

from pathlib import Path

from tests.supervised import attempt, claimed, drained, left_folders, messages, row, stored, submitted
from worker.context import Context


def test_a_damaged_checkpoint_makes_way_for_the_one_before_and_that_is_recorded(here: Context) -> None:
    run_id = submitted(here)
    newest = drained(here, run_id).checkpoints[-1]
    Path(here.files.root, newest.prefix, "weights.safetensors").write_bytes(b"weights of")

    assert attempt(here, claimed(here, run_id), "leaves-a-checkpoint").status == "succeeded"
    said = messages(here, run_id)
    assert "The checkpoint of step 10 is unusable: the checksum of weights.safetensors is wrong." in said
    assert "going on from step 9" in said


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
