"""What an attention head does on a sentence: where its tokens look on average, and how far a run moved that.

p [n, n] are a head's weights: token i gives p[i, j] of its attention to token j.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.features.lab.computations import Attention

Weights = NDArray[np.float64]
Kind = Literal["previous", "next", "itself", "token"]


class Habit(NamedTuple):
    """Where a head looks most."""

    kind: Kind
    token: int
    """Place of the token that all look at; 0 for the other kinds."""
    share: float
    """Of the attention, averaged over the tokens."""


def habit(p: Weights) -> Habit:
    """The neighbour, the token itself, or the single token that gets most of the attention."""
    found = [Habit("itself", 0, float(np.diag(p).mean()))]
    if len(p) > 1:
        found += [Habit("previous", 0, float(np.diag(p, -1).mean())), Habit("next", 0, float(np.diag(p, 1).mean()))]
    column = p.mean(axis=0)
    found.append(Habit("token", int(column.argmax()), float(column.max())))
    return max(found, key=lambda habit: habit.share)


def moved(before: Weights, after: Weights) -> float:
    """The share of the attention that went elsewhere: the total variation distance of each row, averaged."""
    return float(np.abs(after - before).sum(axis=1).mean() / 2)


@dataclass(frozen=True)
class Heads:
    """All heads of an answer; layers and heads are counted from 0."""

    answer: Attention

    @property
    def layers(self) -> int:
        return len(self.answer.before)

    @property
    def heads(self) -> int:
        """Number of heads of a layer."""
        return len(self.answer.before[0])

    @cached_property
    def causal(self) -> bool:
        """No token looks at a later one."""
        return len(self.answer.tokens) > 1 and not any(
            np.triu(self.answer.weights(layer, head), 1).any() for layer, head in self._all
        )

    @cached_property
    def clearest(self) -> tuple[int, int]:
        """The head that looks most at a neighbour: the pattern that is easiest to see."""

        def neighbour(place: tuple[int, int]) -> float:
            p = self.answer.weights(*place)
            return float(max(np.diag(p, -1).sum(), np.diag(p, 1).sum()))

        return max(self._all, key=neighbour)

    @cached_property
    def most_moved(self) -> tuple[int, int] | None:
        """The head that the run changed most; None without a run."""
        return max(self._all, key=lambda place: self.moved(*place)) if self.answer.after else None

    def moved(self, layer: int, head: int) -> float:
        """How far the run moved a head's attention; 0 without a run."""
        if not self.answer.after:
            return 0.0
        return moved(self.answer.weights(layer, head), self.answer.weights(layer, head, after=True))

    @property
    def _all(self) -> list[tuple[int, int]]:
        return [(layer, head) for layer in range(self.layers) for head in range(self.heads)]
