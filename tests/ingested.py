"""Uploads and datasets made at once, without a broker: what a worker does when it is rung for, in this process."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.domain.data.mapping import ColumnMapping
from app.domain.data.splitting import Splitting
from app.domain.data.uploads import Part, ReadingOptions, SourceScan
from app.domain.data.versions import DatasetRequest
from app.services import datasets, uploads
from app.settings import Settings
from app.store.files import Files
from app.store.queries import datasets as dataset_rows
from app.store.queries import uploads as upload_rows
from app.store.session import Database
from app.store.tables import DatasetRow, UploadRow
from tests.fakes import SilentBell
from worker.context import Context
from worker.ingest import child, tasks
from worker.ingest.host import IngestFailed, IngestQueue, ReportProgress
from worker.ingest.prepare import Prepared, prepare
from worker.ingest.readers.batches import LocalPart
from worker.ingest.scan import scan


class Here(IngestQueue):
    """Does in this process what is else done in one of its own."""

    def run(
        self, request: Mapping[str, object], told: ReportProgress, *, command: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """As told."""
        told(0.5, 1)
        answer = child.answer(json.loads(json.dumps(request)), child.ProgressWriter(io.StringIO()))
        if "error" in answer:
            raise IngestFailed(answer["error"])
        return answer


def context(settings: Settings, database: Database, files: Files, ingest: IngestQueue | None = None) -> Context:
    """A worker's, without a broker, and unless told otherwise without another process."""
    return Context(settings, database, files, SilentBell(), ingest=ingest or Here())


def upload(here: Context, contents: Mapping[str, bytes], options: ReadingOptions | None = None) -> UploadRow:
    """Files that come and are read; in whichever state that ends."""
    stored = []
    for name, content in contents.items():
        with here.files.receive(1 << 30) as incoming:
            incoming.write(content)
            stored.append((name, incoming.done()))
    with here.database.transaction() as session:
        row = uploads.add_files(session, here.bell, here.files, stored, options or ReadingOptions())
    tasks.read(here, row.id)
    with here.database.reading() as session:
        return upload_rows.get(session, row.id)


def dataset(
    here: Context,
    made_of: UploadRow,
    name: str = "mine",
    mapping: ColumnMapping | None = None,
    splitting: Splitting | None = None,
) -> DatasetRow:
    """A version that is prepared, by the guesses unless told otherwise; in whichever state that ends."""
    found = made_of.scan
    assert found is not None, made_of.message
    asked = mapping or found.mapping
    assert asked is not None, found.reason
    wanted = DatasetRequest(name=name, upload_id=made_of.id, mapping=asked, splitting=splitting or found.splitting)
    with here.database.transaction() as session:
        row = datasets.prepare(session, here.bell, wanted)
    tasks.prepare(here, row.id)
    with here.database.reading() as session:
        return dataset_rows.get(session, row.id)


def local(folder: Path, contents: Mapping[str, bytes]) -> list[LocalPart]:
    """Files on this machine, as parts of an upload; a part's split is what its name is."""
    parts = []
    for place, (name, content) in enumerate(contents.items()):
        path = folder / f"part-{place}"
        path.write_bytes(content)
        split = Path(name).stem if len(contents) > 1 else ""
        parts.append(LocalPart(Part(name=name, sha256="0" * 64, bytes=len(content), split=split, file=path.name), path))
    return parts


def scanned(folder: Path, content: bytes, name: str = "data.csv", **options: object) -> SourceScan:
    """What is found in a file. Raises `worker.ingest.readers.batches.Unreadable`."""
    return scan(local(folder, {name: content}), ReadingOptions.model_validate(options), _nobody)


def prepared(
    folder: Path,
    contents: Mapping[str, bytes] | bytes,
    mapping: ColumnMapping | None = None,
    splitting: Splitting | None = None,
) -> Prepared:
    """What becomes of files, by the guesses unless told otherwise; the rows lie in `rows.parquet`."""
    parts = local(folder, {"data.csv": contents} if isinstance(contents, bytes) else contents)
    found = scan(parts, ReadingOptions(), _nobody)
    asked = mapping or found.mapping
    assert asked is not None, found.reason
    return prepare(parts, ReadingOptions(), asked, splitting or found.splitting, folder / "rows.parquet", _nobody)


def _nobody(share: float, rows: int) -> None:
    """Does not care how far it is."""
