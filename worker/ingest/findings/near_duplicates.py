"""Rows of different splits that are nearly the same, by MinHash (Broder 1997) with locality-sensitive hashing.

A text is the set of its runs of three words. Two texts are nearly the same if they share at least `ALIKE` of all runs
that either has (Jaccard). MinHash finds the candidates, and each is counted out, so nothing is told that is not so; of
what is alike by just that much some is missed.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from rensa import RMinHash, RMinHashLSH

from app.domain.data.findings import Details
from app.domain.data.splitting import TRAIN, Codes
from worker.ingest.findings.rows import Judged, Places, judged
from worker.ingest.gathered import Gathered

ALIKE = 0.8
MOST_TESTED = 10_000
MOST_TRAINED = 100_000
"""Maximum number of inspected test and train rows; a larger split is sampled by its smallest hashes."""
_PERMUTATIONS, _BANDS = 128, 16
_RUN = 3
_LEAST_RUNS = 6
"""Minimum number of shingles: shorter texts match by chance."""
_MOST_CHARACTERS = 4000


class Pair(NamedTuple):
    """Two rows that are nearly the same."""

    held_out: int
    trained: int
    alike: float


def judge_near(gathered: Gathered, splits: Codes) -> Iterator[Judged]:
    """Rows of test and validation that are nearly in train."""
    held_out, trained = _some(gathered, splits > TRAIN, MOST_TESTED), _some(gathered, splits == TRAIN, MOST_TRAINED)
    pairs = near(gathered.texts(held_out, _MOST_CHARACTERS), gathered.texts(trained, _MOST_CHARACTERS))
    if not pairs:
        return
    asks = gathered.asks
    pairs = [pair for pair in pairs if asks[pair.held_out] != asks[pair.trained]]
    found = {pair.held_out for pair in pairs}
    if not found:
        return
    sampled = len(held_out) == MOST_TESTED or len(trained) == MOST_TRAINED
    looked = {"held_out_rows": len(held_out), "train_rows": len(trained)} if sampled else {}
    places = [place for pair in pairs for place in (pair.held_out, pair.trained)]
    yield judged("near-leak", "warns", len(found), list(dict.fromkeys(places)), Details(shared=ALIKE, **looked))


def near(held_out: Iterable[tuple[int, str]], trained: Iterable[tuple[int, str]]) -> list[Pair]:
    """Pairs of texts (number, text) that are alike, each of the first with at most one of the second."""
    index = RMinHashLSH(ALIKE, _PERMUTATIONS, _BANDS)
    kept: dict[int, str] = {}
    for place, text in held_out:
        if runs := _runs(text):
            kept[place] = text
            index.insert(place, _hashed(runs))
    found: dict[int, Pair] = {}
    for place, text in trained if kept else ():
        if not (runs := _runs(text)):
            continue
        for candidate in index.query(_hashed(runs)):
            if candidate not in found and (alike := _jaccard(runs, _runs(kept[candidate]))) >= ALIKE:
                found[candidate] = Pair(candidate, place, alike)
    return [found[place] for place in sorted(found)]


def _runs(text: str) -> set[str]:
    words = text.lower().split()
    found = {" ".join(words[i : i + _RUN]) for i in range(len(words) - _RUN + 1)}
    return found if len(found) >= _LEAST_RUNS else set()


def _hashed(runs: set[str]) -> RMinHash:
    hashed = RMinHash(_PERMUTATIONS, 1)
    hashed.update(sorted(runs))
    return hashed


def _jaccard(first: set[str], second: set[str]) -> float:
    return len(first & second) / len(first | second)


def _some(gathered: Gathered, which: np.ndarray[tuple[int], np.dtype[np.bool_]], most: int) -> Places:
    places = np.flatnonzero(which)
    if len(places) > most:
        places = np.sort(places[np.argpartition(gathered.asks[places], most)[:most]])
    return places
