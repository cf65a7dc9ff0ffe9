"""The parity check: whether a server answers as a run did, on the run's test items.

    D = server − run        the mean difference of the metric over the N items, with its paired interval (items of one
                            input or group are one cluster); judged with the margin as the shipping gate is
                            (`export_gate.outcome`)

Scores may agree although the server does not use what the run trained. Of the items that run and base model answer
differently, each answer is therefore nearer to the run's, nearer to the base model's, or neither:

    base        more are nearer to the base model's than chance explains, and at least three quarters
    run         the same for the run, and at least half of these items have the run's text
    nearer_run  the same for the run, but fewer have its text: another adapter on like data does that too
    unclear     the rest

Chance is a fair coin (one-sided binomial test at 1 %), so fewer than seven such items never decide. Items of one input
or group count once in all of this, by the majority of them. A server that answers as the base model does fails,
whatever it scores. One passes only if it answers as the run where there are seven such items, and refuses no item.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from app.domain.comparison.fairness.export_gate import GateOutcome, outcome
from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.distributions import binomial_below
from app.domain.comparison.statistics.intervals import CONFIDENCE, difference
from app.domain.tasks import MetricName

SIGNIFICANCE = 0.01
SHARE = 0.75
TEXT_SHARE = 0.5
"""Of the items on which run and base model differ: so many have the run's text where the server is the run. Rounding
otherwise than the run did changes fewer (docs/shipping.md: 31 of 99 by 8-bit weights)."""
FEWEST_TELLING = 7
"""Items that can decide: 0.5⁷ is below 1 %."""
SHOWN = 10
"""Items that are kept of those that differ, the first ones."""
MOST_SHOWN = 400
"""Characters of a text that is kept."""
BEFORE = 80
"""Of these, characters before the first difference."""


class Model(StrEnum):
    """As which model a server answers."""

    RUN = "run"
    BASE = "base"
    NEARER_RUN = "nearer_run"
    UNCLEAR = "unclear"


class ServedItem(NamedTuple):
    """A test item with three answers, and their values of the metric from 0 to 1."""

    item: str
    prompt: str
    run: str
    base: str
    answer: str
    run_score: float
    base_score: float
    score: float
    nearer: Model
    """To which model's answer the server's is nearer, if run and base model differ."""
    writes_on: bool = False
    """The answer begins with the run's text and has more."""

    @property
    def same(self) -> bool:
        """The server answers as the run, but for white space at the ends."""
        return self.answer.strip() == self.run.strip()

    @property
    def telling(self) -> bool:
        """Run and base model answer differently."""
        return self.run.strip() != self.base.strip()


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class DifferingItem(_Value):
    """An item that the server answers differently from the run; long texts are cut around the first difference."""

    item: str
    prompt: str
    """Its end."""
    run: str
    base: str
    answer: str


class Parity(_Value):
    """The result of a parity check."""

    outcome: GateOutcome
    metric: MetricName
    items: int
    left_out: int
    """Items that cannot be compared: the run has read only the end of their prompts, or they have none."""
    refused: int = 0
    """Items that the server refuses, so that nothing is known of them."""
    refusal: str = ""
    """What it says of the first."""
    margin: float
    """In the metric's unit: 0.02 is 2 points."""
    confidence: float
    score: float
    """Of the server."""
    run_score: float
    base_score: float
    delta: float
    low: float
    """Of the interval of `delta`, within −1 and 1."""
    high: float
    same: int
    """Items with the same text, but for white space at its ends."""
    clusters: int | None = None
    """How many inputs or groups the items have, each of which counts once below; None where each is its own."""
    telling: int
    """Items that run and base model answer differently."""
    as_run: int
    """Of these, items whose answer is nearer to the run's."""
    as_base: int
    same_telling: int = 0
    """Of these, items with the run's text; 0 in results that were stored without it, as below."""
    writes_on: int = 0
    """Of all items, those whose answer begins with the run's text and has more."""
    answers_as: Model
    differing: list[DifferingItem]
    """The first items that differ."""
    seconds: float


