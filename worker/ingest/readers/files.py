"""Opens the files of an upload one after the other, each with the reader of its kind."""

from collections.abc import Callable, Sequence

from app.domain.data.uploads import ReadingOptions
from worker.ingest.readers.batches import LocalPart, Opened, Source
from worker.ingest.readers.delimited import open_delimited
from worker.ingest.readers.image_folder import open_image_folder
from worker.ingest.readers.json_files import open_json, open_lines
from worker.ingest.readers.kinds import kind_of
from worker.ingest.readers.parquet import open_parquet

Progress = Callable[[float, int], None]
"""Receives the share of all bytes read, and the number of rows read."""


class Files:
    """The files of an upload, and the progress over all of them."""

    def __init__(self, parts: Sequence[LocalPart], options: ReadingOptions, progress: Progress) -> None:
        self._parts, self._options, self._progress = parts, options, progress
        self._total = sum(part.part.bytes for part in parts) or 1
        self._bytes, self._rows, self._within = 0, 0, (0, 0)

    def open(self, local: LocalPart) -> Opened:
        """Open a file. Raises `Unreadable`, here or while its batches are read."""
        self._bytes, self._rows = self._bytes + self._within[0], self._rows + self._within[1]
        self._within = (0, 0)
        source = Source(local.part.name, local.path, self._options, self._tick)
        kind = kind_of(local.part.name, local.path)
        match kind:
            case "csv" | "tsv":
                return open_delimited(source, kind)
            case "jsonl":
                return open_lines(source)
            case "json":
                return open_json(source)
            case "parquet":
                return open_parquet(source)
            case "zip":
                return open_image_folder(source)

    def _tick(self, read: int, rows: int) -> None:
        self._within = (read, rows)
        self._progress(min(1.0, (self._bytes + read) / self._total), self._rows + rows)
