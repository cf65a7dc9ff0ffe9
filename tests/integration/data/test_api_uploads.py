"""Uploads and datasets by HTTP, on SQLite and on PostgreSQL: bytes that come, and what is refused of them."""

import io
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.broker.queue import PREPARE, READ
from app.main import create_app
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.web.http.files import uploads
from tests.support.fakes.fakes import SilentBell
from tests.support.filled import estimates as filled_estimates
from tests.support.ingested import context
from worker.ingest import tasks

CSV = b"review,stars\n" + b"".join(b"good thing %d,1\nbad thing %d,0\n" % (i, i) for i in range(60))
MAPPING: dict[str, Any] = {"format": "labelled", "columns": {"text": "review", "label": "stars"}}


@pytest.fixture
def small(registered: Database, settings: Settings, bell: SilentBell, tmp_path: Path) -> Iterator[TestClient]:
    """A client of an application that takes 8 MiB at most, and has a directory to read from."""
    root = tmp_path / "root"
    root.mkdir()
    app = create_app(settings.model_copy(update={"upload_bytes": 8 << 20, "data_roots": [root]}))
    app.state.doorbell = bell
    with TestClient(app, base_url="http://127.0.0.1/api/v1") as client:
        yield client


def kept(files: Files) -> list[str]:
    """Names of all uploaded bytes in the store, whole or not."""
    root = Path(files.root)
    return sorted(str(path.relative_to(root)) for path in root.glob("uploads/*"))


def send(client: TestClient, *files: tuple[str, bytes], **fields: str) -> Any:
    """Files by a form."""
    return client.post("uploads", files=[("file", file) for file in files], data=fields)


def read(client: TestClient, settings: Settings, database: Database, files: Files, upload_id: int) -> Any:
    """The upload, after a worker has been at it."""
    tasks.read(context(settings, database, files), upload_id)
    return client.get(f"uploads/{upload_id}").json()


def test_a_file_is_stored_as_it_comes_and_a_worker_is_rung_for(small: TestClient, bell: SilentBell) -> None:
    answer = send(small, ("reviews.csv", CSV))
    assert answer.status_code == 202
    found = answer.json()
    assert (found["status"], found["name"], found["bytes"], found["scan"]) == ("reading", "reviews.csv", len(CSV), None)
    assert bell.rung == [(READ, found["id"])]
    assert [one["id"] for one in small.get("uploads").json()] == [found["id"]]


def test_the_same_bytes_by_form_and_by_body_are_one_upload(small: TestClient, files: Files) -> None:
    first = send(small, ("reviews.csv", CSV)).json()
    again = small.put("uploads/files/other.csv", content=CSV).json()
    assert again["id"] == first["id"]
    assert kept(files) == [first["parts"][0]["file"]]


def test_several_files_are_one_upload_with_a_split_each(small: TestClient) -> None:
    found = send(small, ("my-train.csv", CSV), ("my-test.csv", CSV + b"last,1\n")).json()
    assert [(part["name"], part["split"]) for part in found["parts"]] == [
        ("my-test.csv", "test"),
        ("my-train.csv", "train"),
    ]


@pytest.mark.parametrize("given", ["../../etc/passwd.csv", "..\\..\\passwd.csv", "/etc/passwd.csv", "a/b/passwd.csv"])
def test_a_name_is_shown_and_never_a_path(small: TestClient, files: Files, given: str) -> None:
    found = send(small, (given, CSV)).json()
    assert found["name"] == "passwd.csv"
    assert kept(files) == [found["parts"][0]["file"]]


def test_a_name_in_the_address_may_climb_nowhere(small: TestClient) -> None:
    found = small.put("uploads/files/..%2F..%2Fetc%2Fpasswd.csv", content=CSV)
    assert (found.status_code, found.json()["name"]) == (202, "passwd.csv")


def test_what_says_that_it_is_too_large_is_refused_before_it_comes(small: TestClient, files: Files) -> None:
    for path, method in (("uploads/files/big.csv", "PUT"), ("uploads", "POST")):
        headers = {"content-length": str(10 << 30), "content-type": "multipart/form-data; boundary=x"}
        request = small.build_request(method, path, headers=headers, content=io.BytesIO(b""))
        request.headers["content-length"] = str(10 << 30)
        answer = small.send(request)
        assert answer.status_code == 422
        assert answer.json()["errors"] == [
            {
                "path": "file",
                "message": "The file is larger than the upload limit of 8 MiB",
                "remedy": "Upload a part of it, put it into a directory under VEZNA_DATA_ROOTS, "
                "or raise VEZNA_UPLOAD_BYTES",
            }
        ]
    assert kept(files) == []


