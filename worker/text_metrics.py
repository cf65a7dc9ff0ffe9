"""Metrics that compare a generated text with its reference."""

import re

from rapidfuzz.distance import Indel


def exact_match(written: str, reference: str) -> float:
    """1.0 if the texts are equal apart from leading and trailing white space."""
    return float(written.strip() == reference.strip())


def rouge_l(written: str, reference: str) -> float:
    """ROUGE-L: F1 of the longest common subsequence of words (Lin 2004, section 3, with β = 1), from 0 to 1.

        2·LCS / (m + n)        m and n: number of words of the two texts

    Words are runs of letters and digits of any script, case-insensitive, without stemming. Two texts without words
    score 1. Computed by rapidfuzz as the normalized Indel similarity, which is the same number.
    """
    return float(Indel.normalized_similarity(_words(written), _words(reference)))


def likeness(written: str, other: str) -> float:
    """The same over characters: how much of two texts is equal, from 0 to 1."""
    return float(Indel.normalized_similarity(written, other))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())
