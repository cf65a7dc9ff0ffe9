"""When a question is asked again: the scheduler FSRS (github.com/open-spaced-repetition), with its default parameters.

An interval is chosen so that the learner still remembers with a probability of 90 % when it ends. Intervals are not
randomised, so that those on the buttons are those that follow.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

from fsrs import Card, Scheduler
from fsrs import Rating as FsrsRating

NEW_PER_DAY = 10
"""Questions that a learner meets for the first time in a day, those of the review plan apart."""
_SCHEDULER = Scheduler(enable_fuzzing=False)


class Rating(IntEnum):
    """How well the learner remembered."""

    AGAIN = 1
    HARD = 2
    GOOD = 3
    EASY = 4


def rated(card: Mapping[str, Any] | None, rating: Rating, now: datetime) -> tuple[dict[str, Any], datetime]:
    """The state of a question after a rating, and when it is due. `card` is its state before; None for a new one."""
    before = Card.from_dict(dict(card)) if card else Card(card_id=0, due=now)  # type: ignore[arg-type]
    after, _log = _SCHEDULER.review_card(before, FsrsRating(int(rating)), now)
    return dict(after.to_dict()), after.due


def intervals(card: Mapping[str, Any] | None, now: datetime) -> dict[Rating, timedelta]:
    """The time until the question is due again, by rating."""
    return {rating: rated(card, rating, now)[1] - now for rating in Rating}
