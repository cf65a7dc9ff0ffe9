"""The inference process from its parent's side: copies of weights, a process that ends or hangs, readers who leave."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.domain.methods import LoraSpec
from app.domain.runs.job import TrainJob
from app.domain.runs.spec import RunSpec
from app.features.serving.rules import InferenceRequest, ModelJob, Picture, Subject
from app.features.serving.services.inference import Loadable
from app.settings import ROOT, Settings
from worker.features.serving.inference import host
from worker.features.serving.inference.host import Inference

FAKE = ROOT / "tests/support/fakes/inference_process.py"
Make = Callable[..., Inference]


class RemoteFiles:
    """A store of another machine; a copy waits until it may end."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.may_end.set()
        self.copied: list[str] = []

    def local(self, _name: str) -> None:
        """Nothing is here."""

    def get(self, name: str, target: Path) -> None:
        """Copy a file."""
        assert self.may_end.wait(20)
        self.copied.append(name)
        target.write_text(name)


@pytest.fixture
def files() -> RemoteFiles:
    """A store that is not on this machine."""
    return RemoteFiles()


@pytest.fixture
def make(tmp_path: Path, files: RemoteFiles, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes hosts whose process behaves as named, for runs that each have saved two files."""
    spec = RunSpec(base_model="tiny", dataset="words", method=LoraSpec(r=2))
    job = TrainJob(
        run_id=1, epoch=1, spec=spec, model_location=str(tmp_path / "base"), dataset_file="", labels=[], output="",
        device="cpu", threads=1, claimed_at=0.0,
    )  # fmt: skip

    def of_subject(_session: object, subject: Subject) -> Loadable:
        run = ModelJob(key=f"run {subject.run_id}/1", job=job, base_bytes=1)
        return Loadable(run, {f"{subject.run_id}/{name}": name for name in ("one", "two")})

    @contextmanager
    def reading() -> Iterator[None]:
        yield

    monkeypatch.setattr(host, "of_subject", of_subject)
    monkeypatch.setattr(host, "reserved_bytes", lambda *_: 0)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made: list[Inference] = []

    def new(manner: str = "good") -> Inference:
        command = (sys.executable, str(FAKE), manner, str(tmp_path / "marker"))
        database = SimpleNamespace(reading=reading)
        made.append(Inference(Settings(home=tmp_path), cast(Any, database), cast(Any, files), command))
        return made[-1]

    yield new
    for inference in made:
        inference.end()


def events(inference: Inference, run: int = 1, wanted: Callable[[], bool] = lambda: True) -> list[dict[str, Any]]:
    request = InferenceRequest(id="one", kind="predict", subjects=[Subject(run_id=run)], inputs=["a"])
    return list(inference.answer(request, wanted))


def copies(home: Path) -> list[str]:
    """Folders of models below VEZNA_HOME."""
    return sorted(folder.name for folder in home.glob("work/*/*"))


def test_copies_are_in_the_home_folder_and_go_with_their_model(make: Make, files: RemoteFiles, tmp_path: Path) -> None:
    inference = make()
    first = events(inference, 1)
    assert [event["type"] for event in first] == ["loaded", "end"] and copies(tmp_path) == ["run-1-1"]
    assert events(inference, 1)[0]["bytes"] == first[0]["bytes"], "the same process answers"
    assert files.copied == ["1/one", "1/two"], "it has the files already"
    events(inference, 2)  # the process says that it holds run 2 alone
    assert copies(tmp_path) == ["run-2-1"]
    inference.end()
    assert list((tmp_path / "work").iterdir()) == []


def test_a_picture_that_cannot_be_read_is_refused_before_a_model_is_loaded(make: Make, files: RemoteFiles) -> None:
    inference = make()
    subjects, picture = [Subject(run_id=1)], Picture.of(b"<svg/>")
    broken = InferenceRequest(id="one", kind="predict", subjects=subjects, inputs=[picture])
    [event] = list(inference.answer(broken, lambda: True))
    assert (event["type"], event["kind"], event["fields"][0]["path"]) == ("failed", "invalid", "inputs.0")
    assert files.copied == []
    assert [event["type"] for event in events(inference)] == ["loaded", "end"], "the next request is answered"


def test_copies_of_a_process_that_was_killed_are_removed_at_the_next_start(make: Make, tmp_path: Path) -> None:
    left = tmp_path / "work" / "run-left" / "run-1-1"
    left.mkdir(parents=True)
    used = make()
    events(used)
    assert not left.exists()
    make()
    assert copies(tmp_path) == ["run-1-1"], "the copies of another process of this home stay"


def test_while_files_are_copied_the_worker_says_that_it_lives(
    make: Make, files: RemoteFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(host, "HEARTBEAT_SECONDS", 0.02)
    files.may_end.clear()
    polls = 0

    def wanted() -> bool:
        nonlocal polls
        polls += 1
        if polls == 10:
            files.may_end.set()
        return True

    types = [event["type"] for event in events(make(), wanted=wanted)]
    assert polls >= 10 and types[0] == "working" and types[-2:] == ["loaded", "end"]


def test_a_reader_who_leaves_while_files_are_copied_gets_no_further_one(
    make: Make, files: RemoteFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "POLL_SECONDS", 0.01)
    files.may_end.clear()
    polls = iter([True, True])

    class Left(threading.Event):
        def set(self) -> None:
            super().set()
            files.may_end.set()

    monkeypatch.setattr(host, "Flag", Left)
    assert events(make(), wanted=lambda: next(polls, False)) == []
    assert files.copied == ["1/one"] and copies(tmp_path) == []


def test_a_process_that_ended_idle_as_the_request_came_is_replaced(make: Make, tmp_path: Path) -> None:
    assert [event["type"] for event in events(make("idle"))] == ["loaded", "end"]
    assert (tmp_path / "marker").exists(), "one process has ended"


def test_a_process_that_sends_nothing_is_ended_and_the_time_is_named(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "STALL_SECONDS", 0.6)
    [event] = events(make("silent"))
    assert event["type"] == "failed" and "sent nothing for 1 s" in event["message"]
