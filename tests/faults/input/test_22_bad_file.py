"""Fault 22: a file that is no data set. The request for a data set is refused with the row and the column, and no run
is queued. A process reads it, and ends whatever the file was."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.broker.queue import READ
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from tests.faults.installation import Installation
from tests.support.fakes.fakes import SilentBell
from tests.support.ingested import context
from tests.support.servers.running_stack import until
from worker.ingest import tasks

SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
ROWS = b"".join(b"a text %d,%s\n" % (i, b"yes" if i % 2 else b"no") for i in range(40))
MAPPING = {"format": "labelled", "columns": {"text": "text", "label": "label"}}


def uploaded(api: TestClient, here: tuple[Settings, Database, Files], content: bytes, **options: str) -> dict[str, Any]:
    """The upload of a file, after a worker has read it."""
    sent = api.post("uploads", files=[("file", ("data.csv", content))], data=options).json()
    tasks.read(context(*here), sent["id"])
    found: dict[str, Any] = api.get(f"uploads/{sent['id']}").json()
    return found


UNREADABLE = {
    "header only": (b"text,label\n", "has a header (text, label) but no rows below it"),
    "missing column": (
        b"text,label\na,b\nc\n" + ROWS,
        "row 3 (it begins with 'c') has 1 of the 2 fields of the header",
    ),
    "NUL": (b"text,label\na,b\nc,\0\n" + ROWS, "line 3 contains a NUL byte"),
}


@pytest.mark.nightly
def test_a_process_that_reads_bad_files_ends_and_leaves_no_file_and_no_worker_is_touched(vezna: Installation) -> None:
    stored = vezna.files.names("uploads")
    for content, says in UNREADABLE.values():
        upload = vezna.api.post("/uploads", files=[("file", ("data.csv", content))]).json()["id"]
        until(lambda upload=upload: vezna.api.get(f"/uploads/{upload}").json()["status"] != "reading", 60)
        read = vezna.api.get(f"/uploads/{upload}").json()
        assert read["status"] == "failed" and says in read["message"]
        answer = vezna.api.post("/datasets", json={"name": "bad", "upload_id": upload, "mapping": MAPPING})
        assert answer.status_code in (409, 422) and says in answer.json()["detail"]
        assert vezna.api.delete(f"/uploads/{upload}").is_success
    until(lambda: not any("worker.ingest.child" in " ".join(p.cmdline()) for p in vezna.processes()), 30)
    assert vezna.files.names("uploads") == stored
    assert [row["name"] for row in vezna.api.get("/datasets").json()] == ["small"]
    assert vezna.api.get("/runs", params={"status": "queued"}).json()["items"] == []
    assert "vezna.train" not in vezna.log("worker")
    vezna.require_succeeded_once(vezna.submit("succeeds"))


@SQLITE
@pytest.mark.parametrize(("content", "says"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_that_cannot_be_read_is_refused_with_the_place(
    api: TestClient, settings: Settings, registered: Database, files: Files, bell: SilentBell, content: bytes, says: str
) -> None:
    upload = uploaded(api, (settings, registered, files), content)
    assert upload["status"] == "failed" and says in upload["message"]
    answer = api.post("datasets", json={"name": "mine", "upload_id": upload["id"], "mapping": MAPPING})
    assert answer.status_code in (409, 422) and says in answer.json()["detail"]
    assert {task for task, *_ in bell.rung} <= {READ}
    assert [row["name"] for row in api.get("datasets").json()] == ["small"]
    run = {"base_model": "tiny", "dataset": "mine", "method": {"kind": "full"}}
    assert api.post("runs", json=run).status_code == 422


@SQLITE
def test_an_empty_file_is_refused_when_it_is_sent(api: TestClient, files: Files, bell: SilentBell) -> None:
    answer = api.post("uploads", files=[("file", ("data.csv", b""))])
    assert answer.status_code == 422 and "is empty" in answer.json()["errors"][0]["message"]
    assert bell.rung == [] and files.names("uploads") == set()


@SQLITE
def test_bytes_that_are_not_utf_8_are_named_where_that_was_said(
    api: TestClient, settings: Settings, registered: Database, files: Files
) -> None:
    content = b"text,label\n" + ROWS + "Mädchen,yes\n".encode("latin-1")
    upload = uploaded(api, (settings, registered, files), content, encoding="utf-8")
    assert upload["status"] == "failed"
    assert "not valid utf-8 (byte 0xe4)" in upload["message"] and "Choose another encoding" in upload["message"]


@SQLITE
def test_a_huge_field_is_named_by_row_and_column_before_anything_is_made_of_it(
    api: TestClient, settings: Settings, registered: Database, files: Files
) -> None:
    upload = uploaded(api, (settings, registered, files), b"text,label\n" + ROWS + b"x" * 200_000 + b",yes\n")
    [finding] = [f for f in upload["scan"]["findings"] if f["code"] == "very-long-field"]
    assert (finding["column"], finding["examples"][0]["row"]) == ("text", 42)


@SQLITE
def test_a_wrong_column_is_refused_at_its_field(
    api: TestClient, settings: Settings, registered: Database, files: Files, bell: SilentBell
) -> None:
    upload = uploaded(api, (settings, registered, files), b"text,label\n" + ROWS)
    wrong = MAPPING | {"columns": {"text": "text", "label": "stars"}}
    answer = api.post("datasets", json={"name": "mine", "upload_id": upload["id"], "mapping": wrong})
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["path"] == "mapping.columns.label" and "stars" in error["message"]
    assert {task for task, *_ in bell.rung} <= {READ}
