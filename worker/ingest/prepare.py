"""From an upload to a dataset: map, split, check and write its rows, in bounded memory."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from app.domain.data.dataset import ROWS, SPLITS, DatasetFacts, Row
from app.domain.data.findings import (
    LONGEST_EXCERPT,
    MOST_EXAMPLES,
    Example,
    Finding,
    FindingCode,
    excerpt,
    gravest_first,
)
from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.item_names import copy_name
from app.domain.data.splitting import LEFT_OUT, TRAIN, Codes, Splitting, assign, drop_duplicates, linked
from app.domain.data.uploads import ReadingOptions
from app.store.files.rows_file import RowsFile
from worker.ingest.findings.labels import LabelTypes, judge_labels
from worker.ingest.findings.near_duplicates import judge_near
from worker.ingest.findings.rows import Judged, judge_pairs, judge_rows, judge_shared
from worker.ingest.findings.tag_schemes import TagScheme
from worker.ingest.images.pixel_count import PixelCount
from worker.ingest.readers.batches import Batch, LocalPart
from worker.ingest.readers.files import Files, Progress
from worker.ingest.rows.columns import shown
from worker.ingest.rows.gathered import Gathered, in_order
from worker.ingest.rows.rows import Draft, Unusable, drafts
from worker.ingest.unread import Unread, unread

_FIRST_PASS = 0.7
"""Share of the work of the first pass, in which tags are read once before."""
MOST_BROKEN = 0.05
"""Share of the rows with B- or I- tags that may be left out because of them: without more, entities would be rarer in
the dataset than in its source, and a mixture with IOB1 has such tags at most entities."""


class Prepared(NamedTuple):
    facts: DatasetFacts | None
    """None where a finding blocks; then no file is written."""
    findings: list[Finding]


def prepare(
    parts: Sequence[LocalPart],
    options: ReadingOptions,
    mapping: ColumnMapping,
    splitting: Splitting,
    target: Path,
    progress: Progress,
) -> Prepared:
    """Write the dataset's file at `target`, unless a finding blocks. Raises Unreadable."""
    unusable, pixels = _UnusableRows([part.part.name for part in parts]), PixelCount()
    tags, group = _tag_scheme(parts, options, mapping, progress), mapping.columns.get("group", "")
    types = LabelTypes(mapping.columns.get("label", ""), mapping.label_names, len(parts) > 1)
    with Gathered(target.with_suffix(".drafts"), mapping.format, grouped=bool(group)) as gathered:
        files = Files(parts, options, lambda share, rows: progress(share * _FIRST_PASS, rows))
        for file, local in enumerate(parts):
            for batch in files.open(local).batches:
                pixels.add(batch, local.part.name)
                types.add(batch.columns.get(mapping.columns.get("label", ""), ()), batch.rows, local.part.name)
                rows = drafts(batch, mapping, tags.scheme if tags else None)
                fields = unread(batch, mapping)
                both = zip(rows, fields, strict=True)
                _take(batch, both, file, local.part.split, splitting, group, gathered, unusable)
    splits = assign(gathered.asks, gathered.labels, splitting, gathered.splits, gathered.groups)
    if splitting.duplicates == "drop":
        splits = drop_duplicates(gathered.asks, splits)
    judged: list[Finding | Judged] = [
        *unusable.findings(len(gathered), _rows_with_entities(gathered)),
        *filter(None, [tags.finding(mapping.columns["tags"])] if tags else []),
        *types.findings(),
        *judge_labels(gathered, splits),
        *judge_rows(gathered, splits),
        *judge_pairs(gathered, splits),
        *judge_shared(gathered, splits),
        *judge_near(gathered, splits),
    ]
    findings = _findings(judged, gathered, splits, [part.part.name for part in parts])
    if any(finding.severity == "blocks" for finding in findings):
        return Prepared(None, findings)
    return Prepared(_write(gathered, splits, target, progress), findings)


