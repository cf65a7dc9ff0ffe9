"""Uploads and datasets, read and prepared at once in this process: no broker, no ingest process."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.domain.data.findings import Finding
from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.splitting import Splitting
from app.domain.data.uploads import Part, ReadingOptions, SourceScan
from app.domain.data.versions import DatasetRequest
from app.services.data import datasets, uploads
from app.settings import Settings
from app.store.data import queries as dataset_rows
from app.store.data import uploads as upload_rows
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.tables import DatasetRow, UploadRow
from tests.support.fakes.fakes import SilentBell
from worker.children.work import ReportProgress, WorkFailed
from worker.ingest import child, tasks
from worker.ingest.child import scan
from worker.ingest.host import IngestQueue
from worker.ingest.prepare import Prepared, prepare
from worker.ingest.readers.batches import LocalPart
from worker.nodes.context import Context


class InProcessIngest(IngestQueue):
    """Reads and prepares in this process instead of a child process."""

    def run(
        self, request: Mapping[str, object], report: ReportProgress, *, command: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Carry out a request of the ingest protocol."""
        report(0.5, 1)
        answer = child.answer(json.loads(json.dumps(request)), child.ProgressWriter(io.StringIO()))
        if "error" in answer:
            raise WorkFailed(answer["error"])
        return answer


def context(settings: Settings, database: Database, files: Files, ingest: IngestQueue | None = None) -> Context:
    """A worker's context without a broker and, by default, without a child process."""
    return Context(settings, database, files, SilentBell(), ingest=ingest or InProcessIngest())


def upload(worker: Context, contents: Mapping[str, bytes], options: ReadingOptions | None = None) -> UploadRow:
    """Upload files and read them; the upload in any end state."""
    stored = []
    for name, content in contents.items():
        with worker.files.receive(1 << 30) as incoming:
            incoming.write(content)
            stored.append((name, incoming.done()))
    with worker.database.transaction() as session:
        row = uploads.add_files(session, worker.bell, worker.files, stored, options or ReadingOptions())
    tasks.read(worker, row.id)
    with worker.database.reading() as session:
        return upload_rows.get(session, row.id)


def dataset(
    worker: Context,
    source: UploadRow,
    name: str = "mine",
    mapping: ColumnMapping | None = None,
    splitting: Splitting | None = None,
) -> DatasetRow:
    """Prepare a version, by default with the guessed mapping and splits; the version in any end state."""
    guessed = source.scan
    assert guessed is not None, source.message
    mapping = mapping or guessed.mapping
    assert mapping is not None, guessed.reason
    splitting = splitting or guessed.splitting
    request = DatasetRequest(name=name, upload_id=source.id, mapping=mapping, splitting=splitting)
    with worker.database.transaction() as session:
        row = datasets.prepare(session, worker.bell, request)
    tasks.prepare(worker, row.id)
    with worker.database.reading() as session:
        return dataset_rows.get(session, row.id)


def local(folder: Path, contents: Mapping[str, bytes]) -> list[LocalPart]:
    """Files on this machine, as parts of an upload; the file's name is the split."""
    parts = []
    for place, (name, content) in enumerate(contents.items()):
        path = folder / f"part-{place}"
        path.write_bytes(content)
        split = Path(name).stem if len(contents) > 1 else ""
        parts.append(LocalPart(Part(name=name, sha256="0" * 64, bytes=len(content), split=split, file=path.name), path))
    return parts


def scanned(folder: Path, content: bytes, name: str = "data.csv", **options: object) -> SourceScan:
    """The scan of a file. Raises `worker.ingest.readers.batches.Unreadable`."""
    return scan(local(folder, {name: content}), ReadingOptions.model_validate(options), ignore_progress)


def prepared(
    folder: Path,
    contents: Mapping[str, bytes] | bytes,
    mapping: ColumnMapping | None = None,
    splitting: Splitting | None = None,
) -> Prepared:
    """Prepare files, by default with the guessed mapping and splits; the rows lie in `rows.parquet`."""
    parts = local(folder, {"data.csv": contents} if isinstance(contents, bytes) else contents)
    guessed = scan(parts, ReadingOptions(), ignore_progress)
    mapping = mapping or guessed.mapping
    assert mapping is not None, guessed.reason
    splitting = splitting or guessed.splitting
    return prepare(parts, ReadingOptions(), mapping, splitting, folder / "rows.parquet", ignore_progress)


def ignore_progress(share: float, rows: int) -> None:
    """A progress callback that does nothing."""


def lines(rows: list[dict[str, Any]]) -> bytes:
    """A file of JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def by_code(findings: list[Finding]) -> dict[str, Finding]:
    """Findings of which no two have the same code."""
    found = {finding.code: finding for finding in findings}
    assert len(found) == len(findings)
    return dict(found)
