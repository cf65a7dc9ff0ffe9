"""From an upload to a dataset: map, split, check and write its rows, in bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from app.domain.data.dataset import ROWS, SPLITS, DatasetFacts, Row, item_name
from app.domain.data.findings import (
    LONGEST_EXCERPT,
    MOST_EXAMPLES,
    Example,
    Finding,
    FindingCode,
    excerpt,
    gravest_first,
)
from app.domain.data.mapping import ColumnMapping
from app.domain.data.splitting import LEFT_OUT, TRAIN, Codes, Splitting, assign, drop_duplicates
from app.domain.data.uploads import ReadingOptions
from app.store.rows_file import RowsFile
from worker.ingest.columns import shown
from worker.ingest.findings.labels import judge_labels
from worker.ingest.findings.near_duplicates import judge_near
from worker.ingest.findings.rows import Judged, judge_rows
from worker.ingest.gathered import Gathered, in_order
from worker.ingest.readers.batches import Batch, LocalPart
from worker.ingest.readers.files import Files, Progress
from worker.ingest.rows import Draft, Unusable, drafts

_FIRST_PASS = 0.7
"""Share of the work."""


class Prepared(NamedTuple):
    """What came of it."""

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
    """Write the dataset's file at `target`, unless a finding blocks. Raises Unreadable with a sentence."""
    left = _LeftOut([part.part.name for part in parts])
    with Gathered(target.with_suffix(".drafts"), mapping.format) as gathered:
        files = Files(parts, options, lambda share, rows: progress(share * _FIRST_PASS, rows))
        for file, local in enumerate(parts):
            for batch in files.open(local).batches:
                _take(batch, file, local.part.split, mapping, splitting, gathered, left)
    splits = assign(gathered.asks, gathered.labels, splitting, gathered.given)
    if splitting.duplicates == "drop":
        splits = drop_duplicates(gathered.asks, splits)
    judged: list[Finding | Judged] = [
        *left.findings(len(gathered)),
        *judge_labels(gathered, splits),
        *judge_rows(gathered, splits),
        *judge_near(gathered, splits),
    ]
    findings = _findings(judged, gathered, splits, [part.part.name for part in parts])
    if any(finding.severity == "blocks" for finding in findings):
        return Prepared(None, findings)
    return Prepared(_write(gathered, splits, target, progress), findings)


def _take(
    batch: Batch,
    file: int,
    split: str,
    mapping: ColumnMapping,
    splitting: Splitting,
    gathered: Gathered,
    left: "_LeftOut",
) -> None:
    """A batch's rows: those that are of use, those that are not."""
    count = len(batch.rows)
    given = [TRAIN] * count
    if splitting.kind == "predefined":
        places = splitting.of_source()
        names = map(shown, batch.columns.get(splitting.column, [""] * count)) if splitting.column else [split] * count
        given = [places.get(name, LEFT_OUT) for name in names]
    kept: list[Draft] = []
    numbers: list[int] = []
    whose: list[int] = []
    for draft, number, code in zip(drafts(batch, mapping), batch.rows, given, strict=True):
        if code == LEFT_OUT:
            continue
        if isinstance(draft, Unusable):
            left.add(draft, file, number)
            continue
        kept.append(draft)
        numbers.append(number)
        whose.append(code)
    gathered.add(kept, numbers, file, whose)


@dataclass
class _Kind:
    """Rows with one thing wrong."""

    count: int = 0
    examples: list[Example] = field(default_factory=list)


class _LeftOut:
    """Unusable rows."""

    def __init__(self, files: Sequence[str]) -> None:
        self._files = files
        self._found: dict[tuple[FindingCode, str], _Kind] = {}

    def add(self, unusable: Unusable, file: int, number: int) -> None:
        """Add one."""
        found = self._found.setdefault((unusable.code, unusable.column), _Kind())
        found.count += 1
        if len(found.examples) < MOST_EXAMPLES:
            name = self._files[file] if len(self._files) > 1 else ""
            found.examples.append(Example(row=number, file=name, excerpt=excerpt(unusable.excerpt)))

    def findings(self, kept: int) -> list[Finding]:
        """One finding per reason; it blocks if it concerns most rows."""
        return [
            Finding(
                code=code,
                severity="blocks" if kind.count > kept else "warns",
                count=kind.count,
                column=column,
                examples=kind.examples,
            )
            for (code, column), kind in self._found.items()
        ]


def _findings(
    judged: Sequence[Finding | Judged], gathered: Gathered, splits: Codes, files: Sequence[str]
) -> list[Finding]:
    """With example rows, blocking ones first."""
    places = sorted({place for one in judged if isinstance(one, Judged) for place in one.places})
    names = _Names(gathered)
    texts = dict(gathered.texts(np.array(places, dtype=np.int64), 2 * LONGEST_EXCERPT))

    def example(place: int) -> Example:
        file, number = gathered.where(place)
        split, ask = splits[place], int(gathered.asks[place])
        return Example(
            row=number,
            file=files[file] if len(files) > 1 else "",
            split=SPLITS[split] if split >= 0 else None,
            item="" if split < 0 or names.repeated(ask) else names.name(ask),
            excerpt=excerpt(texts[place]),
        )

    found = [
        one
        if isinstance(one, Finding)
        else one.finding.model_copy(update={"examples": [example(place) for place in one.places]})
        for one in judged
    ]
    return gravest_first(found)


def _write(gathered: Gathered, splits: Codes, target: Path, progress: Progress) -> DatasetFacts:
    row_type: Any = ROWS[gathered.form]
    names = _Names(gathered)
    labels, places = _labels(gathered, splits)
    with RowsFile(target, gathered.form, labels) as file:
        for start, rows in gathered.batches():
            here = gathered.asks[start : start + len(rows)].tolist()
            made: list[Row] = [
                row_type(names.name(ask), SPLITS[split], *(row if places is None else (row[0], places[row[1]])))
                for ask, split, row in zip(here, splits[start : start + len(rows)].tolist(), rows, strict=True)
                if split != LEFT_OUT
            ]
            file.write(made)
            progress(_FIRST_PASS + (1 - _FIRST_PASS) * (start + len(rows)) / len(gathered), len(gathered))
    return file.facts


def _labels(gathered: Gathered, splits: Codes) -> tuple[list[str], dict[int, int] | None]:
    """Labels of the rows that are kept, and their places among them by their places among all; None of rows that have
    no label. Rows decide their labels: where the same rows are kept, the file is the same."""
    if gathered.labels is None:
        return [], None
    names, used = gathered.names, np.unique(gathered.labels[splits != LEFT_OUT]).tolist()
    kept = in_order(names[place] for place in used)
    now_at = {name: place for place, name in enumerate(kept)}
    return kept, {place: now_at[names[place]] for place in used}


class _Names:
    """Names of items: the hash of what is asked; what is asked again gets names that follow from it."""

    def __init__(self, gathered: Gathered) -> None:
        self._seen = dict.fromkeys(gathered.asks[gathered.again].tolist(), 0)

    def repeated(self, ask: int) -> bool:
        """Whether several rows have this input, so that only their order distinguishes them."""
        return ask in self._seen

    def name(self, ask: int) -> str:
        """The next row's."""
        before = self._seen.get(ask, 0)
        if ask in self._seen:
            self._seen[ask] += 1
        return f"{ask:016x}" if not before else item_name(f"{ask:016x}\x1f{before}")
