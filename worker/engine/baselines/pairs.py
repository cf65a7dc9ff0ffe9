"""Baselines of preference pairs: an answer at random, and the longer answer."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.domain.data.dataset import PreferenceChatRow, PreferenceRow, Row
from app.domain.tasks import TASKS, MetricName

Scores = dict[MetricName, NDArray[np.float64]]


def random_answer(test: Sequence[Row]) -> Scores:
    """Right for about half of the pairs."""
    return _ranked([0] * len(test))


def longer_answer(train: Sequence[Row], test: Sequence[Row]) -> Scores:
    """The longer answer, in characters; the shorter one if that is right for more of the training pairs."""
    direction = 1 if sum(map(np.sign, _longer(train))) >= 0 else -1
    return _ranked([direction * longer for longer in _longer(test)])


def _longer(rows: Sequence[Row]) -> list[int]:
    """By how many characters each chosen answer is longer than the rejected one."""
    answers = [row.answers for row in rows if isinstance(row, PreferenceRow | PreferenceChatRow)]
    return [len(better) - len(worse) for better, worse in answers]


def _ranked(margins: Sequence[int]) -> Scores:
    """Right where the margin of the chosen answer is positive; where it is 0, at random. The same ranking is compared
    with every metric of the task."""
    draw = np.random.default_rng(0)
    right = np.array([margin > 0 if margin else draw.random() < 0.5 for margin in margins], dtype=np.float64)
    return dict.fromkeys(TASKS["preference"].scored, right)
