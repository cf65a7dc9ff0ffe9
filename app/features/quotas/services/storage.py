"""The quota of stored bytes: refuse what would not fit, before it is accepted.

    uploads      with the bytes that were received; of a directory or a hub dataset once they are fetched
    datasets     if the limit is reached already: the size of the rows is known once they are written
    runs         with the size of their weights, where the resource estimate knows it
    exports      with their predicted size

What is stored is summed when it is needed, so a deletion makes room at once. The user is locked, so that of two
requests the second sees what the first took. Without an owner there is no limit.
"""

from sqlalchemy.orm import Session

from app.domain.messages import Message, _
from app.domain.resources.devices import size
from app.features.quotas.queries import quotas as queries
from app.features.quotas.rules import OverQuota, Usage
from app.features.quotas.services import quotas
from app.store.users import queries as users


def require_storage(session: Session, owner_id: int | None, more: int = 0) -> None:
    """Raise OverQuota unless what a user stores, what the user's runs and exports in progress will add, and `more`
    bytes are within the limit."""
    user = users.find(session, owner_id)
    if user is None or quotas.limits_of(session, [user])[user.id].stored_bytes is None:
        return
    queries.lock_account(session, user.id)
    limits, usage = quotas.accounts(session, [user])[user.id]
    if limits.stored_bytes is not None and usage.committed_bytes + more > limits.stored_bytes:
        raise OverQuota(_refusal(user.name or user.email, limits.stored_bytes, usage, more))


def require_space(session: Session, owner_id: int | None) -> None:
    """Raise OverQuota if a user has reached the limit, before something of unknown size is accepted."""
    require_storage(session, owner_id, 1)


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
