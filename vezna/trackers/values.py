"""Parameters and measured values in the form that trackers take."""

from collections.abc import Iterable, Mapping
from math import isfinite

from vezna.trackers.study import Point


def numbered(parameters: Mapping[str, str]) -> dict[str, float | str]:
    """Parameters with numbers as such, for trackers that draw them."""
    return {name: _number(text) for name, text in parameters.items()}


def _number(text: str) -> float | str:
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return value if isfinite(value) else text
    return text


def by_step(points: Iterable[Point]) -> list[tuple[int, float, dict[str, float]]]:
    """Values by name of each step, with the seconds since training began, in ascending order."""
    steps: dict[int, dict[str, float]] = {}
    seconds: dict[int, float] = {}
    for point in points:
        steps.setdefault(point.step, {})[point.name] = point.value
        seconds[point.step] = max(point.seconds, seconds.get(point.step, 0.0))
    return [(step, seconds[step], steps[step]) for step in sorted(steps)]
