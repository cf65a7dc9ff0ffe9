"""The first pass over an upload: columns, splits, guesses, and findings about single fields."""

from collections.abc import Sequence

from app.domain.data.guesses.guessed_names import guess_splitting
from app.domain.data.guesses.guesses import guess_mapping
from app.domain.data.uploads import ReadingOptions, SourceScan
from app.domain.messages import _
from worker.ingest.findings.oddities import Oddities
from worker.ingest.findings.skipped import skipped_files
from worker.ingest.findings.tag_schemes import TagScheme
from worker.ingest.images.pixel_count import PixelCount
from worker.ingest.readers.batches import LocalPart, Opened, Unreadable, check_columns
from worker.ingest.readers.files import Files, Progress
from worker.ingest.rows.columns import ColumnScan


def scan(parts: Sequence[LocalPart], options: ReadingOptions, progress: Progress) -> SourceScan:
    """Read every row once. Raises Unreadable with a message that names file and row."""
    files = Files(parts, options, progress)
    columns: dict[str, ColumnScan] = {}
    splits: dict[str, int] = {}
    several, tags = len(parts) > 1, dict[str, TagScheme]()
    oddities, pixels = Oddities(several), PixelCount()
    skipped: dict[str, Sequence[str]] = {}
    rows = 0
    first: Opened | None = None
    for local in parts:
        opened = files.open(local)
        skipped[local.part.name] = opened.skipped
        guessed = opened.encoding if opened.guessed_encoding else ""
        part_rows, names = 0, set[str]()
        for batch in opened.batches:
            pixels.add(batch, local.part.name)
            for name, values in batch.columns.items():
                if name not in columns:
                    columns[name] = ColumnScan(name)
                    columns[name].absent(rows)
                columns[name].add(values)
                tags.setdefault(name, TagScheme(several)).add(values, batch.rows, local.part.name)
            for name, column in columns.items():
                if name not in batch.columns:
                    column.absent(len(batch.rows))
            oddities.add(batch, local.part.name, guessed)
            names |= set(batch.columns)
            part_rows += len(batch.rows)
            rows += len(batch.rows)
        if not part_rows:
            raise Unreadable(_("%(name)s has no rows.", name=local.part.name))
        _same_columns(parts[0].part.name, list(columns), local.part.name, names)
        splits[local.part.split] = splits.get(local.part.split, 0) + part_rows
        first = first or opened
    assert first is not None  # noqa: S101 an upload has at least one file
    check_columns(parts[0].part.name, list(columns))
    scanned = [column.column for column in columns.values()]
    mapping, reason = guess_mapping(scanned, rows)
    tag_column = mapping.columns["tags"] if mapping is not None and mapping.format == "tagged" else ""
    converted = [tags[tag_column].finding(tag_column)] if tag_column else []
    return SourceScan(
        kind=first.kind,
        encoding=first.encoding,
        delimiter=first.delimiter,
        header=first.header,
        rows=rows,
        splits=splits,
        columns=scanned,
        mapping=mapping,
        reason=reason,
        splitting=guess_splitting(list(splits), scanned),
        findings=[*oddities.findings(), *skipped_files(skipped, several=several), *filter(None, converted)],
    )


def _same_columns(first: str, columns: Sequence[str], name: str, names: set[str]) -> None:
    lacking = [column for column in columns if column not in names]
    if lacking and first != name:
        text = _(
            "%(name)s has no column %(column)r, which another file of this upload has; its own are %(columns)s. Upload "
            "files with the same columns.",
            name=name,
            column=lacking[0],
            columns=", ".join(sorted(names))[:200],
        )
        raise Unreadable(text)
