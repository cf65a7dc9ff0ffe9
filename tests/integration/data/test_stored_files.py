"""Files of data in the store: what comes while the same is deleted stays, and what nothing names goes. On SQLite and on
PostgreSQL."""

import errno
import os
import time
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.domain.data.uploads import Part, SourceRequest
from app.domain.errors import OverQuota
from app.services.data import datasets, ingestion, uploads
from app.services.ownership import deletion
from app.settings import Settings
from app.store.data import uploads as upload_rows
from app.store.database.session import Database
from app.store.files.files import Files, Incoming, StoreUnavailable
from app.store.tables import DatasetRow, UploadRow
from tests.support.ingested import context, dataset, upload
from worker import tasks
from worker.children.work import WorkCancelled
from worker.ingest import tasks as ingest
from worker.ingest.tasks import from_directory, kept
from worker.nodes import removal
from worker.nodes.context import Context

CSV = b"text,label\n" + b"".join(b"good thing %d,yes\nbad thing %d,no\n" % (i, i) for i in range(60))


@pytest.fixture
def here(settings: Settings, database: Database, files: Files, monkeypatch: pytest.MonkeyPatch) -> Context:
    found = context(settings, database, files)
    monkeypatch.setattr(tasks, "process_context", lambda: found)
    return found


def delete(here: Context, row: UploadRow) -> None:
    with here.database.transaction() as session:
        deletion.delete_upload(session, here.files, row.id)


def stored(here: Context) -> set[str]:
    return here.files.names("uploads") | here.files.names("datasets")


def away(*_args: object, **_options: object) -> None:
    raise RuntimeError("cannot connect")  # what an object store's library raises is no OSError


def test_an_upload_during_an_outage_is_refused_as_one(here: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreUnavailable), here.files.receive(1 << 20) as incoming:
        monkeypatch.setattr(incoming._file, "write", away)
        monkeypatch.setattr(here.files.fs, "rm", away)
        incoming.write(CSV)