def test_what_becomes_too_large_while_it_comes_is_refused_and_leaves_nothing(small: TestClient, files: Files) -> None:
    chunks = (b"x" * (1 << 20) for _ in range(20))  # without a length
    answer = small.put("uploads/files/big.csv", content=chunks)
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "file")
    halves = send(small, ("a.csv", b"x" * (5 << 20)), ("b.csv", b"y" * (5 << 20)))  # each is small enough alone
    assert halves.status_code == 422
    assert kept(files) == []
    assert small.get("uploads").json() == []


@pytest.mark.parametrize(
    ("sent", "fields", "path", "says"),
    [
        ([], {"delimiter": ","}, "file", "No file was sent"),
        ([("", b"")], {}, "file", "No file was sent"),
        ([("train.csv", CSV), ("empty.csv", b"")], {}, "file", "empty.csv is empty"),
        ([("a.csv", CSV)], {"encoding": "utf-99"}, "encoding", "'utf-99' is not a text encoding"),
        ([("a.csv", CSV)], {"delimiter": "ab"}, "delimiter", "Must be one of"),
        ([("a.csv", CSV)], {"separator": ","}, "separator", "There is no such field"),
        ([("a.csv", CSV)], {"encoding": "x" * 5000}, "encoding", "The field is too long"),
        ([("a.csv", CSV)] * 101, {}, "file", "More than 100 files were sent"),
    ],
)
def test_what_is_wrong_with_a_form_is_said_and_nothing_is_kept(
    small: TestClient, files: Files, sent: list[tuple[str, bytes]], fields: dict[str, str], path: str, says: str
) -> None:
    parts = [("file", file) for file in sent] or [("other", (None, b""))]
    answer = small.post("uploads", files=parts, data=fields)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["path"] == path
    assert says in answer.json()["errors"][0]["message"]
    assert kept(files) == []


def test_a_body_that_is_no_form_or_ends_too_early_is_refused(small: TestClient, files: Files) -> None:
    assert small.post("uploads", json={"file": "a.csv"}).json()["errors"][0]["message"].startswith("The files were not")
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n' + CSV
    headers = {"content-type": "multipart/form-data; boundary=x"}
    cut = small.post("uploads", content=head, headers=headers)
    assert (cut.status_code, cut.json()["detail"]) == (422, "The form ended before its last file. Send it again.")
    broken = small.post("uploads", content=b"--y\r\nnot a header\r\n\r\n", headers=headers)
    assert broken.status_code == 422
    assert kept(files) == []


