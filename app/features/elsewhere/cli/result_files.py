"""Result files for `vezna import`, read here and sent in batches that fit a request."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.cli.client import Client
from app.domain.errors import FieldError, Invalid
from app.domain.messages import Message
from app.features.elsewhere.rules import MOST_AT_ONCE, MOST_FILE_BYTES, results_in
from app.words.i18n import gettext as _
from app.words.i18n import ngettext

BATCH_FILES = 200
BATCH_BYTES = 8 << 20
"""Of one request; the server accepts twice as much."""


@dataclass(frozen=True)
class ResultFile:
    """A file and its text."""

    path: Path
    text: str


def result_files(paths: Sequence[Path]) -> list[Path]:
    """The given files, and every .json file below the given directories, in order. Raises Invalid."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*.json") if p.is_file())
            if not inside:
                raise Invalid(_("%(path)s contains no .json file. Name the files, or another directory.", path=path))
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise Invalid(_("%(path)s does not exist. Name a file or a directory of results.", path=path))
    return list(dict.fromkeys(files))


def batches(files: Sequence[Path]) -> Iterator[list[ResultFile]]:
    """The files with their text, in batches. Files that are not text are sent too, so that the server refuses them."""
    batch: list[ResultFile] = []
    size = results = 0
    for path in files:
        text = _text(path)
        count = results_in(text)
        if batch and (len(batch) >= BATCH_FILES or size + len(text) > BATCH_BYTES or results + count > MOST_AT_ONCE):
            yield batch
            batch, size, results = [], 0, 0
        batch.append(ResultFile(path, text))
        size += len(text)
        results += count
    if batch:
        yield batch


def _text(path: Path) -> str:
    """A file's text; of a file that is too long, as much as the server needs to refuse it."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_FILE_BYTES + 1).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise Invalid(_("%(path)s cannot be read: %(why)s", path=path, why=error.strerror)) from error


@dataclass
class Total:
    """The reports of all batches, added up."""

    collection: str
    collection_id: int | None = None
    added: list[int] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    """`file`, with its local path, and `errors`."""

    def send(self, client: Client, batch: Sequence[ResultFile]) -> None:
        """Send a batch and add its report."""
        body = {"collection": self.collection, "files": [{"name": f.path.name, "text": f.text} for f in batch]}
        answer = client.post("/imports", body)
        self.collection_id = answer["collection_id"] or self.collection_id
        self.added += answer["added"]
        self.known += answer["known"]
        self.refused += [
            {"file": str(batch[refused["place"]].path), "errors": refused["errors"]} for refused in answer["refused"]
        ]

    @property
    def as_json(self) -> dict[str, Any]:
        return {
            "collection": self.collection,
            "collection_id": self.collection_id,
            "added": self.added,
            "known": self.known,
            "refused": self.refused,
        }

    def lines(self, url: str) -> Iterator[str]:
        """As lines of text."""
        for refused_file in self.refused:
            yield _("%(file)s: the file was rejected", file=refused_file["file"])
            for error in refused_file["errors"]:
                shown = FieldError(error["path"], Message(error["message"]), Message(error["remedy"]))
                yield f"  {shown.located}"
        parts = [
            ngettext(
                "%(num)s result imported into %(collection)s",
                "%(num)s results imported into %(collection)s",
                len(self.added),
                collection=self.collection,
            )
        ]
        if self.known:
            parts.append(_("%(count)s already imported", count=len(self.known)))
        if self.refused:
            parts.append(ngettext("%(num)s file refused", "%(num)s files refused", len(self.refused)))
        yield f"{', '.join(parts)}."
        if self.collection_id is not None:
            page = f"{url}/compare?collection={self.collection_id}&sort=-score"
            yield _("Compare them: %(url)s", url=page)
