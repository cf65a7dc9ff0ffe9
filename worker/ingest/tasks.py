"""Read an upload, and prepare a version of a dataset: claim it, run the ingest process, write the outcome.

Each takes an id and may be called any number of times; the second call finds nothing to claim.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError

from app.domain.data.dataset import DatasetFacts
from app.domain.data.findings import Finding, gravest_first
from app.domain.data.mapping import ColumnMapping
from app.domain.data.uploads import Part, SourceScan
from app.domain.errors import NotFound, VeznaError
from app.services import datasets, uploads
from app.store.queries import uploads as upload_rows
from app.store.rows_file import new_name
from app.store.tables import UploadRow
from worker.ingest.fetch import from_directory, from_hub, kept
from worker.ingest.host import IngestCancelled, IngestFailed, ReportProgress
from worker.training.workdir import workdir

if TYPE_CHECKING:
    from worker.context import Context

log = structlog.get_logger()

LEFT_TO_THE_SWEEP = (IngestCancelled, OperationalError, InterfaceError)
"""The claim has moved on, the worker shuts down, or the database is unreachable: the sweep sends the task again."""


def read(here: "Context", upload_id: int) -> None:
    """Read an upload: find its columns, splits and findings."""
    with here.database.transaction() as session:
        claimed = uploads.begin(session, upload_id)
    if claimed is None:
        return

    def report(share: float, rows: int) -> bool:
        with here.database.transaction() as session:
            return uploads.progress(session, claimed, share, rows)

    try:
        with workdir(here.settings.home) as folder:
            request = _local(here, _fetched(here, claimed, folder, report), folder)
            request["options"] = claimed.options.model_dump()
            found = SourceScan.model_validate(here.ingest.run({"read": request}, report)["scan"])
        with here.database.transaction() as session:
            uploads.read(session, claimed, found)
    except LEFT_TO_THE_SWEEP as error:
        log.warning("upload not read completely", upload_id=upload_id, why=type(error).__name__)
    except Exception as error:
        why = _sentence(error, upload_id=upload_id)
        with here.database.transaction() as session:
            uploads.failed(session, claimed, why)


def prepare(here: "Context", dataset_id: int) -> None:
    """Map, split and check the rows of an upload, and store them as a version of a dataset."""
    with here.database.transaction() as session:
        claimed = datasets.begin(session, dataset_id)
        upload = upload_rows.get(session, claimed.upload_id or 0) if claimed else None
    if claimed is None or upload is None or claimed.mapping is None or claimed.splitting is None:
        return

    def report(share: float, rows: int) -> bool:
        with here.database.transaction() as session:
            return datasets.progress(session, claimed, share)

    try:
        with workdir(here.settings.home) as folder:
            request = _local(here, upload.parts, folder)
            target = folder / "rows.parquet"
            request |= {
                "options": upload.options.model_dump(),
                "mapping": claimed.mapping.model_dump(mode="json"),
                "splitting": claimed.splitting.model_dump(mode="json"),
                "target": str(target),
            }
            answer = here.ingest.run({"prepare": request}, report)
            facts = DatasetFacts.model_validate(answer["facts"]) if answer["facts"] else None
            findings = [Finding.model_validate(finding) for finding in answer["findings"]]
            findings = gravest_first([*findings, *_of_fields(upload.scan, claimed.mapping)])
            file = new_name(facts) if facts else ""
            if file:
                here.files.put(target, file)
            with here.database.transaction() as session:
                if facts is None:
                    noted = datasets.blocked(session, claimed, findings)
                else:
                    noted = datasets.prepared(session, claimed, facts, file, findings)
            if file and not noted:
                here.files.discard(file)
    except LEFT_TO_THE_SWEEP as error:
        log.warning("dataset not prepared completely", dataset_id=dataset_id, why=type(error).__name__)
    except Exception as error:
        why = _sentence(error, dataset_id=dataset_id)
        with here.database.transaction() as session:
            datasets.failed(session, claimed, why)


def _fetched(here: "Context", claimed: UploadRow, folder: Path, report: ReportProgress) -> list[Part]:
    """An upload's files in the store: those already there, or copies of a directory's or hub dataset's present
    files."""
    if claimed.source == "files":
        return claimed.parts

    def unused(parts: list[Part]) -> list[Part]:
        with here.database.reading() as session:
            return uploads.unused(session, parts)

    with kept(here.files, unused) as stored:
        revision = claimed.revision
        if claimed.source == "directory":
            from_directory(here.files, Path(claimed.location), report, stored)
        else:
            asked = {name: getattr(claimed, name) for name in ("source", "location", "config", "revision", "split")}
            revision = from_hub(here.files, here.ingest, asked, folder, report, stored)
        with here.database.transaction() as session:
            noted = uploads.fetched(session, here.files, claimed, stored, revision)
        if noted is None:
            raise IngestCancelled
    return noted


def _of_fields(scan: SourceScan | None, mapping: ColumnMapping) -> list[Finding]:
    """The findings of the scan in the columns that are used."""
    used = set(mapping.columns.values())
    return [finding for finding in scan.findings if finding.column in used] if scan else []


def _sentence(error: Exception, **which: int) -> str:
    if isinstance(error, VeznaError):
        return error.message
    log.error("data not prepared", exc_info=error, **which)
    return f"Vezna could not read this ({type(error).__name__}: {error})."


def _local(here: "Context", parts: Sequence[Part], folder: Path) -> dict[str, object]:
    """An upload's files on this machine, as a request names them: the stored files themselves, or copies."""
    paths = []
    for place, part in enumerate(parts):
        try:
            path = here.files.local(part.file)
            if path is None:
                path = folder / str(place)
                here.files.get(part.file, path)
        except NotFound as error:
            gone = f"The bytes of {part.name} are no longer in the files store: upload them again."
            raise IngestFailed(gone) from error
        paths.append(str(path))
    return {"parts": [part.model_dump() for part in parts], "paths": paths}
