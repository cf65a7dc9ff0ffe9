"""What users may use at most. Features hold the limits, and raise OverQuota for what is above one; without any nothing
is limited. Without an owner (no login) none of them is asked.

    require_device_time   before something is accepted that will queue runs
    require_room          in the transaction that queues runs, before its commit and so before any ring
    may_start             in the transaction that claims a run
    require_storage       before bytes are accepted
    given_to              around what gives things to a user
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from sqlalchemy.orm import Session

from app.domain.resources.device_time import Basis
from app.services.hooks import hooks
from app.store.workers import usage


def require_device_time(session: Session, owner_id: int | None) -> None:
    """Raise OverQuota if a user has no device time left."""
    if owner_id is None:
        return
    for added in hooks():
        added.accepting(session, owner_id)


def require_room(session: Session, owner_id: int, seconds: float, basis: Basis) -> None:
    """Raise OverQuota unless what a user has used and reserved is within the limits. The transaction has already added
    `seconds` of device time, predicted from `basis`, and nothing is queued if this raises."""
    for added in hooks():
        added.queued(session, owner_id, seconds, basis)


def require_storage(session: Session, owner_id: int | None, more: int = 0) -> None:
    """Raise OverQuota unless what a user stores, what the user's work in progress will add, and `more` bytes are within
    the limits."""
    if owner_id is None:
        return
    for added in hooks():
        added.storing(session, owner_id, more)


def require_space(session: Session, owner_id: int | None) -> None:
    """Raise OverQuota if a user has reached a limit, before something of unknown size is accepted."""
    require_storage(session, owner_id, 1)


@contextmanager
def given_to(session: Session, owner_id: int | None) -> Iterator[None]:
    """Within it a user is given things. Raises OverQuota at its end if these take the user above a limit."""
    with ExitStack() as held:
        if owner_id is not None:
            for added in hooks():
                held.enter_context(added.giving(session, owner_id))
        yield


def concurrent_runs(session: Session, owner_ids: Iterable[int]) -> dict[int, int]:
    """How many runs of some users may run at the same time, where that is limited."""
    chosen, most = list(owner_ids), dict[int, int]()
    for added in hooks() if chosen else ():
        for owner_id, limit in added.concurrent_runs(session, chosen).items():
            most[owner_id] = min(limit, most.get(owner_id, limit))
    return most


def rooms(session: Session, owner_ids: Iterable[int], running: Mapping[int, int]) -> dict[int, int]:
    """How many more runs of some users may start, where that is limited."""
    return {
        owner_id: limit - running.get(owner_id, 0) for owner_id, limit in concurrent_runs(session, owner_ids).items()
    }


def may_start(session: Session, owner_id: int | None) -> bool:
    """Whether another run of a user may start. Where it is limited, the user is locked until the transaction ends."""
    limit = None if owner_id is None else concurrent_runs(session, [owner_id]).get(owner_id)
    if owner_id is None or limit is None:
        return True
    usage.lock_account(session, owner_id)
    return usage.running_of(session, owner_id) < limit
