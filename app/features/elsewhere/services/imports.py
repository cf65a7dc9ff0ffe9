"""Import results that were measured elsewhere, as runs marked as imported. Each result is imported once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.errors import Invalid
from app.domain.imports.result import ImportedResult, OutsideRun
from app.domain.messages import _
from app.domain.runs.status import RunStatus
from app.domain.validation import Name
from app.features.elsewhere.rules import (
    MOST_AT_ONCE,
    MOST_FILES,
    HashedResult,
    NamedText,
    Refused,
    RefusedFile,
    hash_of,
    read,
    shown_name,
)
from app.services.users import audit
from app.store.database.ownership import require_change
from app.store.runs import evaluations
from app.store.studies import collections
from app.store.tables import CollectionRow, now

DEFAULT_COLLECTION = "imported"
MOST_IMPORT_BYTES = 16 << 20
"""Of one request."""
CollectionName = Annotated[Name, Field(max_length=120)]


@dataclass(frozen=True)
class ReadFiles:
    """The results of some files, and the files that were refused."""

    results: tuple[HashedResult, ...]
    refused: tuple[RefusedFile, ...]


@dataclass(frozen=True)
class ImportReport:
    """The outcome of an import."""

    collection: str | None
    """None where nothing was imported."""
    collection_id: int | None
    added: list[int]
    """New runs."""
    known: list[int]
    """Existing runs with the same results."""
    refused: list[RefusedFile]


def read_files(files: Sequence[NamedText], results: Sequence[ImportedResult] = ()) -> ReadFiles:
    """Read and check every file before anything is written.

    Raises Invalid for no files, too many files, and more results than one transaction may write.
    """
    if not files and not results:
        raise Invalid.field("files", _("No file was sent"), _("Choose at least one file of results"))
    if len(files) > MOST_FILES:
        raise Invalid.field(
            "files",
            _("%(files)s files are too many", files=len(files)),
            _("Send at most %(most)s at once; `vezna import` sends more in batches", most=MOST_FILES),
        )
    hashed = [HashedResult(result, hash_of(result)) for result in results]
    refused: list[RefusedFile] = []
    for place, file in enumerate(files):
        try:
            hashed += read(file)
        except Refused as error:
            refused.append(RefusedFile(shown_name(file.name), place, error.errors))
        if len(hashed) > MOST_AT_ONCE:
            raise Invalid.field(
                "files",
                _("There are more than %(most)s results", most=MOST_AT_ONCE),
                _("Send at most %(most)s at once; `vezna import` sends more in batches", most=MOST_AT_ONCE),
            )
    return ReadFiles(tuple(hashed), tuple(refused))


def add_results(session: Session, files: ReadFiles, collection: str) -> ImportReport:
    """Add results to a collection, each once. A collection is created for at least one result only."""
    if not files.results:
        return ImportReport(None, None, [], [], [*files.refused])
    row = _collection(session, collection)
    run_ids = collections.known(session, row.id, [imported.content_hash for imported in files.results])
    new: dict[str, HashedResult] = {}
    repeated: list[str] = []
    for imported in files.results:
        if imported.content_hash in run_ids or imported.content_hash in new:
            repeated.append(imported.content_hash)
        else:
            new[imported.content_hash] = imported
    added = collections.add(session, row, [_run(imported) for imported in new.values()])
    for content_hash, imported in new.items():
        _store_item_scores(session, row.id, added[content_hash], imported.result)
    run_ids |= added
    audit.record(session, Action.IMPORT_RESULTS, row.id, name=row.name, runs=len(new))
    new_ids, known_ids = [added[h] for h in new], [run_ids[h] for h in repeated]
    return ImportReport(row.name, row.id, new_ids, known_ids, [*files.refused])


def _collection(session: Session, name: str) -> CollectionRow:
    """Locked, so that concurrent imports of the same results add them once. Raises Invalid if another user's private
    collection has the name, and Forbidden if the collection is another user's."""
    row = collections.by_name(session, name, lock=True)
    if row is None:
        try:
            with session.begin_nested():
                session.add(CollectionRow(name=name))
        except IntegrityError:
            pass  # created concurrently, or not visible
        row = collections.by_name(session, name, lock=True)
    if row is None:
        raise Invalid.field(
            "collection", _("The name %(name)r is taken", name=name), _("Choose another name for the collection")
        )
    require_change(session, row)
    if row.declared_json is not None:
        what = _("%(name)r is a study whose runs report their results", name=name)
        raise Invalid.field("collection", what, _("Choose another name for the collection"))
    return row


def _run(imported: HashedResult) -> dict[str, Any]:
    """The columns of a run."""
    result, at = imported.result, now()
    stored = result.model_copy(update={"items": result.n, "item_scores": None, "item_groups": None})
    return {
        "arm": result.label,
        "seed": result.seed,
        "method_kind": result.kind,
        "spec_json": {},
        "imported_json": stored.model_dump(mode="json"),
        "imported_hash": imported.content_hash,
        "status": RunStatus.SUCCEEDED.value,
        "queued_at": at,
        "finished_at": at,
        "metric": result.metric,
        **columns_of(result),
    }


def columns_of(result: OutsideRun) -> dict[str, Any]:
    """The columns of a run that its file or its script states."""
    seconds = result.train_seconds
    return {
        "learning_rate": result.learning_rate,
        "step": _steps(result),
        "train_seconds": seconds,
        "score": result.score,
        "trainable_parameters": result.trainable_parameters,
        "total_parameters": result.total_parameters,
        "peak_bytes": result.peak_bytes,
        "artifact_bytes": result.file_bytes,
        "tokens_per_second": result.tokens / seconds if result.tokens and seconds else None,
        "device_name": result.device,
        "precision": result.precision,
        "libraries": result.libraries[:100] or None,
    }


def _steps(result: OutsideRun) -> int:
    return min(result.steps or 0, 2**31 - 1)


def _store_item_scores(session: Session, collection_id: int, run_id: int, result: ImportedResult) -> None:
    """Store them like those of other runs: the same names in the same order are the same items. Raises Invalid for
    groups that another run of the collection contradicts."""
    if result.item_scores is not None:
        names, step = list(result.item_scores), _steps(result)
        if (grouped := evaluations.contradicting(session, collection_id, names, result.item_groups)) is not None:
            values = {"label": result.label, "run": grouped}
            what = _("The groups of the test items of %(label)s are not those of run %(run)s", **values)
            remedy = _("Give the same item_groups in every result of the collection, or choose another collection")
            raise Invalid.field("item_groups", what, remedy)
        evaluations.add_imported(
            session, run_id, result.metric, result.score, result.item_scores, step, result.item_groups
        )
