"""Quotas of users: their limits, and what is used of them.

Where a limit is set, its user is locked, so that of two transactions the second sees what the first took. What is
reserved is the sum over live runs and studies, not a counter: whatever ends a run releases its reservation. Without an
owner (no login) nothing here is asked.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from math import ceil
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.accounts.policy import Role
from app.domain.errors import OverQuota
from app.domain.messages import Message, _
from app.domain.resources.device_time import Basis, reserved
from app.domain.resources.devices import size
from app.domain.runs.status import RunStatus
from app.features.quotas.queries import quotas, storage
from app.features.quotas.rules import LimitChange, Limits, Quota, Usage, month_of, of_role, of_user
from app.services.hooks import all_hooks
from app.services.users import audit
from app.services.users.users import by_email
from app.store.tables import UserRow, now
from app.store.users import queries as users
from app.store.workers import queue
from app.store.workers import usage as usage_queries

RING_AT_ONCE = 32
"""Waiting runs that a raised limit has the next sweep ring for; the later sweeps ring for the others."""


class Account(NamedTuple):
    """A user's limits and usage."""

    limits: Limits
    usage: Usage


def limits_of(session: Session, rows: Iterable[UserRow]) -> dict[int, Limits]:
    """The limits in effect for some users, by id."""
    chosen = list(rows)
    subjects = {of_user(user.id) for user in chosen} | {of_role(user.role) for user in chosen}
    stored = quotas.limits(session, subjects) if chosen else {}

    def amount(user: UserRow, quota: Quota) -> int | None:
        own = (of_user(user.id), quota)
        return stored[own] if own in stored else stored.get((of_role(user.role), quota))

    return {user.id: Limits(**{quota.value: amount(user, quota) for quota in Quota}) for user in chosen}


def accounts(session: Session, rows: Iterable[UserRow], at: datetime | None = None) -> dict[int, Account]:
    """Limits and usage of some users, by id."""
    chosen = list(rows)
    ids = [user.id for user in chosen]
    used = usage_queries.used_seconds(session, ids, month_of(at or now()))
    running, waiting = dict.fromkeys(ids, 0), dict.fromkeys(ids, 0)
    kept = dict.fromkeys(ids, 0.0)
    for run in usage_queries.live_runs(session, ids):
        runs_now = run.status == RunStatus.RUNNING
        (running if runs_now else waiting)[run.owner_id] += 1
        kept[run.owner_id] += reserved(run.reserved, run.charged, run.attempt if runs_now else 0.0)
    for owner_id, by_arm in quotas.reserved_by_studies(session, ids):
        kept[owner_id] += sum(by_arm.values())
    stored, expected = Counter(storage.stored_bytes(session, ids)), Counter(storage.expected_bytes(session, ids))
    for added in all_hooks():
        stored.update(added.stored_bytes(session, ids))
        expected.update(added.expected_bytes(session, ids))
    return {
        user_id: Account(
            limits,
            Usage(
                running[user_id],
                waiting[user_id],
                used.get(user_id, 0.0),
                kept[user_id],
                stored[user_id],
                expected[user_id],
            ),
        )
        for user_id, limits in limits_of(session, chosen).items()
    }


def account_of(session: Session, user_id: int) -> Account:
    """Limits and usage of a user. Raises NotFound."""
    return accounts(session, [users.get(session, user_id)])[user_id]


def require_room(session: Session, owner_id: int, seconds: float, basis: Basis) -> None:
    """Raise OverQuota unless what a user has used and reserved is within the limit. The transaction has already added
    `seconds`, predicted from `basis`, and nothing is queued if this raises."""
    user = users.find(session, owner_id)
    if user is None or limits_of(session, [user])[owner_id].device_seconds is None:
        return
    usage_queries.lock_account(session, owner_id)
    limits, usage = accounts(session, [user])[owner_id]
    if limits.device_seconds is None or usage.committed_seconds <= limits.device_seconds:
        return
    others = max(0.0, usage.reserved_seconds - seconds)
    raise OverQuota(
        _(
            "This needs about %(needed)s of device time (%(basis)s), but %(left)s are left of the %(limit)s that"
            " %(name)s may use this month: %(used)s are used and %(reserved)s reserved. Submit less, cancel runs that"
            " wait, or ask an admin for a higher limit.",
            needed=time(seconds),
            basis=basis.sentence,
            left=time(max(0.0, limits.device_seconds - usage.used_seconds - others)),
            limit=time(limits.device_seconds),
            name=user.name or user.email,
            used=time(usage.used_seconds),
            reserved=time(others),
        )
    )


