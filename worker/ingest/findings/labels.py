"""Findings about labels, or tags of words: too few or too many, similar, rare, missing from a split, contradictory."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain.data.findings import MOST_EXAMPLES, MOST_NAMED, Details, DifferBy, Example, Finding, Severity, excerpt
from app.domain.data.guesses.mapping import MOST_LABELS
from app.domain.data.splitting import TEST, TRAIN, Codes
from app.domain.data.tagging import other_scheme
from worker.ingest.findings.oddities import CONTROL
from worker.ingest.findings.rows import LEAST_ROWS, Judged, Places, judged
from worker.ingest.readers.batches import Value
from worker.ingest.rows.columns import not_finite, shown
from worker.ingest.rows.gathered import Gathered


class LabelTypes:
    """Collects the labels of a column with their types."""

    def __init__(self, column: str, label_names: Mapping[str, str], several_files: bool) -> None:
        self._column, self._names, self._several = column, label_names, several_files
        self._variants: dict[str, dict[type, Example]] = {}

    def add(self, values: Sequence[Value], rows: Sequence[int], file: str) -> None:
        """Take the values of a batch into account, unless there are more labels than a dataset may have."""
        for value, row in zip(values, rows, strict=False):
            if isinstance(value, str | int | float) and not not_finite(value) and len(self._variants) <= MOST_LABELS:
                kinds = self._variants.setdefault(shown(value), {})
                if type(value) not in kinds:
                    name, written = file if self._several else "", json.dumps(value, ensure_ascii=False)
                    kinds[type(value)] = Example(row=row, file=name, excerpt=excerpt(written))

    def findings(self) -> Iterator[Finding]:
        """One finding, unless the mapping names these labels."""
        merged = [
            list(kinds.values()) for text, kinds in self._variants.items() if len(kinds) > 1 and text not in self._names
        ]
        if merged:
            variants = [example for group in merged for example in group]
            yield Finding(
                code="labels-alike",
                severity="warns",
                count=len(variants),
                column=self._column,
                details=Details(
                    alike=[[example.excerpt for example in group] for group in merged[:MOST_NAMED]],
                    differ_by="type",
                ),
                examples=variants[:MOST_EXAMPLES],
            )


UNEVEN = 20
"""How many times more often the most frequent label occurs than the rarest."""


class _Rows(NamedTuple):
    """Labels and splits of all rows, [n] each; of tagged rows each tag once, with the place of its row."""

    labels: NDArray[np.int32]
    splits: Codes
    at: Places | None = None

    @classmethod
    def of(cls, gathered: Gathered, splits: Codes) -> "_Rows | None":
        """None for rows without labels."""
        if (tags := gathered.tags) is None:
            return None if gathered.labels is None else cls(gathered.labels, splits)
        different = len(gathered.names) or 1
        rows, codes = np.divmod(np.unique(tags.rows * different + tags.codes), different)
        return cls(codes.astype(np.int32), splits[rows], rows)

    def first(self, which: Places) -> Places:
        """The first row of each of some labels."""
        used = np.flatnonzero(self.splits >= 0)
        labels, first = np.unique(self.labels[used], return_index=True)
        places: Places = np.sort(used[first[np.isin(labels, which)]])
        return places if self.at is None else self.at[places]


def judge_labels(gathered: Gathered, splits: Codes) -> Iterator[Judged]:
    """The findings of labelled rows, or of the tags of words."""
    rows, names = _Rows.of(gathered, splits), gathered.names
    if rows is None or np.count_nonzero(splits >= 0) < LEAST_ROWS:
        return
    counts = np.bincount(rows.labels[rows.splits >= 0], minlength=len(names))
    used = np.flatnonzero(counts)
    if len(used) < 2:
        yield judged("one-class", "blocks", len(used), details=_named(names, used))
        return
    if len(used) > MOST_LABELS:
        yield judged("too-many-labels", "blocks", len(used), rows.first(used), Details(limit=MOST_LABELS))
        return
    yield from _unprintable(names, rows, used)
    yield from _alike(names, rows, used)
    answers = rows.labels if rows.at is None else np.unique(gathered.same, return_inverse=True)[1]
    yield from _contradictions(gathered.asks, answers, gathered.again[splits[gathered.again] >= 0])
    once = used[counts[used] == 1]
    if len(once):
        yield judged("label-once", "warns", len(once), rows.first(once), _named(names, once))
    yield from _by_split(names, rows, used[counts[used] > 1])
    if rows.at is None:
        yield from _imbalance(names, counts, used)
    else:
        yield from _schemes(names, rows, used)


def _unprintable(names: Sequence[str], rows: _Rows, used: Places) -> Iterator[Judged]:
    """Labels with control characters: pages show labels as names."""
    odd = np.array([label for label in used if CONTROL.search(names[label])], dtype=np.int64)
    if len(odd):
        yield judged("control-characters", "blocks", len(odd), rows.first(odd), _named(names, odd))


def _alike(names: Sequence[str], rows: _Rows, used: Places) -> Iterator[Judged]:
    spaced, cased = dict[str, list[int]](), dict[str, set[str]]()
    for label in used.tolist():
        plain = " ".join(names[label].split())
        spaced.setdefault(plain, []).append(label)
        cased.setdefault(plain.casefold(), set()).add(plain)
    by_space = [group for group in spaced.values() if len(group) > 1]
    by_case = [[label for plain in group for label in spaced[plain]] for group in cased.values() if len(group) > 1]
    kinds: tuple[tuple[list[list[int]], Severity, DifferBy], ...] = (
        (by_space, "blocks", "white-space"),
        (by_case, "warns", "capital-letters"),
    )
    for groups, severity, by in kinds:
        if groups:
            examples = [[excerpt(repr(names[i])) for i in sorted(group)] for group in groups[:MOST_NAMED]]
            alike = np.array([label for group in groups for label in group])
            details = Details(alike=examples, differ_by=by)
            yield judged("labels-alike", severity, len(alike), rows.first(alike), details)


def _contradictions(asks: NDArray[np.uint64], labels: NDArray[np.int32] | Places, repeated: Places) -> Iterator[Judged]:
    order = repeated[np.lexsort((labels[repeated], asks[repeated]))]
    same = asks[order][1:] == asks[order][:-1]
    differ = same & (labels[order][1:] != labels[order][:-1])
    if not differ.any():
        return
    both = np.unique(np.concatenate([order[1:][differ], order[:-1][differ]]))
    count = len(np.unique(asks[both]))
    yield judged("contradictions", "warns", count, both[np.argsort(asks[both], kind="stable")])


def _by_split(names: Sequence[str], rows: _Rows, used: Places) -> Iterator[Judged]:
    trained, tested = (np.bincount(rows.labels[rows.splits == split], minlength=len(names)) for split in (TRAIN, TEST))
    untrained = used[trained[used] == 0]
    if len(untrained):
        details = _named(names, untrained)
        yield judged("label-not-trained", "warns", len(untrained), rows.first(untrained), details)
    untested = used[(tested[used] == 0) & (trained[used] > 0)]
    if len(untested):
        details = _named(names, untested)
        yield judged("label-not-tested", "notes", len(untested), rows.first(untested), details)


def _imbalance(names: Sequence[str], counts: NDArray[np.int64], used: Places) -> Iterator[Judged]:
    commonest, rarest = used[np.argmax(counts[used])], used[np.argmin(counts[used])]
    if counts[commonest] < UNEVEN * counts[rarest]:
        return
    details = Details(
        labels=[excerpt(names[label]) for label in (commonest, rarest)],
        label_rows=[int(counts[label]) for label in (commonest, rarest)],
        of_rows=int(counts.sum()),
    )
    yield judged("imbalance", "notes", len(used), details=details)


def _schemes(names: Sequence[str], rows: _Rows, used: Places) -> Iterator[Judged]:
    """Tags that name no entities: of another scheme than IOB2, or numbers."""
    others = set(other_scheme(names[tag] for tag in used))
    if others:
        odd = np.array([tag for tag in used if names[tag] in others])
        yield judged("tag-scheme", "blocks", len(odd), rows.first(odd), _named(names, odd))
    elif all(names[tag].lstrip("-").isdigit() for tag in used):
        yield judged("tags-are-numbers", "blocks", len(used), rows.first(used), _named(names, used))


def _named(names: Sequence[str], which: Places) -> Details:
    return Details(labels=[excerpt(names[label]) for label in which[:MOST_NAMED]])
