"""Whose token a request to the hub carries, and which cache it fills.

The shared cache (`HF_HUB_CACHE`) holds what the hub gives without a user's token: to anyone, or to the workers' own
token. What it gives only to a user's token is in a cache of that user and token, so that it serves this user alone, and
no one once the token is removed or replaced. The shared cache is tried first: the hub sees a user's token only for what
it refuses otherwise. While it does not answer, only what that cache has on disk serves.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from huggingface_hub import constants

from app.domain.models.hub_access import HubAccess
from worker.engine.models.hub.errors import Refused, Unreachable

Found = TypeVar("Found")
_access: HubAccess | None = None
"""Access for the request that this process answers. A process answers one at a time, perhaps in several threads."""


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


def user_cache(access: HubAccess) -> Path:
    """The cache of a user's token, by its digest."""
    digest = hashlib.sha256(f"{access.user_id} {access.token}".encode()).hexdigest()
    return Path(constants.HF_HUB_CACHE) / "users" / digest[:32]


def places() -> list[Place]:
    """The shared cache, then the user's."""
    shared = Place(Path(constants.HF_HUB_CACHE))
    return [shared, Place(user_cache(_access), _access.token, own=True)] if _access else [shared]


def first_allowed(attempt: Callable[[Place], Found], on_disk: Callable[[Place], Found | None] | None = None) -> Found:
    """What an attempt gives with the shared cache, or with the user's if the hub refuses. If the hub does not answer,
    it says nothing about access: then `on_disk` may find it in the user's cache without a request. Raises what the
    last attempt raises."""
    shared, *own = places()
    try:
        return attempt(shared)
    except Refused:
        if not own:
            raise
    except Unreachable:
        found = on_disk(own[0]) if own and on_disk else None
        if found is None:
            raise
        return found
    return attempt(own[0])
