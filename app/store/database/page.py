"""Keyset pagination: a page begins after a key, not after a number of rows."""

from dataclasses import dataclass
from typing import Generic, TypeVar

Row = TypeVar("Row")

LARGEST_ID = 2**31 - 1
"""Largest value of an INTEGER column; PostgreSQL refuses to compare with a larger number."""


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Rows, and the key after which the next page begins; None on the last page."""

    rows: list[Row]
    next_after: int | None

    @property
    def has_more(self) -> bool:
        return self.next_after is not None


def cut(rows: list[Row], keys: list[int], limit: int) -> Page[Row]:
    """A page of `limit` rows from a query for one row more."""
    more = len(rows) > limit
    return Page(rows[:limit], keys[limit - 1] if more else None)
