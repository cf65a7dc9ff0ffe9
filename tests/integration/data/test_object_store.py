"""The files store in a real S3-compatible server, which also goes away and returns."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import httpx2
import pytest

from app.domain.errors import Invalid, NotFound
from app.store.files.files import Files, StoreUnavailable
from tests.support.servers.object_store import ObjectStore
from tests.support.servers.running_stack import RunningStack, prepare, start, until

pytestmark = pytest.mark.slow

URL = "s3://vezna/files"
RUN: dict[str, Any] = {
    "base_model": "tiny",
    "dataset": "small",
    "method": {"kind": "lora", "r": 4, "target_modules": ["query", "value"]},
    "training": {"num_train_epochs": 200, "per_device_train_batch_size": 4, "max_length": 16},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    found = ObjectStore(tmp_path_factory.mktemp("store"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in found.environment.items():
            patch.setenv(name, value)
        found.start()
        fsspec.filesystem("s3").mkdir("vezna")
        yield found
        found.stop()


@pytest.fixture
def files(store: ObjectStore) -> Files:
    return Files(URL)


@pytest.mark.nightly
def test_files_are_stored_listed_read_and_removed(files: Files, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content := os.urandom(12 << 20))  # more than a part of an upload in parts
    files.put(tmp_path / "a", "runs/1/2/a.bin")
    files.get("runs/1/2/a.bin", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == content == b"".join(files.chunks("runs/1/2/a.bin"))
    assert files.names("runs") == {"runs/1"} and files.names("runs/1/2") == {"runs/1/2/a.bin"}
    assert files.age("runs/1/2/a.bin").total_seconds() < 600 and files.local("runs/1/2/a.bin") is None
    files.remove("runs/1")
    assert not files.exists("runs/1/2/a.bin") and files.names("runs") == set()
    with pytest.raises(NotFound):
        files.open("runs/1/2/a.bin")


def test_a_file_that_is_received_is_complete_or_absent(files: Files) -> None:
    with files.receive(1 << 30) as incoming:
        for _ in range(11):
            incoming.write(part := os.urandom(1 << 20))
        stored = incoming.done()
    assert stored.bytes == 11 << 20
    assert hashlib.sha256(b"".join(files.chunks(stored.file))).hexdigest() == stored.sha256
    with pytest.raises(Invalid), files.receive(1 << 19) as incoming:
        incoming.write(part)
    assert files.names("uploads") == {stored.file}
    files.remove(stored.file)


def test_a_store_that_is_away_is_named(store: ObjectStore, files: Files, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    store.stop()
    try:
        with pytest.raises(StoreUnavailable, match="The files store does not answer"):
            files.put(tmp_path / "a", "runs/9/1/a")
        with pytest.raises(StoreUnavailable):  # rather than NotFound: a run waits for it
            files.get("runs/9/1/a", tmp_path / "b")
        with pytest.raises(OSError, match="does not answer"):
            files.names("runs")
    finally:
        store.start()
    files.put(tmp_path / "a", "runs/9/1/a")
    assert files.names("runs/9/1") == {"runs/9/1/a"}
    files.remove("runs/9")


@pytest.mark.nightly
def test_a_store_that_accepts_connections_and_never_answers_is_away_for_each_operation(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("app.store.files.s3.ANSWER_SECONDS", 2.0)
    files = Files(URL)
    (tmp_path / "a").write_bytes(os.urandom(12 << 20))  # more than the kernel takes for a server that does not read

    def receive() -> None:
        with files.receive(1 << 30) as incoming:
            incoming.write(b"a")
            incoming.done()

    operations: dict[str, Callable[[], object]] = {
        "exists": lambda: files.exists("runs/9/1/a"),
        "names": lambda: files.names("runs"),
        "put": lambda: files.put(tmp_path / "a", "runs/9/1/a"),
        "receive": receive,
        "remove": lambda: files.remove("runs/9"),
    }
    store.freeze()
    with ThreadPoolExecutor(len(operations)) as pool:
        running = {name: pool.submit(operation) for name, operation in operations.items()}
        try:
            for name, future in running.items():
                assert isinstance(future.exception(120), StoreUnavailable), name
        finally:
            store.thaw()
    files.put(tmp_path / "a", "runs/9/1/a")
    files.remove("runs/9")


@pytest.fixture(scope="module")
def running(store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VEZNA_FILES_URL", URL)
        patch.setenv("VEZNA_LOG_LEVEL", "debug")  # it says each sweep
        patch.setenv("FSSPEC_S3", '{"config_kwargs": {"read_timeout": 5}}')
        with start(prepare(tmp_path_factory.mktemp("outage"), patch)) as found:
            yield found


@pytest.mark.nightly
def test_a_run_outlives_an_outage_of_the_store(running: RunningStack, store: ObjectStore) -> None:
    api = running.api

    def run(run_id: int) -> dict[str, Any]:
        return dict(api.get(f"/runs/{run_id}").json())

    earlier = api.post("/runs", json={**RUN, "training": {**RUN["training"], "num_train_epochs": 1}}).json()["id"]
    until(lambda: run(earlier)["status"] == "succeeded", 120)
    artifact = api.get(f"/runs/{earlier}/artifacts").json()[0]
    run_id = api.post("/runs", json=RUN).json()["id"]
    until(lambda: run(run_id)["step"] >= 20, 120)

    store.stop()
    at = run(run_id)["step"]
    until(lambda: run(run_id)["step"] >= at + 50 or run(run_id)["status"] != "running", 120)
    assert run(run_id)["status"] == "running"
    answer = api.get(f"/artifacts/{artifact['id']}/content", timeout=60)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:vezna:unavailable")
    assert "files store" in answer.json()["detail"]
    assert api.get("/runs").status_code == 200
    store.start()

    until(lambda: run(run_id)["status"] in ("succeeded", "failed"), 240)
    ended = run(run_id)
    assert (ended["status"], ended["attempt"]) == ("succeeded", 1), ended["failure"]
    for stored in api.get(f"/runs/{run_id}/artifacts").json():
        content = httpx2.get(f"{running.stack.url}/api/v1/artifacts/{stored['id']}/content").content
        assert hashlib.sha256(content).hexdigest() == stored["sha256"]
    left = Files(URL).names(f"runs/{run_id}")
    until(lambda: Files(URL).names(f"runs/{run_id}") == {f"runs/{run_id}/1"}, 30)  # no checkpoint is left
    assert left


@pytest.mark.nightly
def test_a_frozen_store_holds_up_no_sweep_and_no_other_page(running: RunningStack, store: ObjectStore) -> None:
    api, files = running.api, Files(URL)
    short = {**RUN, "training": {**RUN["training"], "num_train_epochs": 1}}
    run_id = api.post("/runs", json=short).json()["id"]
    until(lambda: api.get(f"/runs/{run_id}").json()["status"] == "succeeded", 240)
    artifact = api.get(f"/runs/{run_id}/artifacts").json()[0]
    assert files.names(f"runs/{run_id}")
    log = running.stack.settings.home / "logs" / "control.log"

    def lines() -> list[str]:
        return log.read_text(errors="replace").splitlines()

    def given_up() -> list[int]:
        return [number for number, line in enumerate(lines()) if "unneeded files could not be removed" in line]

    before, earlier = len(lines()), len(given_up())
    store.freeze()
    try:
        with ThreadPoolExecutor(1) as pool:
            content = pool.submit(api.get, f"/artifacts/{artifact['id']}/content", timeout=150)
            assert httpx2.get(f"{running.stack.url}/runs", timeout=60).status_code == 200
            answer = content.result()
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:vezna:unavailable")
        assert "The files store does not answer" in answer.json()["detail"]
        deleted = api.delete(f"/runs/{run_id}", timeout=150)
        assert deleted.status_code == 204, deleted.text  # its files go later
        newer = api.post("/runs", json=RUN).json()["id"]  # a folder above the newest run may be another database's
        assert api.post(f"/runs/{newer}/cancel").is_success
        until(lambda: len(given_up()) > earlier, 150)
        swept = sum("swept" in line for line in lines()[before : given_up()[earlier]])
        assert swept >= 4  # one each two seconds; the removal waits for twenty
    finally:
        store.thaw()
    until(lambda: files.names(f"runs/{run_id}") == set(), 150)
