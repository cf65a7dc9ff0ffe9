"""The Pareto front: the arms that no other arm dominates on the chosen axes."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from math import isfinite


class Better(StrEnum):
    """Which direction is better on an axis."""

    HIGHER = "higher"
    LOWER = "lower"


def pareto_front(points: Sequence[Mapping[str, float | None]], axes: Mapping[str, Better]) -> list[bool]:
    """Whether each point is Pareto-optimal: no other is as good on every axis and better on one. Ties stay.

    A point that lacks a chosen axis (None or not finite: out of memory, diverged) is not on the front and dominates
    none.
    """
    costs = [_costs(point, axes) for point in points]
    return [mine is not None and not any(_dominates(other, mine) for other in costs if other) for mine in costs]


def _costs(point: Mapping[str, float | None], axes: Mapping[str, Better]) -> tuple[float, ...] | None:
    """The point on each axis, turned so that lower is better; None if it lacks one."""
    values = [point.get(axis) for axis in axes]
    costs = [
        -v if better is Better.HIGHER else v for v, better in zip(values, axes.values(), strict=True) if v is not None
    ]
    return tuple(costs) if len(costs) == len(axes) and all(map(isfinite, costs)) else None


def _dominates(point: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return point != other and all(a <= b for a, b in zip(point, other, strict=True))
