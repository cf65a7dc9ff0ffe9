"""The ingest queue: whatever its process does, there is a sentence, and the next piece of work is done."""

import sys
import threading
import time

import pytest

from worker.children import work
from worker.children.work import WorkCancelled, WorkFailed
from worker.ingest.host import IngestQueue

SAYS = "import sys, json, time, os; sys.stdin.readline()"


def command(script: str) -> tuple[str, ...]:
    return sys.executable, "-c", f"{SAYS}\n{script}"


def wants(share: float, rows: int) -> bool:
    return True


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("sys.exit(3)", "The ingest process ended with status 3; the worker may be short of memory. Try again."),
        ("os.kill(os.getpid(), 9)", "The ingest process was killed by signal 9; the worker may be short"),
        ("print('hello')", "The ingest process sent an answer that cannot be read. Try again."),
        ("print(json.dumps({'error': 'Row 3 is odd.'}))", "Row 3 is odd."),
    ],
)
def test_a_process_that_misbehaves_is_a_sentence(script: str, sentence: str) -> None:
    with pytest.raises(WorkFailed) as refused:
        IngestQueue().run({}, wants, command=command(script))
    assert refused.value.message.startswith(sentence)


@pytest.mark.slow
def test_progress_is_passed_on_and_the_answer_is_the_last_line() -> None:
    heard: list[tuple[float, int]] = []

    def told(share: float, rows: int) -> bool:
        heard.append((share, rows))
        return True

    script = "print(json.dumps({'share': 0.5, 'rows': 7}), flush=True); time.sleep(2.5); print(json.dumps({'scan': 1}))"
    assert IngestQueue().run({}, told, command=command(script)) == {"scan": 1}
    assert (0.5, 7) in heard


@pytest.mark.slow
def test_who_does_not_want_it_any_more_ends_the_process() -> None:
    found = IngestQueue()
    began = time.monotonic()
    with pytest.raises(WorkCancelled):
        found.run({}, lambda share, rows: False, command=command("time.sleep(60)"))
    assert time.monotonic() - began < 20


@pytest.mark.slow
def test_what_is_at_work_when_the_worker_stops_is_no_failure_of_the_file() -> None:
    found = IngestQueue()

    def told(share: float, rows: int) -> bool:
        found.stop()
        return True

    with pytest.raises(WorkCancelled):
        found.run({}, told, command=command("time.sleep(60)"))


@pytest.mark.slow
def test_a_silent_process_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "STALL_SECONDS", 0.5)
    with pytest.raises(WorkFailed, match="sent nothing"):
        IngestQueue().run({}, wants, command=command("time.sleep(60)"))


def test_things_are_done_in_order_and_one_that_fails_stops_nothing() -> None:
    found, done, came = IngestQueue(), threading.Event(), list[int]()

    def fail() -> None:
        raise RuntimeError("boom")

    found.add(lambda: came.append(1))
    found.add(fail)
    found.add(lambda: came.append(2))
    found.add(done.set)
    assert done.wait(10)
    assert came == [1, 2]