def _tag_scheme(
    parts: Sequence[LocalPart], options: ReadingOptions, mapping: ColumnMapping, progress: Progress
) -> TagScheme | None:
    """The scheme of the tags, which all rows decide; None for rows without tags. Its progress is only a heartbeat."""
    if mapping.format != "tagged":
        return None
    column, found = mapping.columns["tags"], TagScheme(len(parts) > 1, mapping.label_names)
    files = Files(parts, options, lambda _share, _rows: progress(0.0, 0))
    for local in parts:
        for batch in files.open(local).batches:
            if not found.add(batch.columns.get(column, ()), batch.rows, local.part.name):
                return found
    return found


def _take(
    batch: Batch,
    rows: Iterable[tuple[Draft | Unusable, Unread | None]],
    file: int,
    split: str,
    splitting: Splitting,
    group: str,
    gathered: Gathered,
    unusable: "_UnusableRows",
) -> None:
    """Add the usable rows of a batch to `gathered`, the others to `unusable`, also those with an unread field. `group`:
    the column of groups, if any."""
    count = len(batch.rows)
    groups = batch.columns.get(group, [""] * count)
    codes = [TRAIN] * count
    if splitting.kind == "predefined":
        places = splitting.of_source()
        names = map(shown, batch.columns.get(splitting.column, [""] * count)) if splitting.column else [split] * count
        codes = [places.get(name, LEFT_OUT) for name in names]
    usable: list[Draft] = []
    numbers: list[int] = []
    assigned: list[int] = []
    grouped: list[str] = []
    for (draft, field_unread), number, code, value in zip(rows, batch.rows, codes, groups, strict=True):
        if code == LEFT_OUT:
            continue
        if field_unread is not None:
            reason: FindingCode = "unsupported-chat" if field_unread.changes_meaning else "unread-chat-fields"
            excerpt_of = draft.excerpt if isinstance(draft, Unusable) else f"{draft.asks} {draft.answers}"
            unusable.add(Unusable(reason, field_unread.field, excerpt_of), file, number)
            if field_unread.changes_meaning:
                continue
        if isinstance(draft, Unusable):
            unusable.add(draft, file, number)
            continue
        usable.append(draft)
        numbers.append(number)
        assigned.append(code)
        grouped.append(shown(value))
    gathered.add(usable, numbers, file, assigned, grouped)


@dataclass
class _Reason:
    """Rows that are unusable for the same reason."""

    count: int = 0
    examples: list[Example] = field(default_factory=list)


class _UnusableRows:
    def __init__(self, files: Sequence[str]) -> None:
        self._files = files
        self._reasons: dict[tuple[FindingCode, str], _Reason] = {}

    def add(self, unusable: Unusable, file: int, number: int) -> None:
        reason = self._reasons.setdefault((unusable.code, unusable.column), _Reason())
        reason.count += 1
        if len(reason.examples) < MOST_EXAMPLES:
            name = self._files[file] if len(self._files) > 1 else ""
            reason.examples.append(Example(row=number, file=name, excerpt=excerpt(unusable.excerpt)))

    def findings(self, usable: int, with_entities: int) -> list[Finding]:
        """One finding per reason; it blocks if more rows have it than are usable, of which `with_entities` have an
        entity. Broken tags block above `MOST_BROKEN`, since all these rows have one; so do unreadable images. What
        changes the meaning of a conversation always blocks; a field that does not never does."""

        def blocks(code: FindingCode, count: int) -> bool:
            if code in ("unsupported-chat", "unread-chat-fields"):
                return code == "unsupported-chat"
            of_rows = {"broken-tags": with_entities, "broken-images": usable}.get(code)
            return count > usable or (of_rows is not None and count > MOST_BROKEN * (count + of_rows))

        return [
            Finding(
                code=code,
                severity="blocks" if blocks(code, reason.count) else "warns",
                count=reason.count,
                column=column,
                examples=reason.examples,
            )
            for (code, column), reason in self._reasons.items()
        ]