def require_device_time(session: Session, owner_id: int | None) -> None:
    """Raise OverQuota if a user has no device time left, before something is accepted that will queue runs."""
    user = users.find(session, owner_id)
    if user is None or limits_of(session, [user])[user.id].device_seconds is None:
        return
    limits, usage = accounts(session, [user])[user.id]
    if limits.device_seconds is None or usage.committed_seconds < limits.device_seconds:
        return
    raise OverQuota(
        _(
            "Of the %(limit)s of device time that %(name)s may use this month, %(used)s are used and %(reserved)s"
            " reserved. Cancel runs that wait, or ask an admin for a higher limit.",
            limit=time(limits.device_seconds),
            name=user.name or user.email,
            used=time(usage.used_seconds),
            reserved=time(usage.reserved_seconds),
        )
    )


def committed(session: Session, owner_id: int | None) -> Usage | None:
    """What a user uses and reserves before something is given to the user; None without a user."""
    user = users.find(session, owner_id)
    return accounts(session, [user])[user.id].usage if user else None


@contextmanager
def given_to(session: Session, owner_id: int) -> Iterator[None]:
    """Raise OverQuota if what is given to a user meanwhile takes the user above a limit."""
    before = committed(session, owner_id)
    yield
    require_room_for_transfer(session, owner_id, before)


def require_room_for_transfer(session: Session, owner_id: int | None, before: Usage | None) -> None:
    """Raise OverQuota if a user that had committed `before` now is above a limit, by what was given to the user."""
    user = users.find(session, owner_id)
    if user is None or before is None:
        return
    limits, usage = accounts(session, [user])[user.id]
    name = user.name or user.email
    seconds, stored = limits.device_seconds, limits.stored_bytes
    if seconds is not None and usage.committed_seconds > max(before.committed_seconds, seconds):
        raise OverQuota(
            _(
                "%(name)s has not enough device time left this month for what waits or runs here. Wait until it has"
                " ended, or ask an admin for a higher limit.",
                name=name,
            )
        )
    if stored is not None and usage.committed_bytes > max(before.committed_bytes, stored):
        raise OverQuota(
            _(
                "This adds %(more)s to what %(name)s stores, and %(limit)s are allowed. Delete what is not needed, or"
                " ask an admin for a higher limit.",
                more=size(usage.committed_bytes - before.committed_bytes),
                name=name,
                limit=size(stored),
            )
        )


def change_limits(session: Session, subject: Role | UserRow, change: LimitChange) -> None:
    """Set limits of a role or of a user, and have the next sweep ring for runs that may start now."""
    stored = of_role(subject) if isinstance(subject, Role) else of_user(subject.id)
    for quota, value in change.given.items():
        if value == "default":
            quotas.drop_limit(session, stored, quota)
        else:
            quotas.set_limit(session, stored, quota, None if value == "unlimited" else int(value))
    concerned = [subject] if isinstance(subject, UserRow) else _of_role(session, subject)
    for user in concerned:
        queue.forget_rings(session, queue.next_queued(session, user.id, limit=RING_AT_ONCE))
    name = subject.value if isinstance(subject, Role) else subject.email
    details: dict[str, Any] = {quota.value: value for quota, value in change.given.items()}
    audit.record(session, Action.CHANGE_LIMITS, name, **details)


def subject_of(session: Session, text: str) -> Role | UserRow:
    """A role by its name, or a user by the e-mail address. Raises NotFound."""
    return Role(text) if text in list(Role) else by_email(session, text)


def role_limits(session: Session) -> dict[Role, Limits]:
    """The limits of the roles."""
    stored = quotas.limits(session, map(of_role, Role))
    return {role: Limits(**{quota.value: stored.get((of_role(role), quota)) for quota in Quota}) for role in Role}


def own_limits(session: Session, rows: Iterable[UserRow]) -> dict[int, dict[Quota, int | None]]:
    """The limits that are set for users themselves; None: unlimited."""
    chosen = list(rows)
    stored = quotas.limits(session, [of_user(user.id) for user in chosen])
    return {
        user.id: {quota: stored[of_user(user.id), quota] for quota in Quota if (of_user(user.id), quota) in stored}
        for user in chosen
    }


def time(seconds: float) -> Message:
    """`3 h 20 min`, `12 min`, `40 s`."""
    if seconds < 60:
        return _("%(seconds)s s", seconds=ceil(seconds))
    minutes = round(seconds / 60)
    if minutes < 60:
        return _("%(minutes)s min", minutes=minutes)
    return _("%(hours)s h %(minutes)s min", hours=minutes // 60, minutes=minutes % 60)


def concurrent_runs(session: Session, user_ids: Sequence[int]) -> dict[int, int]:
    """How many runs of some users may run at the same time, where that is limited."""
    limits = limits_of(session, users.some(session, user_ids))
    return {user_id: of.concurrent_runs for user_id, of in limits.items() if of.concurrent_runs is not None}


def _of_role(session: Session, role: Role) -> Sequence[UserRow]:
    return [user for user in users.all_of_them(session) if user.role is role]