def parity(
    items: Sequence[ServedItem],
    margin: float,
    metric: MetricName,
    seconds: float,
    *,
    left_out: int = 0,
    refused: int = 0,
    refusal: str = "",
) -> Parity:
    """The result. ValueError without an item."""
    scores = [np.array([values]) for values in zip(*((i.score, i.run_score, i.base_score) for i in items), strict=True)]
    clusters = Clusters.of_items(i.item for i in items)
    interval = difference(scores[0], scores[1], CONFIDENCE, clusters)
    nearer = np.array([i.telling * {Model.RUN: 1.0, Model.BASE: -1.0}.get(i.nearer, 0.0) for i in items])
    has_text = np.array([i.telling * (1.0 if i.same else -1.0) for i in items])
    tells = np.array([float(i.telling) for i in items])
    if clusters:  # copies tell once
        nearer, has_text, tells = clusters.sums(nearer), clusters.sums(has_text), clusters.sums(tells)
    as_run, as_base = int((nearer > 0).sum()), int((nearer < 0).sum())
    telling, same_telling = int((tells > 0).sum()), int((has_text > 0).sum())
    answers_as = _decided(as_run, as_base, same_telling >= TEXT_SHARE * telling)
    server, run, base = (float(values.mean()) for values in scores)
    return Parity(
        outcome=_outcome(outcome(interval, margin), answers_as, telling, refused),
        metric=metric,
        items=len(items),
        left_out=left_out,
        refused=refused,
        refusal=refusal,
        margin=margin,
        confidence=CONFIDENCE,
        score=server,
        run_score=run,
        base_score=base,
        delta=interval.delta,
        low=interval.low,
        high=interval.high,
        same=sum(i.same for i in items),
        clusters=len(clusters) if clusters else None,
        telling=telling,
        as_run=as_run,
        as_base=as_base,
        same_telling=same_telling,
        writes_on=sum(i.writes_on for i in items),
        answers_as=answers_as,
        differing=[_shown(i) for i in items if not i.same][:SHOWN],
        seconds=seconds,
    )


def _outcome(by_score: GateOutcome, answers_as: Model, telling: int, refused: int) -> GateOutcome:
    if answers_as is Model.BASE:
        return GateOutcome.FAIL
    shown = answers_as is Model.RUN or telling < FEWEST_TELLING
    return GateOutcome.UNDECIDED if by_score is GateOutcome.PASS and (refused or not shown) else by_score


def _decided(as_run: int, as_base: int, has_texts: bool) -> Model:
    total = as_run + as_base
    counts: tuple[tuple[Model, int], ...] = ((Model.RUN, as_run), (Model.BASE, as_base))
    for model, count in counts:
        by_chance = binomial_below(total - count, total, 0.5)  # so many or more, by symmetry
        if count >= SHARE * total and by_chance < SIGNIFICANCE:
            return model if model is Model.BASE or has_texts else Model.NEARER_RUN
    return Model.UNCLEAR


def _shown(item: ServedItem) -> DifferingItem:
    pairs = zip(item.run, item.answer, strict=False)
    first = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(item.run), len(item.answer)))
    texts = (_cut(text, max(0, first - BEFORE)) for text in (item.run, item.base, item.answer))
    run, base, answer = texts
    prompt = item.prompt if len(item.prompt) <= MOST_SHOWN else f"…{item.prompt[-MOST_SHOWN:]}"
    return DifferingItem(item=item.item, prompt=prompt, run=run, base=base, answer=answer)


def _cut(text: str, start: int) -> str:
    start = start if len(text) > MOST_SHOWN else 0
    end = start + MOST_SHOWN
    return f"{'…' if start else ''}{text[start:end]}{'…' if len(text) > end else ''}"