def _rows_with_entities(gathered: Gathered) -> int:
    """Usable rows that have a B- or I- tag."""
    if (tags := gathered.tags) is None:
        return 0
    marks = [code for code, name in enumerate(gathered.names) if name.startswith(("B-", "I-"))]
    return len(np.unique(tags.rows[np.isin(tags.codes, marks)]))


def _findings(
    judged: Sequence[Finding | Judged], gathered: Gathered, splits: Codes, files: Sequence[str]
) -> list[Finding]:
    """The findings with their example rows, blocking ones first."""
    places = sorted({place for item in judged if isinstance(item, Judged) for place in item.places})
    names = _Names(gathered, splits)
    texts = dict(gathered.texts(np.array(places, dtype=np.int64), 2 * LONGEST_EXCERPT))

    def example(place: int) -> Example:
        file, number = gathered.where(place)
        split, ask = splits[place], int(gathered.asks[place])
        return Example(
            row=number,
            file=files[file] if len(files) > 1 else "",
            split=SPLITS[split] if split >= 0 else None,
            item="" if split < 0 or names.repeated(ask) else names.name(place, ask),
            excerpt=excerpt(texts[place]),
        )

    return gravest_first(
        [
            item
            if isinstance(item, Finding)
            else item.finding.model_copy(update={"examples": [example(place) for place in item.places]})
            for item in judged
        ]
    )


def _write(gathered: Gathered, splits: Codes, target: Path, progress: Progress) -> DatasetFacts:
    row_type: Any = ROWS[gathered.form]
    names = _Names(gathered, splits)
    labels, places = _labels(gathered, splits)
    with RowsFile(target, gathered.form, labels) as file:
        for start, rows in gathered.batches():
            asks = gathered.asks[start : start + len(rows)].tolist()
            written: list[Row] = [
                row_type(
                    names.name(place, ask),
                    SPLITS[split],
                    *(row if places is None else (row[0], _placed(row[1], places))),
                )
                for place, (ask, split, row) in enumerate(
                    zip(asks, splits[start : start + len(rows)].tolist(), rows, strict=True), start
                )
                if split != LEFT_OUT
            ]
            file.write(written)
            progress(_FIRST_PASS + (1 - _FIRST_PASS) * (start + len(rows)) / len(gathered), len(gathered))
    return file.facts


def _labels(gathered: Gathered, splits: Codes) -> tuple[list[str], dict[int, int] | None]:
    """The labels that occur in the written rows, and their new indices by their old ones; None for rows without labels.
    So the same rows always give the same file."""
    kept = gathered.labels_of(splits != LEFT_OUT)
    if kept is None:
        return [], None
    names, used = gathered.names, np.unique(kept).tolist()
    labels = in_order(names[place] for place in used)
    index = {name: place for place, name in enumerate(labels)}
    return labels, {place: index[names[place]] for place in used}


def _placed(codes: int | list[int], places: dict[int, int]) -> int | list[int]:
    """A row's label, or the tags of its words, by their new indices."""
    return [places[code] for code in codes] if isinstance(codes, list) else places[codes]


class _Names:
    """Names of items: the hash of the input; rows with the same input get names derived from it. Names tell the groups,
    which rows of one split may link; rows of another split do not."""

    def __init__(self, gathered: Gathered, splits: Codes) -> None:
        self._counts = dict.fromkeys(gathered.asks[gathered.again].tolist(), 0)
        self._groups = None if (groups := gathered.groups) is None else np.zeros_like(groups)
        if groups is not None and self._groups is not None:
            for split in range(len(SPLITS)):
                mine = splits == split
                self._groups[mine] = linked(gathered.asks[mine], groups[mine])

    def repeated(self, ask: int) -> bool:
        """Whether several rows have this input, so that only their order distinguishes them."""
        return ask in self._counts

    def name(self, place: int, ask: int) -> str:
        """The name of the row at a place, the next with this input."""
        before = self._counts.get(ask, 0)
        if ask in self._counts:
            self._counts[ask] += 1
        return copy_name(f"{ask:016x}", before, 0 if self._groups is None else int(self._groups[place]))
