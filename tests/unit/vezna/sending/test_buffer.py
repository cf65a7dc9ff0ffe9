"""The file between a script and the server: what survives a kill, and what is sent again."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from vezna.sending import send
from vezna.sending.buffer import Buffer, Closed, InUse, Record
from vezna.sending.sender import batch_of

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


def test_a_closed_buffer_writes_into_no_file_that_has_its_number_now(buffer: Buffer, tmp_path: Path) -> None:
    buffer.close()
    others = [(tmp_path / f"model-{n}").open("wb", buffering=0) for n in range(3)]
    with pytest.raises(Closed):
        buffer.append("step", {"step": 6})
    buffer.close()
    assert [other.write(b"x") for other in others] == [1, 1, 1]
    assert [Path(other.name).read_bytes() for other in others] == [b"x"] * 3


def test_a_line_cut_off_by_a_full_disk_is_an_error(buffer: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda file, line: write(file, line[:5]))
        with pytest.raises(OSError, match="No space left"):
            buffer.append("step", {"step": 6})
    buffer.append("step", {"step": 7})
    assert steps(again(buffer)) == [1, 2, 3, 4, 5, 7]


def test_what_json_has_no_form_for_is_refused_before_it_is_written(buffer: Buffer) -> None:
    with pytest.raises(ValueError, match="JSON"):
        buffer.append("evaluation", {"score": float("nan")})
    assert "NaN" not in buffer.path.read_text()


def test_a_batch_whose_answer_may_be_lost_keeps_its_records(buffer: Buffer) -> None:
    buffer.seal(1, 2)
    buffer.arrived(2)
    buffer.seal(2, 1)
    buffer.arrived(2)  # what a script that is started again hears
    assert (buffer.sealed(1), buffer.sealed(2), again(buffer).sealed(2)) == (None, 1, 1)


def test_a_damaged_file_keeps_no_other_from_being_sent(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    buffer.close()
    (buffer.path.parent / "a.jsonl").write_text('{"kind":"opening"}\n{"kind":"opening"}\n')
    monkeypatch.setattr(sys, "argv", ["send", str(buffer.path.parent), "--url", "http://127.0.0.1:9"])
    with caplog.at_level(logging.ERROR):
        assert send.main() == 1
    assert "a.jsonl cannot be sent (KeyError" in caplog.text and "full-0.jsonl: The server at" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_process_does_not_keep_the_file_locked(buffer: Buffer) -> None:
    reads, writes = os.pipe()
    forked, in_child = os.pipe()
    child = os.fork()
    if child == 0:  # as a worker of a DataLoader
        os.close(writes)
        os.write(in_child, b"x")
        os.read(reads, 1)
        os._exit(0)
    os.read(forked, 1)
    file, buffer._file = buffer._file, None  # the parent is killed: its file is closed without being unlocked
    assert file is not None
    os.close(file)
    try:
        Buffer(buffer.path).close()
    finally:
        os.close(writes)
        os.waitpid(child, 0)
