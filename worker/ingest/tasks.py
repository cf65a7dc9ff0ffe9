"""Read an upload, and prepare a version of a dataset: claim it, run the ingest process, write the outcome.

Each task takes an id and may run any number of times; a second run finds nothing to claim.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from app.domain.data.dataset import DatasetFacts
from app.domain.data.findings import Finding, gravest_first
from app.domain.data.guesses.guessed_names import split_in_name
from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.uploads import KINDS, MOST_PARTS, READABLE, Part, SourceScan, shown_name
from app.domain.errors import NotFound, OverQuota, VeznaError
from app.domain.messages import _
from app.services.data import datasets, ingestion, uploads
from app.services.hooks import hooks
from app.store.data import uploads as upload_rows
from app.store.files.files import CHUNK, Files, StoreUnavailable
from app.store.files.rows_file import new_name
from app.store.tables import DatasetRow, UploadRow
from worker.children.work import PROGRESS_SECONDS, ReportProgress, WorkCancelled, WorkFailed
from worker.ingest.host import IngestQueue
from worker.ingest.readers.batches import internal_error
from worker.machine import disk
from worker.training.workdir import workdir

if TYPE_CHECKING:
    from worker.nodes.context import Context


Unused = Callable[[list[Part]], list[Part]]
"""Selects the files that no upload refers to."""


@contextmanager
def kept(files: Files, unused: Unused) -> Iterator[list[Part]]:
    """Remove the files stored inside the block if it fails, except those that an upload refers to by then."""
    stored: list[Part] = []
    try:
        yield stored
    except BaseException:
        for part in unused(stored):
            files.discard(part.file)
        raise


def from_directory(files: Files, location: Path, report: ReportProgress, stored: list[Part]) -> None:
    """Store a file, or the files of a directory and its subdirectories. Raises WorkFailed."""
    paths = _readable(location)
    several = len(paths) > 1
    for path in paths:
        split = split_in_name(path.name) or split_in_name(path.parent.name if path.parent != location else "")
        stored.append(_stored(files, path, (split or path.stem) if several else "", report))
    stored.sort(key=lambda part: (part.split, part.name))


def from_hub(
    files: Files, ingest: IngestQueue, request: dict[str, Any], folder: Path, report: ReportProgress, stored: list[Part]
) -> str:
    """Store the splits of a hub dataset, and return the commit. Raises WorkFailed."""
    fetched = ingest.run({"fetch": request | {"folder": str(folder)}}, report)["fetched"]
    several = len(fetched["splits"]) > 1
    for split, path in fetched["splits"].items():
        name = f"{split_in_name(split) or split or 'rows'}.parquet"
        part = _stored(files, Path(path), (split_in_name(split) or split) if several else "", report)
        stored.append(part.model_copy(update={"name": shown_name(name)}))
    stored.sort(key=lambda part: (part.split, part.name))
    return str(fetched["commit"])


def _readable(location: Path) -> list[Path]:
    if location.is_file():
        return [location]
    if not location.is_dir():
        text = _(
            "%(location)s does not exist on this worker. Mount the same directories for web and workers.",
            location=location.name,
        )
        raise WorkFailed(text)
    inside = location.resolve()
    paths = sorted(
        path
        for path in location.rglob("*")
        if path.suffix.lower() in KINDS
        and not any(piece.startswith(".") for piece in path.relative_to(location).parts)
        and path.is_file()
        and path.resolve().is_relative_to(inside)  # no link leads outside the allowed root
    )
    if not paths:
        text = _(
            "%(location)s contains no file that Vezna reads: %(readable)s, by the endings of their names.",
            location=location.name,
            readable=READABLE,
        )
        raise WorkFailed(text)
    if len(paths) > MOST_PARTS:
        text = _(
            "%(location)s contains %(count)s files, and an upload has at most %(limit)s. Join some.",
            location=location.name,
            count=len(paths),
            limit=MOST_PARTS,
        )
        raise WorkFailed(text)
    kinds = {KINDS[path.suffix.lower()] for path in paths}
    if len(kinds) > 1:
        text = _(
            "%(location)s contains files of several kinds (%(kinds)s). Use a directory with one kind.",
            location=location.name,
            kinds=", ".join(sorted(kinds)),
        )
        raise WorkFailed(text)
    return paths


def _stored(files: Files, path: Path, split: str, report: ReportProgress) -> Part:
    next_sign = time.monotonic()
    try:
        with path.open("rb") as source, files.receive(sys.maxsize) as incoming:
            while data := source.read(CHUNK):
                incoming.write(data)
                if (at := time.monotonic()) >= next_sign:
                    next_sign = at + PROGRESS_SECONDS
                    if not report(0.0, 0):
                        raise WorkCancelled
            file = incoming.done()
    except StoreUnavailable:
        raise
    except OSError as error:
        if disk.is_full(error):  # that of the files store
            raise
        raise WorkFailed(_("%(path)s cannot be read: %(why)s.", path=path.name, why=error.strerror)) from error
    if not file.bytes:
        raise WorkFailed(_("%(path)s is empty.", path=path.name))
    return Part(name=shown_name(path.name), sha256=file.sha256, bytes=file.bytes, split=split, file=file.file)


log = structlog.get_logger()

LEFT_TO_THE_SWEEP = (WorkCancelled, OperationalError, InterfaceError, StoreUnavailable)
"""The claim has moved on, the worker shuts down, or the database or the files store is unreachable: the sweep sends the
task again."""


def read(context: "Context", upload_id: int) -> None:
    """Read an upload: find its columns, splits and findings."""
    write = context.database.write
    claimed = write(lambda session: ingestion.begin(session, UploadRow, upload_id))
    if claimed is None:
        return

    def report(share: float, rows: int) -> bool:
        return write(lambda session: ingestion.progress(session, claimed, share, rows))

    try:
        with workdir(context.settings.home) as folder:
            request = _local(context, _fetched(context, claimed, folder, report), folder)
            request["options"] = claimed.options.model_dump()
            scan = SourceScan.model_validate(context.ingest.run({"read": request}, report)["scan"])
        write(lambda session: uploads.read(session, claimed, scan))
    except LEFT_TO_THE_SWEEP as error:
        log.warning("upload not read completely", upload_id=upload_id, why=type(error).__name__)
    except Exception as error:
        why = _sentence(context, error, upload_id=upload_id)
        write(lambda session: ingestion.failed(session, claimed, why))
    _go_on(context)


def prepare(context: "Context", dataset_id: int) -> None:
    """Map, split and check the rows of an upload, and store them as a version of a dataset."""
    write = context.database.write
    claimed, upload = write(partial(_begin_preparing, dataset_id=dataset_id))
    if claimed is None or upload is None or claimed.mapping is None or claimed.splitting is None:
        return

    def report(share: float, rows: int) -> bool:
        return write(lambda session: ingestion.progress(session, claimed, share, rows))

    try:
        with workdir(context.settings.home) as folder:
            request = _local(context, upload.parts, folder)
            target = folder / "rows.parquet"
            request |= {
                "options": upload.options.model_dump(),
                "mapping": claimed.mapping.model_dump(mode="json"),
                "splitting": claimed.splitting.model_dump(mode="json"),
                "target": str(target),
            }
            answer = context.ingest.run({"prepare": request}, report)
            facts = DatasetFacts.model_validate(answer["facts"]) if answer["facts"] else None
            findings = [Finding.model_validate(finding) for finding in answer["findings"]]
            findings = gravest_first([*findings, *_of_fields(upload.scan, claimed.mapping)])
            file = new_name(facts) if facts else ""
            if file:
                context.files.put(target, file)
            if facts is None:
                noted = write(lambda session: datasets.blocked(session, claimed, findings))
            else:
                size = target.stat().st_size
                try:
                    noted = write(lambda session: datasets.prepared(session, claimed, facts, file, size, findings))
                except OverQuota:
                    context.files.discard(file)
                    raise
            if file and not noted:
                context.files.discard(file)
    except LEFT_TO_THE_SWEEP as error:
        log.warning("dataset not prepared completely", dataset_id=dataset_id, why=type(error).__name__)
    except Exception as error:
        why = _sentence(context, error, dataset_id=dataset_id)
        write(lambda session: ingestion.failed(session, claimed, why))
    _go_on(context)


def _go_on(context: "Context") -> None:
    """Something may have waited for this."""
    try:
        for hook in hooks():
            hook.go_on(context.database, context.bell, context.settings)
    except LEFT_TO_THE_SWEEP as error:
        log.warning("what waits for data is left to the sweep", why=type(error).__name__)


def _begin_preparing(session: Session, dataset_id: int) -> tuple[DatasetRow | None, UploadRow | None]:
    claimed = ingestion.begin(session, DatasetRow, dataset_id)
    return claimed, upload_rows.get(session, claimed.upload_id or 0) if claimed else None


def _fetched(context: "Context", claimed: UploadRow, folder: Path, report: ReportProgress) -> list[Part]:
    """The stored files of an upload; those of a directory or a hub dataset are copied into the store first."""
    if claimed.source == "files":
        return claimed.parts

    def unused(parts: list[Part]) -> list[Part]:
        with context.database.reading() as session:
            return uploads.unused(session, parts)

    with kept(context.files, unused) as stored:
        revision = claimed.revision
        if claimed.source == "directory":
            from_directory(context.files, Path(claimed.location), report, stored)
        else:
            request = {name: getattr(claimed, name) for name in ("source", "location", "config", "revision", "split")}
            request["hub"] = hub.model_dump() if (hub := context.hub_access(claimed.owner_id)) else None
            revision = from_hub(context.files, context.ingest, request, folder, report, stored)
        noted = context.database.write(
            lambda session: uploads.fetched(session, context.files, claimed, stored, revision)
        )
        if noted is None:
            raise WorkCancelled
    return noted


def _of_fields(scan: SourceScan | None, mapping: ColumnMapping) -> list[Finding]:
    """The scan's findings in the columns of the mapping."""
    used = set(mapping.columns.values())
    return [finding for finding in scan.findings if finding.column in used] if scan else []


def _sentence(context: "Context", error: Exception, **which: int) -> str:
    if disk.is_full(error):
        return disk.full(context.files.directory or context.settings.home, remedy=disk.READ_AGAIN).message
    if isinstance(error, VeznaError):
        return error.message
    log.error("data not prepared", exc_info=error, **which)
    return internal_error(error)


def _local(context: "Context", parts: Sequence[Part], folder: Path) -> dict[str, object]:
    """The local paths of an upload's files, as a request names them: of the stored files themselves, or of copies."""
    paths = []
    for place, part in enumerate(parts):
        try:
            path = context.files.local(part.file)
            if path is None:
                path = folder / str(place)
                context.files.get(part.file, path)
        except NotFound as error:
            text = _("The bytes of %(name)s are no longer in the files store. Upload the file again.", name=part.name)
            raise WorkFailed(text) from error
        paths.append(str(path))
    return {"parts": [part.model_dump() for part in parts], "paths": paths}
