"""Whose token a request to the hub carries, and which cache it fills.

The shared cache (`HF_HUB_CACHE`) holds what the hub gives without a user's token: to anyone, or to the workers' own
token. What it gives only to a user's token is in a cache of that user, so that it serves this user alone. The shared
cache is tried first: the hub sees a user's token only for what it refuses otherwise.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from huggingface_hub import constants

from app.domain.models.hub_access import HubAccess
from worker.engine.models.hub_errors import Refused, Unreachable

Found = TypeVar("Found")
_access: HubAccess | None = None
"""Of the request that this process answers. A process answers one at a time, perhaps in several threads."""


class Place(NamedTuple):
    """A cache, and the token with which it is filled."""

    cache: Path
    token: str | None = None
    """None: the workers' token, if they have one."""
    own: bool = False
    """A user's."""


@contextmanager
def acting_for(access: HubAccess | None) -> Iterator[None]:
    """Use a user's token and cache where the hub refuses without; None: neither."""
    global _access
    before, _access = _access, access
    try:
        yield
    finally:
        _access = before


def user_cache(user_id: int) -> Path:
    """The cache of a user."""
    return Path(constants.HF_HUB_CACHE) / "users" / str(user_id)


def places() -> list[Place]:
    """The shared cache, then the user's."""
    shared = Place(Path(constants.HF_HUB_CACHE))
    return [shared, Place(user_cache(_access.user_id), _access.token, own=True)] if _access else [shared]


def first_allowed(attempt: Callable[[Place], Found]) -> Found:
    """What an attempt gives at the first place where the hub neither refuses nor stays silent. Raises what the last
    attempt raises."""
    *others, last = places()
    for place in others:
        try:
            return attempt(place)
        except (Refused, Unreachable):
            continue
    return attempt(last)
