"""The hypothesis that a study tests against its margin."""

from enum import StrEnum


class Alternative(StrEnum):
    """What a good verdict on an arm shows."""

    NON_INFERIORITY = "non-inferiority"
    """It loses less than the margin against the reference; it may be better by any amount."""
    EQUIVALENCE = "equivalence"
    """It differs from the reference by less than the margin in either direction."""

    @property
    def two_sided(self) -> bool:
        """A gain beyond the margin counts against it, as a loss does."""
        return self is Alternative.EQUIVALENCE
