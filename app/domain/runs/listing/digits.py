"""Numbers of single precision with the digits that mean them: 0.001, where double precision would write
0.0010000000474974513.

A decimal of up to 6 digits comes back from single precision (IEEE 754 binary32) as it was, and 9 digits tell every
number of it from its neighbours (Goldberg 1991, "What Every Computer Scientist Should Know About Floating-Point
Arithmetic").
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FEWEST, ENOUGH = 6, 9
EXACT = 22
"""The largest power of ten that is a number of double precision."""


def plain(column: NDArray[Any]) -> list[Any]:
    """A column of numbers as Python's own; those of single precision as their `shortest` decimals."""
    numbers: list[Any] = (shortest(column) if column.dtype == np.float32 else column).tolist()
    return numbers


def shortest(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """For each number the decimal of the fewest digits, from 6 to 9, that single precision rounds to it. Numbers that
    are not finite, or smaller than about 1e-13, stay."""
    wide = x.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        magnitude = np.floor(np.log10(np.abs(wide)))
        decimals = wide
        for digits in range(ENOUGH, FEWEST - 1, -1):
            places = digits - 1 - magnitude
            scale = 10.0 ** np.abs(places)
            rounded = np.where(places > 0, np.round(wide * scale) / scale, np.round(wide / scale) * scale)
            is_same = (np.abs(places) <= EXACT) & (rounded.astype(np.float32) == x)
            decimals = np.where(is_same, rounded, decimals)
    return decimals
