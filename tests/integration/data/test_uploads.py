"""From bytes to a dataset that runs can name, through the process that reads. On SQLite and on PostgreSQL."""

from datetime import timedelta

import pytest
from sqlalchemy.exc import OperationalError

from app.broker.queue import PREPARE, READ
from app.domain.data.dataset import LabelledRow
from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.splitting import Splitting
from app.domain.data.uploads import ReadingOptions
from app.domain.data.versions import DatasetRequest
from app.domain.errors import Conflict
from app.services.data import datasets, ingestion, uploads
from app.services.ownership import deletion
from app.services.workers import sweep
from app.settings import Settings
from app.store.data import queries as dataset_rows
from app.store.data import uploads as upload_rows
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.tables import DatasetRow, UploadRow, now
from tests.support.fakes.fakes import UndoneOnce
from tests.support.ingested import context, dataset, upload
from worker.engine.data.batches.batches import read
from worker.ingest import tasks
from worker.ingest.host import IngestQueue
from worker.nodes.context import Context

CSV = b"text,label\n" + b"".join(b"good thing %d,yes\nbad thing %d,no\n" % (i, i) for i in range(60))


@pytest.fixture
def here(settings: Settings, database: Database, files: Files) -> Context:
    return context(settings, database, files)


def test_a_file_becomes_a_dataset(here: Context) -> None:
    row = upload(here, {"reviews.csv": CSV})
    assert (row.status, row.message, row.progress) == ("read", "", 1.0)
    scan = row.scan
    assert scan is not None
    assert (scan.rows, scan.kind, scan.delimiter, scan.encoding) == (120, "csv", ",", "utf-8")
    assert scan.mapping == ColumnMapping(format="labelled", columns={"text": "text", "label": "label"})
    made = dataset(here, row, "reviews")
    assert (made.status, made.message, made.reference) == ("ready", "", "reviews@1")
    assert made.facts.counts == {"train": 96, "validation": 12, "test": 12}
    assert made.facts.labels == ["no", "yes"]
    assert made.facts.label_counts == {"no": 60, "yes": 60}
    path = here.files.local(made.file)
    rows = read(str(path), "labelled")
    assert {row.label for row in rows["test"] if isinstance(row, LabelledRow)} == {0, 1}
    assert len({row.item for split in rows.values() for row in split}) == 120


@pytest.mark.slow
def test_a_process_of_its_own_reads_and_prepares(settings: Settings, database: Database, files: Files) -> None:
    here = context(settings, database, files, IngestQueue())
    row = upload(here, {"reviews.csv": CSV})
    assert (row.status, row.message) == ("read", "")
    made = dataset(here, row)
    assert (made.status, made.facts.counts["train"]) == ("ready", 96)
    broken = upload(here, {"reviews.csv": CSV + b"x\n"})
    assert broken.message.startswith("reviews.csv: row 122 (it begins with 'x') has 1 of the 2 fields")


def test_the_same_bytes_are_one_upload_and_the_same_request_one_version(here: Context) -> None:
    first, again = upload(here, {"a.csv": CSV}), upload(here, {"b.csv": CSV})
    assert first.id == again.id
    made, once_more = dataset(here, first), dataset(here, again)
    assert (made.id, made.version) == (once_more.id, 1)


def test_bytes_that_a_dataset_was_made_of_are_read_otherwise_beside_it(here: Context) -> None:
    text = "text,label\n" + "".join(f"schöne Größe {i},{'ja' if i % 2 else 'nein'}\n" for i in range(60))
    content, wrong, right = text.encode("latin-1"), ReadingOptions(encoding="cp437"), ReadingOptions(encoding="latin-1")
    first = upload(here, {"a.csv": content}, wrong)
    old = dataset(here, first)
    second = upload(here, {"a.csv": content}, right)
    new = dataset(here, second)
    assert (second.id != first.id, old.version, new.version) == (True, 1, 2)
    assert old.content_hash != new.content_hash
    assert upload(here, {"a.csv": content}, right).id == second.id
    with here.database.reading() as session:
        assert upload_rows.get(session, first.id).options == wrong


def test_the_same_texts_labelled_and_as_pairs_lie_in_two_files(here: Context) -> None:
    parts = {f"{split}.csv": CSV.replace(b"thing", split.encode()) for split in ("train", "validation", "test")}
    row = upload(here, parts)
    labelled = dataset(here, row)
    pairs = ColumnMapping(format="prompt-completion", columns={"prompt": "text", "completion": "label"})
    dataset(here, row, "pairs", pairs)
    assert len(read(str(here.files.local(labelled.file)), "labelled")["train"]) == 120


