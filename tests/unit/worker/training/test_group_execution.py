"""The trainer of a group whose supervisor is gone."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from app.domain.methods import LoraSpec
from app.domain.runs.job import GroupJob, MemberReport
from tests.support.rows import results
from tests.support.tiny import texts as tiny
from worker.children.child import EXIT_ABANDONED
from worker.training import execution
from worker.training.protocol import Channel


class Closed:
    """A channel that no process reads."""

    def __init__(self) -> None:
        self.tried: list[str] = []

    def send(self, message: MemberReport) -> None:
        self.tried.append(message.report.type)
        raise BrokenPipeError


@pytest.mark.parametrize(("end", "tried"), [(BrokenPipeError(), []), (results.result(), ["result", "result"])])
def test_it_ends_as_one_that_trains_a_single_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Any, tried: Sequence[str]
) -> None:
    def group(jobs: Sequence[object], sinks: object, ended: Callable[[int, object, None], None]) -> None:
        for place in range(len(jobs)):
            ended(place, end, None)

    monkeypatch.setattr(execution, "run_group", group)
    jobs = [tiny.job(tmp_path / str(n), tmp_path, LoraSpec(r=4), table=tiny.rows(2, 0, 0)) for n in range(2)]
    file = tmp_path / "job.json"
    file.write_text(GroupJob(jobs=jobs).model_dump_json())
    channel = Closed()
    assert execution.execute(file, cast(Channel, channel), threading.Event()) == EXIT_ABANDONED
    assert channel.tried == tried
