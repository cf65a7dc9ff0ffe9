"""The parity check: whether a server answers as a run did, on the run's test items.

    D = server − run        the mean difference of the metric over the N items, with its paired interval; judged with
                            the margin as the shipping gate is (`export_gate.outcome`)

Scores may agree although the server does not use what the run trained. Of the items that run and base model answer
differently, each answer is therefore nearer to the run's, nearer to the base model's, or neither:

    base        more are nearer to the base model's than chance explains, and at least three quarters
    run         the same for the run
    unclear     the rest

Chance is a fair coin (one-sided binomial test at 1 %), so fewer than seven such items never decide. A server that
answers as the base model does fails, whatever it scores.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.stats import binomtest

from app.domain.comparison.export_gate import GateOutcome, outcome
from app.domain.comparison.intervals import CONFIDENCE, difference
from app.domain.tasks import MetricName

SIGNIFICANCE = 0.01
SHARE = 0.75
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
    telling: int
    """Items that run and base model answer differently."""
    as_run: int
    """Of these, items whose answer is nearer to the run's."""
    as_base: int
    answers_as: Model
    differing: list[DifferingItem]
    """The first items that differ."""
    seconds: float


def parity(items: Sequence[ServedItem], margin: float, left_out: int, metric: MetricName, seconds: float) -> Parity:
    """The result. ValueError without an item."""
    scores = [np.array([values]) for values in zip(*((i.score, i.run_score, i.base_score) for i in items), strict=True)]
    interval = difference(scores[0], scores[1], CONFIDENCE)
    as_run, as_base = (sum(i.telling and i.nearer is model for i in items) for model in (Model.RUN, Model.BASE))
    answers_as = _decided(as_run, as_base)
    server, run, base = (float(values.mean()) for values in scores)
    return Parity(
        outcome=GateOutcome.FAIL if answers_as is Model.BASE else outcome(interval, margin),
        metric=metric,
        items=len(items),
        left_out=left_out,
        margin=margin,
        confidence=CONFIDENCE,
        score=server,
        run_score=run,
        base_score=base,
        delta=interval.delta,
        low=max(interval.low, -1.0),
        high=min(interval.high, 1.0),
        same=sum(i.same for i in items),
        telling=sum(i.telling for i in items),
        as_run=as_run,
        as_base=as_base,
        answers_as=answers_as,
        differing=[_shown(i) for i in items if not i.same][:SHOWN],
        seconds=seconds,
    )


def _decided(as_run: int, as_base: int) -> Model:
    total = as_run + as_base
    counts: tuple[tuple[Model, int], ...] = ((Model.RUN, as_run), (Model.BASE, as_base))
    greater: Literal["greater"] = "greater"
    for model, count in counts:
        if total and count >= SHARE * total and binomtest(count, total, 0.5, greater).pvalue < SIGNIFICANCE:
            return model
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
