"""Fault 23: one class, one row, or a label that is never trained. It is refused, or said, before anything is queued.
A process prepares the data, and ends whatever its labels were."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.broker.queue import PREPARE, TRAIN
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from tests.faults.installation import Installation
from tests.support.fakes.fakes import SilentBell
from tests.support.ingested import context
from tests.support.servers.running_stack import until
from worker.ingest import tasks

SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
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


UNUSABLE = {"one class": (["same"] * 40, "one-class"), "one row": (["yes"], "too-few-rows")}


@pytest.mark.nightly
def test_data_that_a_process_has_blocked_gets_no_run_and_leaves_no_process_and_no_file(vezna: Installation) -> None:
    for labels, code in UNUSABLE.values():
        content = csv(labels)
        upload = vezna.api.post("/uploads", files=[("file", ("data.csv", content))]).json()["id"]
        until(lambda upload=upload: vezna.api.get(f"/uploads/{upload}").json()["status"] != "reading", 60)
        answer = vezna.api.post("/datasets", json={"name": code, "upload_id": upload, "mapping": MAPPING})
        assert answer.status_code == 202, answer.text
        until(lambda code=code: vezna.api.get(f"/datasets/{code}@1").json()["status"] != "preparing", 60)
        version = vezna.api.get(f"/datasets/{code}@1").json()
        assert version["status"] == "blocked"
        assert [f["code"] for f in version["findings"] if f["severity"] == "blocks"] == [code]
        refused = vezna.api.post("/runs", json=RUN | {"dataset": code})
        assert refused.status_code in (404, 409, 422) and code in refused.json()["detail"]
        assert vezna.api.delete(f"/datasets/{code}@1").is_success
        assert vezna.api.delete(f"/uploads/{upload}").is_success
    until(lambda: not any("worker.ingest.child" in " ".join(p.cmdline()) for p in vezna.processes()), 30)
    assert vezna.files.names("uploads") == set() and len(vezna.files.names("datasets")) == 1
    assert vezna.api.get("/runs", params={"status": "queued"}).json()["items"] == []
    assert "vezna.train" not in vezna.log("worker")
    vezna.require_succeeded_once(vezna.submit("succeeds"))


@SQLITE
@pytest.mark.parametrize(("labels", "code"), UNUSABLE.values(), ids=UNUSABLE)
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


@SQLITE
def test_a_label_outside_those_that_are_trained_is_named(prepare: Any) -> None:
    split = {"kind": "predefined", "names": {"train": ["train"], "test": ["test"]}}
    version = prepare(split, train=csv(["yes", "no"] * 60), test=csv(["yes", "no", "new"] * 20))
    [finding] = [f for f in version["findings"] if f["code"] == "label-not-trained"]
    assert finding["details"]["labels"] == ["new"]