def test_where_the_same_rows_are_kept_their_labels_are_the_same(here: Context) -> None:
    parts = {f"{split}.csv": CSV.replace(b"thing", split.encode()) for split in ("train", "validation", "test")}
    names = {split: [split] for split in ("train", "validation", "test")}
    drop = Splitting.model_validate({"kind": "predefined", "names": names, "duplicates": "drop"})
    old = dataset(here, upload(here, parts), splitting=drop)
    parts["train.csv"] += b"good test 0,or\n"  # once more, under a label of its own: dropped
    new = dataset(here, upload(here, parts), splitting=drop)
    assert (old.content_hash, old.facts) == (new.content_hash, new.facts)
    assert new.facts.labels == ["no", "yes"]


def test_of_two_requests_for_a_version_at_once_one_is_told_so(here: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    row = upload(here, {"a.csv": CSV})
    dataset(here, row)
    monkeypatch.setattr(dataset_rows, "versions", lambda *_: [])  # what the second saw before the first had committed
    monkeypatch.setattr(dataset_rows, "is_taken", lambda *_: False)
    with pytest.raises(Conflict, match="Another request is creating mine@1"):
        dataset(here, row)


def test_a_changed_file_is_a_new_version_and_a_name_means_the_newest_that_is_ready(here: Context) -> None:
    old = dataset(here, upload(here, {"a.csv": CSV}))
    new = dataset(here, upload(here, {"a.csv": CSV + b"a last one,yes\n"}))
    assert (old.version, new.version) == (1, 2)
    blocked = dataset(here, upload(here, {"a.csv": b"text,label\na,b\n"}))
    assert (blocked.version, blocked.status) == (3, "blocked")
    assert blocked.blocked_by is not None
    assert (blocked.blocked_by.code, blocked.blocked_by.count, blocked.message) == ("too-few-rows", 1, "")
    with here.database.reading() as session:
        assert dataset_rows.by_name(session, "mine").id == new.id  # type: ignore[union-attr]
        assert dataset_rows.by_name(session, "mine@1").id == old.id  # type: ignore[union-attr]
        assert dataset_rows.by_name(session, "mine@3") is None
        assert [row.id for row in dataset_rows.everyone(session)] == [new.id]
        assert [row.version for row in dataset_rows.versions(session, "mine")] == [3, 2, 1]
    again = dataset(here, upload(here, {"a.csv": CSV + b"one more,no\n"}))
    assert (again.version, again.status) == (3, "ready")  # what came to nothing takes no number


def test_splits_of_the_source_are_kept_and_what_is_missing_is_cut_from_train(here: Context) -> None:
    test = b"text,label\n" + b"".join(b"other %d,%s\n" % (i, b"yes" if i % 3 else b"no") for i in range(20))
    row = upload(here, {"my-train.csv": CSV, "my-test.csv": test})
    assert row.scan and row.scan.splits == {"test": 20, "train": 120}
    assert row.scan.splitting.kind == "predefined"
    made = dataset(here, row)
    assert made.facts.counts == {"train": 108, "validation": 12, "test": 20}


def test_a_file_that_cannot_be_read_leaves_a_sentence_and_no_dataset(here: Context) -> None:
    row = upload(here, {"a.csv": b"text,label\na,b\nc\n"})
    assert row.status == "failed"
    assert row.message.startswith("a.csv: row 3 (it begins with 'c') has 1 of the 2 fields")
    wanted = DatasetRequest(name="x", upload_id=row.id, mapping=ColumnMapping(format="text", columns={"text": "text"}))
    with here.database.transaction() as session, pytest.raises(Conflict, match="has 1 of the 2 fields"):
        datasets.prepare(session, here.bell, wanted)


def test_rings_go_out_after_the_commit_and_a_second_ring_finds_nothing_to_do(here: Context) -> None:
    row = upload(here, {"a.csv": CSV})
    made = dataset(here, row)
    assert here.bell.rung == [(READ, row.id), (PREPARE, made.id)]  # type: ignore[attr-defined]
    with here.database.transaction() as session:
        assert ingestion.begin(session, UploadRow, row.id) is None
        assert ingestion.begin(session, DatasetRow, made.id) is None


def test_deleting_removes_what_nothing_else_uses(here: Context) -> None:
    row = upload(here, {"a.csv": CSV})
    made = dataset(here, row)
    with here.database.transaction() as session, pytest.raises(Conflict, match="mine@1 was made from this upload"):
        deletion.delete_upload(session, here.files, row.id)
    with here.database.transaction() as session:
        deletion.delete_dataset(session, here.files, made.id)
    assert not here.files.exists(made.file)
    with here.database.transaction() as session:
        deletion.delete_upload(session, here.files, row.id)
    assert not here.files.exists(row.parts[0].file)
    with here.database.reading() as session:
        assert upload_rows.newest(session) == []


def test_what_a_lost_worker_was_at_is_rung_for_again_and_its_late_answer_counts_for_nothing(
    here: Context, settings: Settings
) -> None:
    row = upload(here, {"a.csv": CSV})
    bell = here.bell
    with here.database.transaction() as session:
        again = uploads.read_again(session, bell, row.id, ReadingOptions())
        lost = ingestion.begin(session, UploadRow, again.id)
        assert lost is not None
        session.expunge(lost)
    bell.rung.clear()  # type: ignore[attr-defined]
    with here.database.transaction() as session:
        assert ingestion.begin(session, UploadRow, row.id) is None
        sweep.sweep(session, bell, settings)
        long_ago = now() - timedelta(seconds=ingestion.SILENT_SECONDS + settings.ring_again_seconds + 1)
        waiting = upload_rows.get(session, row.id)
        waiting.started_at = waiting.seen_at = waiting.rung_at = long_ago
    assert bell.rung == []  # type: ignore[attr-defined]
    lost.started_at = long_ago
    with here.database.transaction() as session:
        sweep.sweep(session, bell, settings)
    assert bell.rung == [(READ, row.id)]  # type: ignore[attr-defined]
    with here.database.transaction() as session:
        mine = ingestion.begin(session, UploadRow, row.id)
        assert mine is not None
        assert not ingestion.failed(session, lost, "late")
        assert ingestion.progress(session, mine, 0.5, 10)
        assert not ingestion.progress(session, lost, 0.9, 10)


def test_a_reading_that_was_wrong_is_done_again_as_it_is_told(here: Context) -> None:
    wrong = upload(here, {"a.csv": b"one,two\n" + b"three,four\n" * 3})
    assert wrong.scan and wrong.scan.header
    with here.database.transaction() as session:
        uploads.read_again(session, here.bell, wrong.id, ReadingOptions(header=False))
    tasks.read(here, wrong.id)
    with here.database.reading() as session:
        found = upload_rows.get(session, wrong.id).scan
    assert found and (found.rows, [column.name for column in found.columns]) == (4, ["column 1", "column 2"])


def test_files_whose_columns_differ_are_refused(here: Context) -> None:
    row = upload(here, {"train.csv": CSV, "test.csv": b"text,id\na,1\n"})
    assert row.status == "failed"
    assert row.message.startswith("train.csv has no column 'id', which another file of this upload has")


def test_a_version_whose_ring_was_lost_is_rung_for_again(here: Context, settings: Settings) -> None:
    row = upload(here, {"a.csv": CSV})
    assert row.scan and row.scan.mapping
    wanted = DatasetRequest(name="mine", upload_id=row.id, mapping=row.scan.mapping)
    with here.database.transaction() as session:
        made = datasets.prepare(session, here.bell, wanted)
        made.rung_at = now() - timedelta(seconds=settings.ring_again_seconds + 1)
    here.bell.rung.clear()  # type: ignore[attr-defined]
    with here.database.transaction() as session:
        sweep.sweep(session, here.bell, settings)
    assert here.bell.rung == [(PREPARE, made.id)]  # type: ignore[attr-defined]


def test_bytes_that_are_gone_are_said_and_nothing_is_registered(here: Context) -> None:
    row = upload(here, {"a.csv": CSV})
    here.files.remove(row.parts[0].file)
    made = dataset(here, row)
    assert (made.status, made.file, made.facts_json) == ("failed", "", {})
    assert made.message == "The bytes of a.csv are no longer in the files store. Upload the file again."
    with here.database.reading() as session:
        assert dataset_rows.by_name(session, "mine") is None
        assert dataset_rows.everyone(session) == []


def test_a_worker_repeats_what_a_deadlock_undid(here: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    undone = []
    for module, name in ((ingestion, "begin"), (ingestion, "progress"), (uploads, "read"), (datasets, "prepared")):
        undone.append(UndoneOnce(getattr(module, name)))
        monkeypatch.setattr(module, name, undone[-1])
    row = upload(here, {"a.csv": CSV})
    assert (row.status, row.message) == ("read", "")
    made = dataset(here, row)
    assert (made.status, made.message) == ("ready", "")
    assert all(change.tries >= 2 for change in undone)
    assert here.files.names("datasets") == {made.file}


def test_the_reason_of_a_failure_is_written_after_a_deadlock(here: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingestion, "failed", failed := UndoneOnce(ingestion.failed))
    row = upload(here, {"a.csv": CSV})
    here.files.remove(row.parts[0].file)
    assert dataset(here, row).status == "failed"
    assert failed.tries == 2


def test_a_database_that_is_away_for_a_moment_is_no_failure_of_the_file(
    here: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = upload(here, {"a.csv": CSV})
    with here.database.transaction() as session:
        uploads.read_again(session, here.bell, row.id, ReadingOptions())

    def away(*_: object) -> bool:
        raise OperationalError("UPDATE", {}, Exception("the database is away"))

    monkeypatch.setattr(ingestion, "progress", away)
    tasks.read(here, row.id)
    with here.database.reading() as session:
        assert upload_rows.get(session, row.id).status == "reading"
