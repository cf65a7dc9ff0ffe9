"""Fault 23: one class, one row, or a label that is never trained. It is refused, or said, before anything is queued."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.queue import PREPARE, TRAIN
from app.settings import Settings
from app.store.files import Files
from app.store.session import Database
from tests.fakes import SilentBell
from tests.ingested import context
from worker.ingest import tasks

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

MAPPING = {"format": "labelled", "columns": {"text": "text", "label": "label"}}
RUN = {"base_model": "tiny", "dataset": "mine", "method": {"kind": "full"}}


def csv(labels: list[str]) -> bytes:
    return b"text,label\n" + b"".join(b"text number %d,%s\n" % (i, label.encode()) for i, label in enumerate(labels))


@pytest.fixture
def prepare(api: TestClient, settings: Settings, registered: Database, files: Files, bell: SilentBell) -> Any:
    """A version `mine` of some files, after a worker has prepared it."""

    def prepared(splitting: dict[str, Any] | None = None, **contents: bytes) -> Any:
        worker = context(settings, registered, files)
        sent = [("file", (f"{name}.csv", content)) for name, content in contents.items()]
        upload = api.post("uploads", files=sent).json()["id"]
        tasks.read(worker, upload)
        wanted = {"name": "mine", "upload_id": upload, "mapping": MAPPING}
        answer = api.post("datasets", json=wanted | ({"splitting": splitting} if splitting else {}))
        assert answer.status_code == 202, answer.text
        tasks.prepare(worker, next(i for task, i in bell.rung if task == PREPARE))
        return api.get("datasets/mine@1").json()

    return prepared


@pytest.mark.parametrize(
    ("labels", "code"), [(["same"] * 40, "one-class"), (["yes"], "too-few-rows")], ids=["one class", "one row"]
)
def test_data_that_no_run_can_learn_from_is_blocked_and_no_run_is_queued(
    api: TestClient, prepare: Any, bell: SilentBell, labels: list[str], code: str
) -> None:
    version = prepare(data=csv(labels))
    assert version["status"] == "blocked"
    [blocking] = [f for f in version["findings"] if f["severity"] == "blocks"]
    assert blocking["code"] == code
    refused = api.post("runs", json=RUN)
    assert refused.status_code in (404, 409, 422) and "mine" in refused.json()["detail"]
    assert not any(task == TRAIN for task, *_ in bell.rung)
    assert api.get("runs").json()["items"] == []


def test_a_label_outside_those_that_are_trained_is_named(prepare: Any) -> None:
    split = {"kind": "predefined", "names": {"train": ["train"], "test": ["test"]}}
    version = prepare(split, train=csv(["yes", "no"] * 60), test=csv(["yes", "no", "new"] * 20))
    [finding] = [f for f in version["findings"] if f["code"] == "label-not-trained"]
    assert finding["details"]["labels"] == ["new"]
