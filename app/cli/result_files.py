"""Files of results on this machine, read for `vezna import` and sent in parts that a request can hold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.cli.client import Client
from app.domain.errors import FieldError, Invalid
from app.domain.imports.files import MOST_AT_ONCE, MOST_FILE_BYTES, results_in
from app.domain.messages import Message

PART_FILES = 200
PART_BYTES = 8 << 20
"""Of one request; the server takes twice as much."""


@dataclass(frozen=True)
class ResultFile:
    """A file and its text."""

    path: Path
    text: str


def found(paths: Sequence[Path]) -> list[Path]:
    """The files that are named, and every .json file below directories that are, in order. Raises Invalid."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*.json") if p.is_file())
            if not inside:
                raise Invalid(f"{path} contains no .json file. Name the files, or another directory.")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise Invalid(f"{path} does not exist. Name a file or a directory of results.")
    return list(dict.fromkeys(files))


def parts(files: Sequence[Path]) -> Iterator[list[ResultFile]]:
    """The files with their text, in parts. What is no text is sent as it looks, and the server refuses it."""
    part: list[ResultFile] = []
    size = results = 0
    for path in files:
        text = _text(path)
        its = results_in(text)
        if part and (len(part) >= PART_FILES or size + len(text) > PART_BYTES or results + its > MOST_AT_ONCE):
            yield part
            part, size, results = [], 0, 0
        part.append(ResultFile(path, text))
        size += len(text)
        results += its
    if part:
        yield part


def _text(path: Path) -> str:
    """A file's text; of one that is too long, so much that the server says so."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_FILE_BYTES + 1).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from error


@dataclass
class Total:
    """What became of all files, over the parts in which they were sent."""

    collection: str
    collection_id: int | None = None
    added: list[int] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    """`file` as it is called here, and its `errors`."""

    def send(self, client: Client, part: Sequence[ResultFile]) -> None:
        """Send a part, and add what became of it."""
        body = {"collection": self.collection, "files": [{"name": f.path.name, "text": f.text} for f in part]}
        answer = client.post("/imports", body)
        self.collection_id = answer["collection_id"] or self.collection_id
        self.added += answer["added"]
        self.known += answer["known"]
        self.refused += [{"file": str(part[one["place"]].path), "errors": one["errors"]} for one in answer["refused"]]

    @property
    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "collection": self.collection,
            "collection_id": self.collection_id,
            "added": self.added,
            "known": self.known,
            "refused": self.refused,
        }

    def lines(self, url: str) -> Iterator[str]:
        """For people."""
        for one in self.refused:
            yield f"{one['file']}: the file was rejected"
            for error in one["errors"]:
                shown = FieldError(error["path"], Message(error["message"]), Message(error["remedy"]))
                yield f"  {shown.located}"
        were = f", {len(self.known)} there already" if self.known else ""
        refused = f", {_counted(len(self.refused), 'file')} refused" if self.refused else ""
        yield f"{_counted(len(self.added), 'result')} imported into {self.collection}{were}{refused}."
        if self.collection_id is not None:
            yield f"Look at them: {url}/compare?collection={self.collection_id}&sort=-score"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
