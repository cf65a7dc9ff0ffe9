"""The inference process: what it does with the lines that it reads."""

import io
import json
import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from worker.features.serving.inference import child


def test_a_cancel_that_arrives_before_its_request_is_taken_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cancelled(Exception):
        pass

    class Answering:
        def __init__(self, _models: object, _work: object, _emit: object, cancelled: Any) -> None:
            self.cancelled = cancelled

        def run(self) -> None:
            reader.requests.put(None)  # `serve` returns after this request
            if self.cancelled():
                raise Cancelled

    class Models:
        def unload(self, _since: float) -> None:
            """Nothing."""

    fake = SimpleNamespace(Answering=Answering, Cancelled=Cancelled, Models=Models, prepare=lambda _threads: None)
    work = SimpleNamespace(jobs=[SimpleNamespace(job=SimpleNamespace(threads=1))])
    for name in ("import_engine", "import_large"):
        monkeypatch.setattr(child, name, lambda _name: fake)
    monkeypatch.setattr(child, "WorkRequest", SimpleNamespace(model_validate_json=lambda _line: work))
    reading, writing = os.pipe()
    with os.fdopen(reading) as source, os.fdopen(writing, "w", buffering=1) as parent:
        monkeypatch.setattr(sys, "stdin", source)
        reader = child.Reader()
        parent.write('{"request": 1}\n{"cancel": true}\n')
        assert reader.cancelled.wait(10)
        answers = io.StringIO()
        child.serve(reader, answers, 60)
        parent.write('{"request": 2}\n')
        child.serve(reader, answers, 60)
    assert [json.loads(line) for line in answers.getvalue().splitlines()] == [
        {"type": "end", "cancelled": True},
        {"type": "end"},
    ]