def test_an_upload_is_read_after_an_outage(here: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as outage:
        with here.files.receive(1 << 20) as incoming:
            incoming.write(CSV)
            came = incoming.done()
        with here.database.transaction() as session:
            row = uploads.add_files(session, here.bell, here.files, [("a.csv", came)])
        outage.setattr(here.files.fs, "exists", away)
        ingest.read(here, row.id)
        with here.database.reading() as session:
            assert upload_rows.get(session, row.id).status == "reading"
    with here.database.transaction() as session:
        ingestion.ring(session, here.bell, session.merge(row))
    ingest.read(here, row.id)
    with here.database.reading() as session:
        assert upload_rows.get(session, row.id).status == "read"


def test_a_full_disk_is_named_when_files_are_copied_and_when_rows_are_stored(
    here: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "a.csv").write_bytes(CSV)
    source = SourceRequest(source="directory", location=str(tmp_path))
    read = upload(here, {"b.csv": CSV})
    monkeypatch.setattr(here.files, "put", full)
    monkeypatch.setattr(Incoming, "write", full)
    with here.database.transaction() as session:
        row = uploads.add_source(session, here.bell, source, [tmp_path])
    ingest.read(here, row.id)
    with here.database.reading() as session:
        copied = upload_rows.get(session, row.id)
    stored = dataset(here, read)
    for failed in (copied, stored):
        assert failed.status == "failed"
        assert failed.message.startswith(f"The worker's disk with {here.files.directory.name} is full: ")
        assert failed.message.endswith("Free some space there, then add the data again.")


def told(share: float, rows: int) -> bool:
    return True


def test_bytes_that_come_again_before_those_of_a_deleted_upload_are_removed_stay(
    here: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, again = upload(here, {"a.csv": CSV}), list[UploadRow]()
    discard = here.files.discard

    def late(name: str) -> None:
        if not again:
            again.append(upload(here, {"a.csv": CSV}))
        discard(name)

    monkeypatch.setattr(here.files, "discard", late)
    delete(here, row)
    assert again[0].status == "read"
    assert stored(here) == {again[0].parts[0].file}
    assert dataset(here, again[0]).status == "ready"


def test_bytes_that_came_before_an_upload_of_them_was_deleted_and_are_named_after_it_stay(here: Context) -> None:
    row = upload(here, {"a.csv": CSV})
    with here.files.receive(1 << 20) as incoming:
        incoming.write(CSV)
        came = incoming.done()
    delete(here, row)
    with here.database.transaction() as session:
        again = uploads.add_files(session, here.bell, here.files, [("a.csv", came)])
    assert [part.file for part in again.parts] == [came.file]
    assert stored(here) == {came.file}


def test_an_upload_with_the_bytes_of_one_that_is_being_deleted_stays(here: Context) -> None:
    row, again = upload(here, {"a.csv": CSV}), list[UploadRow]()
    arrival = Thread(target=lambda: again.append(upload(here, {"a.csv": CSV})))
    with here.database.transaction() as session:
        deletion.delete_upload(session, here.files, row.id)
        arrival.start()
        time.sleep(0.3)
        assert arrival.is_alive()  # it waits for what becomes of the upload
    arrival.join()
    assert again[0].status == "read"
    assert stored(here) == {again[0].parts[0].file}


def test_the_same_bytes_in_two_uploads_are_one_file_until_both_are_gone(here: Context) -> None:
    alone = upload(here, {"a.csv": CSV})
    both = upload(here, {"train.csv": CSV, "test.csv": b"text,label\nother,yes\n"})
    assert {part.file for part in both.parts} > {alone.parts[0].file}
    assert len(stored(here)) == 2
    delete(here, alone)
    assert stored(here) == {part.file for part in both.parts}
    delete(here, both)
    assert stored(here) == set()


def test_lost_bytes_are_restored_for_every_upload_once_they_are_uploaded_again(here: Context) -> None:
    alone = upload(here, {"a.csv": CSV})
    both = upload(here, {"train.csv": CSV, "test.csv": b"text,label\nother,yes\n"})
    here.files.remove(alone.parts[0].file)
    assert upload(here, {"a.csv": CSV}).id == alone.id
    with here.database.reading() as session:
        again, and_both = (upload_rows.get(session, row.id) for row in (alone, both))
        named = upload_rows.named_files(session)
    assert again.parts[0].file != alone.parts[0].file
    assert {again.parts[0].file, *(part.file for part in and_both.parts)} == named == stored(here)
    assert dataset(here, again).status == "ready"


def test_a_stalled_worker_removes_no_file_of_its_successor(here: Context, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(CSV)

    def unused(parts: list[Part]) -> list[Part]:
        with here.database.reading() as session:
            return uploads.unused(session, parts)

    with pytest.raises(WorkCancelled), kept(here.files, unused) as stalled:
        from_directory(here.files, tmp_path / "a.csv", told, stalled)
        with kept(here.files, unused) as successor:
            from_directory(here.files, tmp_path / "a.csv", told, successor)
        raise WorkCancelled
    assert stored(here) == {successor[0].file} != {stalled[0].file}


def test_a_version_keeps_its_rows_if_an_equal_one_is_deleted_meanwhile(
    here: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = upload(here, {"a.csv": CSV})
    first, note = dataset(here, row, "first"), datasets.prepared

    def deleted_meanwhile(session: Session, claimed: DatasetRow, *found: Any) -> bool:
        deletion.delete_dataset(session, here.files, first.id)
        return note(session, claimed, *found)

    monkeypatch.setattr(datasets, "prepared", deleted_meanwhile)
    second = dataset(here, row, "second")
    assert (second.content_hash, second.status) == (first.content_hash, "ready")
    assert here.files.names("datasets") == {second.file}


def test_a_worker_that_lost_its_claim_on_a_version_removes_its_file(
    here: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "prepared", lambda *_: False)
    assert dataset(here, upload(here, {"a.csv": CSV})).status == "preparing"
    assert here.files.names("datasets") == set()


def test_a_version_that_its_user_may_not_store_leaves_no_file(here: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> bool:
        raise OverQuota("above the limit")

    monkeypatch.setattr(datasets, "prepared", refused)
    row = dataset(here, upload(here, {"a.csv": CSV}))
    assert (row.status, row.message) == ("failed", "above the limit")
    assert here.files.names("datasets") == set()


def test_files_without_an_upload_are_removed_after_a_day(here: Context) -> None:
    row = upload(here, {"a.csv": CSV})
    made = dataset(here, row)
    stray = Path(here.files.root, "uploads", "left")
    stray.write_bytes(b"half")
    for name in (row.parts[0].file, made.file):
        _aged(Path(here.files.root, name))
    tasks.remove_files()
    assert stray.exists()  # perhaps it is just coming
    _aged(stray)
    tasks.remove_files()
    assert not stray.exists()
    assert stored(here) == {row.parts[0].file, made.file}


def test_a_store_that_cannot_remove_a_file_now_leaves_it_to_the_control_node(
    here: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = upload(here, {"a.csv": CSV})
    remove = here.files.remove

    def away(name: str) -> None:
        raise OSError("the store is away")

    monkeypatch.setattr(here.files, "remove", away)
    delete(here, row)
    _aged(Path(here.files.root, row.parts[0].file))
    tasks.remove_files()
    assert stored(here) == {row.parts[0].file}
    monkeypatch.setattr(here.files, "remove", remove)
    tasks.remove_files()
    assert stored(here) == set()


def test_rows_of_a_version_that_could_not_be_removed_are_removed_after_a_day(
    here: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = upload(here, {"a.csv": CSV})
    gone, kept_version = dataset(here, row, "gone"), dataset(here, row, "kept")

    def away(name: str) -> None:
        raise OSError("the store is away")

    with monkeypatch.context() as outage:
        outage.setattr(here.files, "remove", away)
        here.database.write(lambda session: deletion.delete_dataset(session, here.files, gone.id))
    tasks.remove_files()
    assert here.files.names("datasets") == {gone.file, kept_version.file}
    for file in (gone.file, kept_version.file):
        _aged(Path(here.files.root, file))
    tasks.remove_files()
    assert here.files.names("datasets") == {kept_version.file}


def test_a_store_that_does_not_answer_holds_up_one_of_the_files_that_are_discarded(
    here: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def silent(name: str) -> None:
        asked.append(name)
        raise StoreUnavailable("silent")

    monkeypatch.setattr(here.files, "remove", silent)
    for name in ("runs/1", "runs/2"):
        here.files.discard(name)
    assert asked == ["runs/1"]
    monkeypatch.setattr("app.store.files.files.QUIET_SECONDS", 0.0)
    monkeypatch.setattr(here.files, "_quiet_until", 0.0)
    for name in ("runs/1", "runs/2"):
        here.files.discard(name)
    assert asked == ["runs/1", "runs/1", "runs/2"]


def _aged(path: Path) -> None:
    long_ago = time.time() - (removal.STRAY_AFTER + timedelta(minutes=1)).total_seconds()
    os.utime(path, (long_ago, long_ago))
