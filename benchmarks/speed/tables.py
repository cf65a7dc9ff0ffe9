"""How numbers of several runs stand in a table."""

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float], form: str) -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(values):{form}} [{min(values):{form}}–{max(values):{form}}]"


def over_seeds(values: Sequence[float], form: str = ".4f") -> str:
    """Mean and sd."""
    sd = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):{form}}{sd}"
