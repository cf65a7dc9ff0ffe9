"""Retrieval: the ranks of right passages, the metrics of a query that follow from them, and a search by words."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer

from app.domain.data.dataset import QueryRow, Row
from app.domain.tasks import MetricName

MRR_DEPTH = 10
K1, B = 1.2, 0.75
"""Parameters of BM25, as Lucene has them."""
WORD = r"(?u)\b\w+\b"
"""Matches single letters too, unlike scikit-learn's default pattern."""


def items(rows: Sequence[Row]) -> list[int]:
    """The places of the rows that are items of a search, in order: the first row of each distinct query.

    All rows of a query have the same rank, so as items of their own they would narrow every interval without telling
    anything new.
    """
    first: dict[str, int] = {}
    for place, row in enumerate(rows):
        if isinstance(row, QueryRow):
            first.setdefault(row.query, place)
    return list(first.values())


class Corpus:
    """What the queries of N rows are searched in: the C distinct passages of the same rows."""

    def __init__(self, rows: Sequence[QueryRow]) -> None:
        places = {text: place for place, text in enumerate(dict.fromkeys(row.passage for row in rows))}
        self.passages = list(places)
        self.passage_of = np.array([places[row.passage] for row in rows], dtype=np.int64)
        """[N] the place of each row's passage."""
        self.first_row = np.unique(self.passage_of, return_index=True)[1]
        """[C] a row with each passage."""
        self.items = items(rows)
        asked: dict[str, list[int]] = {}
        for row in rows:
            asked.setdefault(row.query, []).append(places[row.passage])
        self.right = [np.unique(asked[row.query]) for row in rows]
        """For each row, the passages that its query has in any row."""

    def ranks(self, similarities: NDArray[np.float32], rows: Sequence[int]) -> NDArray[np.int64]:
        """The rank from 1 of the first right passage, for some rows and their similarities [n, C] to all passages.

        A wrong passage that is as similar as the right one comes before it: a model to which all texts are alike has
        found nothing.
        """
        ranks = np.empty(len(rows), dtype=np.int64)
        for place, row in enumerate(rows):
            of_query, right = similarities[place], self.right[row]
            best = of_query[right].max()
            ranks[place] = 1 + np.count_nonzero(of_query >= best) - np.count_nonzero(of_query[right] >= best)
        return ranks


def scores(ranks: NDArray[np.int64]) -> dict[MetricName, NDArray[np.float64]]:
    """Each query's value of every metric, [N], from the ranks [N] of the first right passages."""
    return {
        "recall_at_1": (ranks <= 1).astype(np.float64),
        "recall_at_5": (ranks <= 5).astype(np.float64),
        "mrr_at_10": np.where(ranks <= MRR_DEPTH, 1 / ranks, 0.0),
    }


class Bm25:
    """The BM25 scores of passages for queries (Robertson & Zaragoza 2009, The Probabilistic Relevance Framework,
    equation 3.15, with an idf that is never negative, as Lucene has it).

        score(q, p) = Σ_t∈q  idf_t · f_t(p) · (k1 + 1) / (f_t(p) + k1 · (1 − b + b · |p| / mean |p|))
        idf_t       = ln(1 + (C − C_t + ½) / (C_t + ½))

    t: words, lower-case; C_t: passages with t; f_t(p): occurrences of t in p; |p|: words of p. The passages are counted
    once, however many times they are searched.
    """

    def __init__(self, passages: Sequence[str]) -> None:
        self._words = CountVectorizer(token_pattern=WORD, dtype=np.float32)
        self._passages, self._weights = len(passages), None
        try:
            counts = self._words.fit_transform(passages).tocsr()
        except ValueError:  # no passage has a word
            return
        lengths = np.asarray(counts.sum(axis=1)).ravel()
        occurs = np.asarray((counts > 0).sum(axis=0)).ravel()
        self._rarity = np.log1p((len(passages) - occurs + 0.5) / (occurs + 0.5))
        spread = K1 * (1 - B + B * lengths / lengths.mean())
        counts.data = counts.data * (K1 + 1) / (counts.data + np.repeat(spread, np.diff(counts.indptr)))
        self._weights = counts.T

    def __call__(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """[n, C] the score of each passage for each of n queries."""
        if self._weights is None:
            return np.zeros((len(queries), self._passages), dtype=np.float32)
        asked = self._words.transform(queries).multiply(self._rarity[None]).tocsr()
        similarities: NDArray[np.float32] = (asked @ self._weights).toarray().astype(np.float32)
        return similarities
