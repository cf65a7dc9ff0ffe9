"""The text that says what computes a score: equal only where the code tells that the scoring is equal."""

import math
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import pytest

from vezna.scores.metric_version import ARGMAX, version_of

THRESHOLD = 0.5
TABLE = {"a": 0.5}


class Score:
    """Scores by a threshold."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def __call__(self, output: list[float]) -> list[float]:
        """Whether each value exceeds it."""
        return self.method(output)

    def method(self, output: list[float]) -> list[float]:
        """Whether each value exceeds it."""
        return [float(value > self.threshold) for value in output]


def plain(output: list[float]) -> list[float]:
    """Of nothing but its code and a module."""
    return [float(math.floor(value)) for value in output]


def above(output: list[float], threshold: float) -> list[float]:
    """By an argument."""
    return [float(value > threshold) for value in output]


def above_global(output: list[float]) -> list[float]:
    """By a global number."""
    return [float(value > THRESHOLD) for value in output]


def of_table(output: list[float]) -> list[float]:
    """By a global object."""
    return [TABLE["a"] for _value in output]


def closure(threshold: float) -> Callable[[list[float]], list[float]]:
    """By a variable of the function around it."""

    def score(output: list[float]) -> list[float]:
        return [float(value > threshold) for value in output]

    return score


def with_default(threshold: float) -> Callable[[list[float]], list[float]]:
    """By a default."""

    def score(output: list[float], threshold: float = threshold) -> list[float]:
        return [float(value > threshold) for value in output]

    return score


def decorated(threshold: float) -> Callable[[list[float]], list[float]]:
    """As a decorator makes one."""

    @wraps(plain)
    def score(output: list[float]) -> list[float]:
        return [value * threshold for value in plain(output)]

    return score


without_source: dict[str, Any] = {}
exec("def score(output): return output", without_source)


@pytest.mark.parametrize(
    "function",
    [
        Score(0.1), Score(0.1).method, partial(above, threshold=0.1), closure(0.1), decorated(0.1), of_table,
        lambda output: output, without_source["score"], len,
    ],
)  # fmt: skip
def test_what_the_code_does_not_tell_gets_no_version(function: Callable[..., Any]) -> None:
    assert version_of(function) == ""


def test_a_function_is_known_by_its_code_its_defaults_and_its_global_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert version_of(None) == ARGMAX
    assert version_of(plain).startswith("plain, SHA-256 ") and version_of(plain) == version_of(plain)
    assert version_of(with_default(0.1)) == version_of(with_default(0.1)) != version_of(with_default(0.9))
    before = version_of(above_global)
    monkeypatch.setitem(globals(), "THRESHOLD", 0.9)
    assert before and version_of(above_global) not in ("", before)
