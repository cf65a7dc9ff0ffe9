"""The file between a script and the server: what survives a kill, and what is sent again."""

import json
from pathlib import Path
from typing import Any

import pytest

from vezna.buffer import Buffer, InUse, Record
from vezna.sender import batch_of

OPENING = {"study": 1, "arm": "full", "seed": 0, "key": "a", "facts": {}}


def steps(buffer: Buffer) -> list[int]:
    """Of the reports that have not arrived."""
    return [record.values["step"] for record in buffer.oldest(1000)]


def again(buffer: Buffer) -> Buffer:
    """The file as another process reads it."""
    buffer.close()
    return Buffer(buffer.path)


@pytest.fixture
def buffer(tmp_path: Path) -> Buffer:
    """Of a run with five steps."""
    buffer = Buffer(tmp_path / "runs" / "full-0.jsonl")
    buffer.begin(OPENING)
    for step in range(1, 6):
        buffer.append("step", {"step": step})
    return buffer


def test_what_was_written_is_there_for_the_next_process(buffer: Buffer) -> None:
    buffer.append("end", {"outcome": "succeeded", "item_scores": {"x": 1.0}})
    read = again(buffer)
    assert (steps(read), read.opening, read.end) == (
        [1, 2, 3, 4, 5], OPENING, {"outcome": "succeeded", "item_scores": {"x": 1.0}}
    )  # fmt: skip
    read.append("closed", {"status": "succeeded"})
    assert again(read).closed


def test_a_batch_that_arrived_before_the_kill_is_not_sent_again(buffer: Buffer) -> None:
    buffer.seal(1, 2)
    buffer.arrived(2)
    buffer.seal(2, 2)  # then the process is killed
    read = again(buffer)
    read.arrived(3)  # the server has it
    assert steps(read) == [5]


@pytest.mark.parametrize(("expected", "left"), [(1, [1, 2, 3, 4, 5]), (2, [3, 4, 5]), (3, [5])])
def test_the_server_decides_which_batches_have_arrived(buffer: Buffer, expected: int, left: list[int]) -> None:
    buffer.seal(1, 2)
    buffer.seal(2, 2)
    read = again(buffer)
    read.arrived(expected)
    assert steps(read) == left
    read.seal(expected, 1)
    twice = again(read)
    twice.arrived(expected + 1)
    assert steps(twice) == left[1:]


def test_a_line_that_the_disk_cut_off_costs_that_line_alone(buffer: Buffer) -> None:
    with buffer.path.open("ab") as file:
        file.write(b'{"kind":"step","st')
    read = again(buffer)
    read.append("step", {"step": 6})
    assert steps(again(read)) == [1, 2, 3, 4, 5, 6]


def test_another_key_takes_along_what_this_process_reported_and_no_more(buffer: Buffer) -> None:
    read = again(buffer)
    read.append("step", {"step": 1})
    read.append("end", {"outcome": "failed"})
    read.begin(OPENING | {"key": "b"})
    assert (steps(read), read.end) == ([1], {"outcome": "failed"})
    once_more = again(read)
    assert (steps(once_more), once_more.end, (once_more.opening or {})["key"]) == ([1], {"outcome": "failed"}, "b")


def test_a_file_has_one_writer(buffer: Buffer) -> None:
    with pytest.raises(InUse, match=r"full-0\.jsonl"):
        Buffer(buffer.path)
    buffer.close()
    Buffer(buffer.path).close()


@pytest.mark.parametrize(
    ("kinds", "taken"),
    [
        ([("step", 1), ("step", 2), ("evaluation", 2), ("step", 2), ("step", 3)], 3),  # training resumed from step 1
        ([("message", 0), ("step", 1), ("message", 0)], 2),
        ([("evaluation", n) for n in range(101)], 100),
        ([("step", 1)], 1),
    ],
)
def test_a_batch_is_one_that_the_server_takes(kinds: list[tuple[str, int]], taken: int) -> None:
    def record(kind: str, step: int) -> Record:
        values: dict[str, Any] = {"message": "begun"} if kind == "message" else {"step": step}
        return Record(kind, json.dumps({"kind": kind, **values}))

    batch, count = batch_of([record(*one) for one in kinds])
    assert count == taken
    assert len(batch["steps"]) + len(batch["evaluations"]) + bool(batch["message"]) == taken
