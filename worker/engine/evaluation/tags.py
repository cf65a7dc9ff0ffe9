"""Scores of tagged words, of a model or of a baseline.

    tag accuracy        of an item: words with the right tag / words
    entity F1           of an item: 2·right / (true + predicted) entities; 1 if it has none and none is predicted
    corpus entity F1    the same of all items' entities together, as seqeval computes it in its strict mode

A word that the model did not read has no tag: it is wrong, and in no predicted entity.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.domain.data.tagging import Hits
from app.domain.tasks import MetricName

Scores = dict[MetricName, NDArray[np.float64]]


def tag_scores(
    true: Sequence[Sequence[int]], predicted: Sequence[Sequence[int]], labels: Sequence[str]
) -> tuple[Scores, dict[MetricName, float]]:
    """The metrics of each item, and of all together; tags are indices into `labels`, or UNREAD."""
    names = [*labels, ""]  # the last place is that of UNREAD, -1
    hits = [
        Hits.of([names[tag] for tag in own], [names[tag] for tag in others])
        for own, others in zip(true, predicted, strict=True)
    ]
    right = [
        sum(tag == other for tag, other in zip(own, others, strict=True)) / len(own)
        for own, others in zip(true, predicted, strict=True)
    ]
    together = Hits(*(sum(counts) for counts in zip(*hits, strict=True)))
    per_item: Scores = {
        "item_entity_f1": np.array([item.f1(of_none=1.0) for item in hits]),
        "tag_accuracy": np.array(right),
    }
    return per_item, {"entity_f1": together.f1(of_none=0.0)}