def test_two_uploads_at_once_do_not_meet(small: TestClient, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "BLOCK", 64)  # so that they are written in many turns
    found: dict[int, Any] = {}

    def one(which: int) -> None:
        found[which] = small.put(f"uploads/files/{which}.csv", content=CSV + b"%d,1\n" % which).json()

    threads = [Thread(target=one, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({upload["id"] for upload in found.values()}) == 4
    assert len(kept(files)) == 4


def test_an_upload_is_read_mapped_and_becomes_a_dataset(
    small: TestClient, settings: Settings, database: Database, files: Files, bell: SilentBell
) -> None:
    upload = read(small, settings, database, files, send(small, ("reviews.csv", CSV)).json()["id"])
    assert (upload["status"], upload["scan"]["rows"]) == ("read", 120)
    assert upload["scan"]["columns"][1]["values"] == {"1": 60, "0": 60}
    wanted = {
        "name": "reviews",
        "upload_id": upload["id"],
        "mapping": MAPPING | {"label_names": {"0": "no", "1": "yes"}},
    }
    made = small.post("datasets", json=wanted)
    assert (made.status_code, made.json()["status"], made.json()["facts"]) == (202, "preparing", None)
    tasks.prepare(context(settings, database, files), next(i for task, i in bell.rung if task == PREPARE))
    found = small.get("datasets/reviews@1").json()
    assert (found["status"], found["reference"], found["facts"]["labels"]) == ("ready", "reviews@1", ["no", "yes"])
    assert small.get(f"uploads/{upload['id']}").json()["datasets"] == ["reviews@1"]
    assert [row["reference"] for row in small.get("datasets").json()] == ["reviews@1", "small@1"]
    assert small.delete(f"uploads/{upload['id']}").status_code == 409
    assert small.delete("datasets/reviews").status_code == 204
    assert small.get("datasets/reviews").status_code == 404
    assert small.delete(f"uploads/{upload['id']}").status_code == 204
    assert kept(files) == []


def test_a_dataset_that_is_used_stays(small: TestClient) -> None:
    run = {"base_model": "tiny", "dataset": "small", "method": {"kind": "full"}}
    assert small.post("runs", json=run).status_code == 202
    answer = small.delete("datasets/small@1")
    assert (answer.status_code, answer.json()["detail"]) == (
        409,
        "small@1 is in use (studies: 0, runs: 1). Delete them first.",
    )
    assert small.get("datasets/small").json()["runs"] == 1


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        ({"name": "../up"}, "name", "Must match the pattern"),
        ({"name": ""}, "name", "Must not be empty"),
        ({"upload_id": 0}, "upload_id", "Must be 1 or more"),
        ({"mapping": MAPPING | {"columns": {"text": "txt"}}}, "mapping.columns.label", "No column is assigned"),
        ({"mapping": {"format": "tables"}}, "mapping.format", "Must be one of"),
        ({"splitting": {"kind": "random", "test": 0.0}}, "splitting.test", "The test split would be empty"),
        ({"splitting": {"kind": "predefined"}}, "splitting.kind", "The source has no predefined splits"),
        ({"splitting": {"kind": "random", "seed": -1}}, "splitting.seed", "Must be 0 or more"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_at_its_fields(
    small: TestClient,
    settings: Settings,
    database: Database,
    files: Files,
    change: dict[str, Any],
    path: str,
    says: str,
) -> None:
    upload = read(small, settings, database, files, send(small, ("reviews.csv", CSV)).json()["id"])
    wanted = {"name": "reviews", "upload_id": upload["id"], "mapping": MAPPING} | change
    answer = small.post("datasets", json=wanted)
    assert answer.status_code == 422
    assert says in {error["path"]: error["message"] for error in answer.json()["errors"]}[path]
    assert [row["name"] for row in small.get("datasets").json()] == ["small"]


def test_what_is_not_there_or_not_read_yet_is_said(small: TestClient) -> None:
    upload = send(small, ("reviews.csv", CSV)).json()
    wanted = {"name": "reviews", "upload_id": upload["id"], "mapping": MAPPING}
    early = small.post("datasets", json=wanted)
    assert (early.status_code, "still being read" in early.json()["detail"]) == (409, True)
    assert small.post("datasets", json=wanted | {"upload_id": 99}).status_code == 404
    for path in ("uploads/99", "datasets/none", "datasets/small@7"):
        assert small.get(path).status_code == 404
        assert small.delete(path).status_code == 404


def test_a_name_with_several_versions_is_not_deleted_at_once(
    small: TestClient, settings: Settings, database: Database, files: Files, bell: SilentBell
) -> None:
    for content in (CSV, CSV + b"one more,1\n"):
        upload = read(small, settings, database, files, send(small, ("reviews.csv", content)).json()["id"])
        small.post("datasets", json={"name": "reviews", "upload_id": upload["id"], "mapping": MAPPING})
        tasks.prepare(context(settings, database, files), bell.rung[-1][1])
    answer = small.delete("datasets/reviews")
    assert (answer.status_code, answer.json()["detail"]) == (
        409,
        "reviews has 2 versions. Name one, such as reviews@2.",
    )
    assert small.delete("datasets/reviews@1").status_code == 204
    assert small.get("datasets/reviews").json()["version"] == 2


def test_rows_are_seen_as_a_model_sees_them_once_it_is_worked_out(small: TestClient, database: Database) -> None:
    query = {"model": "tiny", "max_length": 64}
    waiting = small.get("datasets/small/preview", params=query)
    assert (waiting.status_code, waiting.json()["state"], waiting.json()["preview"]) == (202, "working", None)
    assert filled_estimates.answer_requests(database) == 1
    found = small.get("datasets/small@1/preview", params=query)
    assert (found.status_code, found.json()["task"]) == (200, "sequence-classification")
    [row] = found.json()["preview"]["rows"]
    assert (row["length"], row["kept"], row["tokens"][0]) == (
        69,
        64,
        {"text": "[CLS]", "special": True, "learnt": False},
    )
    kept = small.get(f"estimates/{found.json()['estimate_id']}").json()
    assert (kept["kind"], kept["preview"]) == ("preview", found.json()["preview"])
    assert small.get("datasets/small/preview", params=query | {"model": "none"}).status_code == 404
    assert small.get("datasets/none/preview", params=query).status_code == 404
    wrong = small.get("datasets/small/preview", params=query | {"task": "causal-lm"})
    assert (wrong.status_code, wrong.json()["errors"][0]["path"]) == (422, "task")
    assert small.get("datasets/small/preview", params=query | {"max_length": 1}).status_code == 422
