"""The quota of stored bytes: refuse what would not fit, before it is accepted.

    uploads      with the bytes that were received; of a directory or a hub dataset once they are fetched
    datasets     if the limit is reached already: the size of the rows is known once they are written
    runs         with the size of their weights, where the resource estimate knows it
    exports      with their predicted size

What is stored is summed when it is needed, so a deletion makes room at once. The user is locked, so that of two
requests the second sees what the first took. Without an owner there is no limit.
"""

from sqlalchemy.orm import Session

from app.domain.errors import OverQuota
from app.domain.messages import Message, _
from app.domain.resources.device_time import Basis
from app.domain.resources.devices import size
from app.features.quotas.rules import Usage
from app.features.quotas.services import quotas
from app.store.users import queries as users
from app.store.workers import usage as usage_queries


def require_room(session: Session, owner_id: int, seconds: float, basis: Basis) -> None:
    """Raise OverQuota unless queued runs are within a user's limits of device time (`quotas.require_room`) and of
    stored bytes."""
    quotas.require_room(session, owner_id, seconds, basis)
    require_storage(session, owner_id)


def require_storage(session: Session, owner_id: int | None, more: int = 0) -> None:
    """Raise OverQuota unless what a user stores, what the user's runs and exports in progress will add, and `more`
    bytes are within the limit."""
    user = users.find(session, owner_id)
    if user is None or quotas.limits_of(session, [user])[user.id].stored_bytes is None:
        return
    usage_queries.lock_account(session, user.id)
    limits, usage = quotas.accounts(session, [user])[user.id]
    if limits.stored_bytes is not None and usage.committed_bytes + more > limits.stored_bytes:
        raise OverQuota(_refusal(user.name or user.email, limits.stored_bytes, usage, more))


def _refusal(name: str, limit: int, usage: Usage, more: int) -> Message:
    numbers = {
        "name": name,
        "limit": size(limit),
        "stored": size(usage.stored_bytes),
        "expected": size(usage.expected_bytes),
    }
    if more > 1:
        return _(
            "This needs %(needed)s of the %(limit)s that %(name)s may store: %(stored)s are stored, and runs and"
            " exports in progress will add about %(expected)s. Delete what is not needed, or ask an admin for a higher"
            " limit.",
            needed=size(more),
            **numbers,
        )
    return _(
        "%(name)s may store %(limit)s: %(stored)s are stored, and with this request runs and exports in progress will"
        " add about %(expected)s. Delete what is not needed, or ask an admin for a higher limit.",
        **numbers,
    )
