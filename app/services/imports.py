"""Bring results from elsewhere in, as runs that are marked as imported. What is there already is not added again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.domain.errors import Invalid
from app.domain.imports.files import MOST_AT_ONCE, MOST_FILES, NamedText, Read, Refused, hash_of, read
from app.domain.imports.result import ImportedResult
from app.domain.messages import _
from app.domain.runs.status import RunStatus
from app.store.queries import collections, evaluations
from app.store.tables import CollectionRow, now

DEFAULT_COLLECTION = "imported"


@dataclass
class Imported:
    """What became of some files."""

    collection: CollectionRow | None
    """None where no file could be taken, so that there is none."""
    added: list[int] = field(default_factory=list)
    """The new runs."""
    known: list[int] = field(default_factory=list)
    """Runs that were there already, of files brought again."""
    refused: list[Refused] = field(default_factory=list)
    """Files of which nothing was taken."""


@dataclass(frozen=True)
class Sorted:
    """Files that were looked at: what can be taken of them, and what cannot."""

    taken: tuple[Read, ...]
    refused: tuple[Refused, ...]


def look_at(files: Sequence[NamedText], results: Sequence[ImportedResult] = ()) -> Sorted:
    """Read every file, before anything is written: a file is taken whole or refused with its sentences.

    Raises Invalid where there are no files or too many, or more results than one transaction shall write.
    """
    if not files and not results:
        raise Invalid.field("files", _("No file was sent"), _("Choose at least one file of results"))
    if len(files) > MOST_FILES:
        raise Invalid.field(
            "files",
            _("%(files)s files are too many", files=len(files)),
            _("Send at most %(most)s at once; `vezna import` sends more in batches", most=MOST_FILES),
        )
    taken = [Read(result, hash_of(result)) for result in results]
    refused: list[Refused] = []
    for place, file in enumerate(files):
        try:
            taken += read(file)
        except Refused as error:
            error.place = place
            refused.append(error)
        if len(taken) > MOST_AT_ONCE:
            raise Invalid.field(
                "files",
                _("There are more than %(most)s results", most=MOST_AT_ONCE),
                _("Send at most %(most)s at once; `vezna import` sends more in batches", most=MOST_AT_ONCE),
            )
    return Sorted(tuple(taken), tuple(refused))


def bring_in(session: Session, files: Sorted, collection: str) -> Imported:
    """Put what can be taken into a collection, each result once. Where nothing can be taken there is no collection."""
    if not files.taken:
        return Imported(None, refused=list(files.refused))
    row = _collection(session, collection)
    there = collections.known(session, row.id, [one.content_hash for one in files.taken])
    new: dict[str, Read] = {}
    again: list[str] = []
    for one in files.taken:
        if one.content_hash in there or one.content_hash in new:
            again.append(one.content_hash)
        else:
            new[one.content_hash] = one
    added = collections.add(session, row, [_run(one) for one in new.values()])
    for content, one in new.items():
        _keep_scores(session, added[content], one.result)
    there |= added
    return Imported(row, [added[content] for content in new], [there[content] for content in again], [*files.refused])


def _collection(session: Session, name: str) -> CollectionRow:
    """Locked, so that two that bring the same results at once add them once."""
    row = collections.by_name(session, name, lock=True)
    if row is None:
        try:
            with session.begin_nested():
                session.add(CollectionRow(name=name))
        except IntegrityError:
            pass  # another has just made it
        row = collections.by_name(session, name, lock=True)
    assert row is not None  # noqa: S101
    return row


def _run(one: Read) -> dict[str, Any]:
    """A run's columns."""
    result, at = one.result, now()
    kept = result.model_copy(update={"items": result.n, "item_scores": None})
    seconds = result.train_seconds
    return {
        "arm": result.label,
        "seed": result.seed,
        "method_kind": result.kind,
        "learning_rate": result.learning_rate,
        "spec_json": {},
        "imported_json": kept.model_dump(mode="json"),
        "imported_hash": one.content_hash,
        "status": RunStatus.SUCCEEDED.value,
        "queued_at": at,
        "finished_at": at,
        "step": _steps(result),
        "train_seconds": seconds,
        "metric": result.metric,
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


def _steps(result: ImportedResult) -> int:
    return min(result.steps or 0, 2**31 - 1)


def _keep_scores(session: Session, run_id: int, result: ImportedResult) -> None:
    """The items' scores, as those of our own runs are kept: equal names in one order are the same items."""
    if result.item_scores is not None:
        step = _steps(result)
        evaluations.add_imported(session, run_id, result.metric, result.score, result.item_scores, step)
