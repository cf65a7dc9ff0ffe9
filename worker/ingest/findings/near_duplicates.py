"""Near duplicates in different splits: of texts, by MinHash (Broder 1997) with locality-sensitive hashing.

A text is the set of its shingles, runs of three words. Two texts are near duplicates if the Jaccard similarity of their
sets is at least `ALIKE`. MinHash finds the candidates and their exact similarity is computed, so every reported pair is
one; some pairs close to the threshold are missed.
"""

from collections.abc import Iterable, Iterator
from importlib import import_module

import numpy as np
from rensa import RMinHash, RMinHashLSH

from app.domain.data.findings import Details
from app.domain.data.splitting import TRAIN, Codes
from worker.ingest.findings.rows import Judged, Pair, Places, judged
from worker.ingest.rows.gathered import Gathered

ALIKE = 0.8
MOST_TESTED = 10_000
MOST_TRAINED = 100_000
"""Maximum number of inspected test and train rows; a larger split is sampled by its smallest hashes."""
_PERMUTATIONS, _BANDS = 128, 16
_RUN = 3
_LEAST_RUNS = 6
"""Minimum number of shingles: shorter texts match by chance."""
_MOST_CHARACTERS = 4000


def judge_near(gathered: Gathered, splits: Codes) -> Iterator[Judged]:
    """Rows of test and validation with a near duplicate in train."""
    held_out = _sampled(gathered, splits > TRAIN, MOST_TESTED)
    trained = _sampled(gathered, splits == TRAIN, MOST_TRAINED)
    if gathered.form == "labelled-images":
        images = import_module("worker.ingest.findings.near_images")  # it needs Pillow, as no other rows do
        pairs = images.near(gathered, held_out, trained)
        limits = Details(limit=images.MOST_BITS, shared=images.LEAST_CORRELATION)
    else:
        pairs = near(gathered.texts(held_out, _MOST_CHARACTERS), gathered.texts(trained, _MOST_CHARACTERS))
        limits = Details(shared=ALIKE)
    if not pairs:
        return
    asks = gathered.asks
    pairs = [pair for pair in pairs if asks[pair.held_out] != asks[pair.trained]]
    leaked = {pair.held_out for pair in pairs}
    if not leaked:
        return
    sampled = len(held_out) == MOST_TESTED or len(trained) == MOST_TRAINED
    inspected = {"held_out_rows": len(held_out), "train_rows": len(trained)} if sampled else {}
    places = [place for pair in pairs for place in (pair.held_out, pair.trained)]
    details = limits.model_copy(update=inspected)
    yield judged("near-leak", "warns", len(leaked), list(dict.fromkeys(places)), details)


def near(held_out: Iterable[tuple[int, str]], trained: Iterable[tuple[int, str]]) -> list[Pair]:
    """Pairs of near-duplicate texts (number, text); each held-out text has at most one pair."""
    index = RMinHashLSH(ALIKE, _PERMUTATIONS, _BANDS)
    indexed: dict[int, str] = {}
    for place, text in held_out:
        if runs := _runs(text):
            indexed[place] = text
            index.insert(place, _hashed(runs))
    pairs: dict[int, Pair] = {}
    for place, text in trained if indexed else ():
        if not (runs := _runs(text)):
            continue
        for candidate in index.query(_hashed(runs)):
            if candidate not in pairs and (alike := _jaccard(runs, _runs(indexed[candidate]))) >= ALIKE:
                pairs[candidate] = Pair(candidate, place, alike)
    return [pairs[place] for place in sorted(pairs)]


def _runs(text: str) -> set[str]:
    words = text.lower().split()
    runs = {" ".join(words[i : i + _RUN]) for i in range(len(words) - _RUN + 1)}
    return runs if len(runs) >= _LEAST_RUNS else set()


def _hashed(runs: set[str]) -> RMinHash:
    hashed = RMinHash(_PERMUTATIONS, 1)
    hashed.update(sorted(runs))
    return hashed


def _jaccard(first: set[str], second: set[str]) -> float:
    return len(first & second) / len(first | second)


def _sampled(gathered: Gathered, which: np.ndarray[tuple[int], np.dtype[np.bool_]], limit: int) -> Places:
    places = np.flatnonzero(which)
    if len(places) > limit:
        places = np.sort(places[np.argpartition(gathered.asks[places], limit)[:limit]])
    return places
