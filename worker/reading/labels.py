"""What is odd about labels: too few or too many, alike, rare, in one split alone, and texts that stand under two."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain.findings import Severity, excerpt
from app.domain.mapping import MOST_LABELS
from app.domain.splitting import TEST, TRAIN, Codes
from worker.reading.gathered import Gathered
from worker.reading.judging import LEAST_ROWS, Judged, Places, judged, rows_told
from worker.reading.oddities import CONTROL

UNEVEN = 20
"""How many times as often the commonest label comes as the rarest."""
_RENAME = "Make them the same in the file, or give both one name in the mapping; leave them if they differ in meaning."
_MOST_NAMED = 5


class _Rows(NamedTuple):
    """Labels and splits of all rows, [n] each."""

    labels: NDArray[np.int32]
    splits: Codes

    def first(self, which: Places) -> Places:
        """The first row of each of some labels."""
        there = np.flatnonzero(self.splits >= 0)
        found, first = np.unique(self.labels[there], return_index=True)
        places: Places = np.sort(there[first[np.isin(found, which)]])
        return places


def judge_labels(gathered: Gathered, splits: Codes) -> Iterator[Judged]:
    """Of labelled rows."""
    labels, names = gathered.labels, gathered.names
    if labels is None or np.count_nonzero(splits >= 0) < LEAST_ROWS:
        return
    rows = _Rows(labels, splits)
    counts = np.bincount(labels[splits >= 0], minlength=len(names))
    used = np.flatnonzero(counts)
    if len(used) < 2:
        only = f", {excerpt(names[used[0]])}" if len(used) else ""
        what = f"All rows have one label{only}: there is nothing to tell apart."
        remedy = "Choose another column for the label, or bring other rows."
        yield judged("one-class", "blocks", len(used), what, remedy)
        return
    if len(used) > MOST_LABELS:
        what = f"There are {len(used):,} different labels, and at most {MOST_LABELS:,} are learnt."
        yield judged("too-many-labels", "blocks", len(used), what, "Is it the right column?", rows.first(used))
        return
    yield from _unseen(names, rows, used)
    yield from _alike(names, rows, used)
    yield from _contradictions(gathered.asks, rows, gathered.again[splits[gathered.again] >= 0])
    once = used[counts[used] == 1]
    if len(once):
        what = f"{_come(names, once)} once: it is either learnt or tested, never both."
        yield judged(
            "label-once", "warns", len(once), what, "Bring more rows of it, or leave it out.", rows.first(once)
        )
    yield from _by_split(names, rows, used[counts[used] > 1])
    yield from _imbalance(names, counts, used)


def _unseen(names: Sequence[str], rows: _Rows, used: Places) -> Iterator[Judged]:
    """A label is a name on every page."""
    odd = np.array([label for label in used if CONTROL.search(names[label])], dtype=np.int64)
    if len(odd):
        have = "labels have" if len(odd) != 1 else "label has"
        what = f"{len(odd):,} {have} characters that cannot be shown: {_listed(names, odd)}."
        remedy = "Give them other names in the mapping, or mend the file."
        yield judged("control-characters", "blocks", len(odd), what, remedy, rows.first(odd))


def _alike(names: Sequence[str], rows: _Rows, used: Places) -> Iterator[Judged]:
    spaced, cased = dict[str, list[int]](), dict[str, set[str]]()
    for label in used.tolist():
        plain = " ".join(names[label].split())
        spaced.setdefault(plain, []).append(label)
        cased.setdefault(plain.casefold(), set()).add(plain)
    by_space = [group for group in spaced.values() if len(group) > 1]
    by_case = [[label for plain in group for label in spaced[plain]] for group in cased.values() if len(group) > 1]
    ways: tuple[tuple[list[list[int]], Severity, str], ...] = (
        (by_space, "blocks", "white space"),
        (by_case, "warns", "capital letters"),
    )
    for groups, severity, by in ways:
        if groups:
            told = "; ".join(" and ".join(repr(names[i]) for i in sorted(group)) for group in groups[:_MOST_NAMED])
            alike = np.array([label for group in groups for label in group])
            what = f"Labels differ by {by} only: {told}."
            yield judged("labels-alike", severity, len(alike), what, _RENAME, rows.first(alike))


def _contradictions(asks: NDArray[np.uint64], rows: _Rows, there: Places) -> Iterator[Judged]:
    labels = rows.labels
    order = there[np.lexsort((labels[there], asks[there]))]
    same = asks[order][1:] == asks[order][:-1]
    differ = same & (labels[order][1:] != labels[order][:-1])
    if not differ.any():
        return
    both = np.unique(np.concatenate([order[1:][differ], order[:-1][differ]]))
    count = len(np.unique(asks[both]))
    what = f"{count:,} text{'s stand' if count != 1 else ' stands'} under more than one label."
    remedy = "Decide for one of them in the file; no model can learn both."
    places = both[np.argsort(asks[both], kind="stable")]
    yield judged("contradictions", "warns", count, what, remedy, places)


def _by_split(names: Sequence[str], rows: _Rows, used: Places) -> Iterator[Judged]:
    trained, tested = (np.bincount(rows.labels[rows.splits == split], minlength=len(names)) for split in (TRAIN, TEST))
    untrained = used[trained[used] == 0]
    if len(untrained):
        what = f"{_come(names, untrained)} in no row of the train split, so nothing is learnt of it."
        first = rows.first(untrained)
        yield judged("label-not-trained", "warns", len(untrained), what, "Choose other splits.", first)
    untested = used[(tested[used] == 0) & (trained[used] > 0)]
    if len(untested):
        what = f"{_come(names, untested)} in no row of the test split: nothing will be known of it."
        remedy = "Bring more rows of it, or choose other splits."
        yield judged("label-not-tested", "notes", len(untested), what, remedy, rows.first(untested))


def _imbalance(names: Sequence[str], counts: NDArray[np.int64], used: Places) -> Iterator[Judged]:
    most, least = used[np.argmax(counts[used])], used[np.argmin(counts[used])]
    if counts[most] < UNEVEN * counts[least]:
        return
    common, share = excerpt(names[most]), counts[most] / counts.sum()
    rare = f"{excerpt(names[least])} has {rows_told(int(counts[least]))}"
    what = f"The label {common} has {rows_told(int(counts[most]))} ({share:.0%}), and {rare}."
    remedy = f"Whoever always says {common} is right in {share:.0%}: look at macro-F1 beside accuracy."
    yield judged("imbalance", "notes", len(used), what, remedy)


def _come(names: Sequence[str], which: Places) -> str:
    if len(which) == 1:
        return f"The label {excerpt(names[which[0]])} comes"
    return f"{len(which):,} labels ({_listed(names, which)}) each come"


def _listed(names: Sequence[str], which: Places) -> str:
    told = ", ".join(excerpt(names[label]) for label in which[:_MOST_NAMED])
    return told + (", …" if len(which) > _MOST_NAMED else "")
