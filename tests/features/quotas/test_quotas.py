"""Quotas of device time and of concurrent runs, on SQLite and on PostgreSQL."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.broker.queue import TRAIN
from app.domain.accounts.ownership import Viewer
from app.domain.accounts.policy import Role
from app.domain.accounts.users import NewUser
from app.domain.errors import OverQuota
from app.domain.failures import Failure, FailureCode
from app.domain.methods import FullSpec, HeadOnlySpec
from app.domain.resources.device_time import ASSUMED_SECONDS
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.features.quotas.rules import LimitChange, Usage
from app.features.quotas.services import quotas
from app.services.ownership import deletion
from app.services.runs import attempts, runs
from app.services.runs.attempts import Claim
from app.services.studies import studies
from app.services.users import users
from app.services.workers import ringing
from app.services.workers.sweep import sweep
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.tables import DeviceUsageRow, RunRow, StudyRow
from app.store.users import queries as user_queries
from app.store.workers import clock
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.attempted import LEASE, SPEC, let_lease_expire, row
from tests.support.rows.results import evaluation, result

RUN = int(ASSUMED_SECONDS)
"""What a run reserves of which nothing is known."""
FULL, HEAD = ArmSpec(method=FullSpec()), ArmSpec(method=HeadOnlySpec())
KILLED = Failure(code=FailureCode.KILLED, message="killed")


@dataclass
class Account:
    """A member, and the database as the member's requests see it."""

    id: int
    db: Database

    def limit(self, **values: Any) -> None:
        with self.db.transaction() as session:
            user = user_queries.get(session, self.id)
            quotas.change_limits(session, user, LimitChange.model_validate(values))

    @property
    def usage(self) -> Usage:
        with self.db.reading() as session:
            return quotas.account_of(session, self.id).usage

    @property
    def numbers(self) -> tuple[float, float]:
        """Device-seconds used and reserved."""
        return round(self.usage.used_seconds, 3), round(self.usage.reserved_seconds, 3)


@dataclass
class StoppedClock:
    """A clock that shows what it is told."""

    device_seconds: float


@pytest.fixture
def member(registered: Database) -> Account:
    with registered.transaction() as session:
        user_id = users.create(session, NewUser(email="ada@example.org", role=Role.MEMBER)).id
    return Account(user_id, registered.seen_by(Viewer(user_id)))


def study_spec(**values: Any) -> StudySpec:
    usual = {"name": "s", "base_model": "tiny", "dataset": "small", "arms": [FULL, HEAD], "seeds": [0, 1]}
    return StudySpec.model_validate(usual | values)


def submit(db: Database, bell: SilentBell, spec: RunSpec = SPEC) -> int:
    with db.transaction() as session:
        return runs.submit(session, bell, spec).id


def submit_study(db: Database, bell: SilentBell, **values: Any) -> int:
    with db.transaction() as session:
        return studies.submit(session, bell, study_spec(**values)).id


def claim(db: Database, run_id: int, seconds: float) -> Claim:
    """A claim whose attempt has taken some device-seconds."""
    with db.transaction() as session:
        mine = attempts.claim(session, run_id, "w1", LEASE)
    assert mine is not None
    object.__setattr__(mine, "clock", StoppedClock(seconds))
    return mine


def doing(db: Database, act: Callable[[Session], Any]) -> Any:
    with db.transaction() as session:
        return act(session)


def live(db: Database) -> list[int]:
    with db.reading() as session:
        return list(session.scalars(select(RunRow.id).where(RunRow.status == "queued").order_by(RunRow.id)))


def test_an_excess_is_refused_with_the_numbers_and_nothing_is_queued(member: Account, bell: SilentBell) -> None:
    member.limit(device_seconds=3 * RUN)
    first = submit_study(member.db, bell, seeds=[0])
    assert member.numbers == (0, 2 * RUN) and len(live(member.db)) == 2
    rung = list(bell.rung)
    with pytest.raises(OverQuota) as refused:
        submit_study(member.db, bell)
    for words in ("about 40 min of device time", "no estimate yet: 10 min a run", "10 min are left of the 30 min",
                  "ada@example.org", "0 s are used and 20 min reserved"):  # fmt: skip
        assert words in refused.value.message
    assert len(live(member.db)) == 2 and bell.rung == rung
    submit(member.db, bell)
    with pytest.raises(OverQuota):
        submit(member.db, bell)
    with pytest.raises(OverQuota):
        doing(member.db, lambda s: studies.add_seeds(s, bell, first, 1))
    with pytest.raises(OverQuota):
        doing(member.db, lambda s: studies.add_arm(s, bell, first, ArmSpec(method=FullSpec(), learning_rate=1e-3)))
    assert member.numbers == (0, 3 * RUN)


def test_the_role_limits_users_without_a_limit_of_their_own(member: Account, bell: SilentBell) -> None:
    doing(member.db, lambda s: quotas.change_limits(s, Role.MEMBER, LimitChange(device_seconds=RUN)))
    submit(member.db, bell)
    with pytest.raises(OverQuota):
        submit(member.db, bell)
    member.limit(device_seconds="unlimited")
    submit(member.db, bell)
    member.limit(device_seconds="default")
    with pytest.raises(OverQuota):
        submit(member.db, bell)


def test_without_an_owner_nothing_is_reserved_or_charged(registered: Database, bell: SilentBell) -> None:
    mine = claim(registered, submit(registered, bell), 5.0)
    doing(registered, lambda s: attempts.finish(s, bell, mine, result(), {}))
    with registered.reading() as session:
        assert session.scalars(select(DeviceUsageRow)).all() == []
    assert row(registered, mine.run_id).reserved_seconds == 0


def test_each_attempt_is_charged_once_and_the_end_replaces_the_reservation(member: Account, bell: SilentBell) -> None:
    run_id = submit(member.db, bell)
    first = claim(member.db, run_id, 100.0)
    doing(member.db, lambda s: attempts.report(s, first, 1, [], LEASE))
    assert member.numbers == (0, RUN)
    doing(member.db, lambda s: attempts.retry(s, bell, first, KILLED, 3))
    assert member.numbers == (100, RUN - 100), "what it has used, it no longer reserves"
    second = claim(member.db, run_id, RUN + 50.0)
    doing(member.db, lambda s: attempts.report(s, second, 1, [], LEASE))
    assert member.numbers == (100, RUN + 50), "more than was predicted"
    doing(member.db, lambda s: attempts.finish(s, bell, second, result(), {}))
    assert member.numbers == (RUN + 150, 0)
    with pytest.raises(attempts.Fenced):
        doing(member.db, lambda s: attempts.finish(s, bell, second, result(), {}))
    doing(member.db, lambda s: deletion.delete_run(s, Files("memory://quotas"), run_id))
    assert member.numbers == (RUN + 150, 0), "what was used stays used"


def test_the_time_of_a_lost_attempt_is_charged_up_to_its_last_report(
    member: Account, registered: Database, bell: SilentBell, settings: Settings
) -> None:
    run_id = submit(member.db, bell)
    lost = claim(registered, run_id, 40.0)
    doing(registered, lambda s: attempts.report(s, lost, 1, [], LEASE))
    object.__setattr__(lost, "clock", StoppedClock(4000.0))  # the worker went on unseen
    let_lease_expire(registered, run_id)
    doing(registered, lambda s: sweep(s, bell, settings))
    assert member.numbers == (40, RUN - 40)
    again = claim(registered, run_id, 10.0)
    doing(registered, lambda s: attempts.report(s, again, 1, [], LEASE))
    doing(registered, lambda s: s.execute(update(RunRow).values(attempts=99)))
    let_lease_expire(registered, run_id)
    doing(registered, lambda s: sweep(s, bell, settings))
    assert row(registered, run_id).status == "failed" and member.numbers == (50, 0)


def test_a_cancelled_or_deleted_study_releases_everything(member: Account, bell: SilentBell) -> None:
    study = submit_study(member.db, bell, tuning="grid")
    grid, counting = 2 * 3 * RUN, 4 * RUN
    assert member.numbers == (0, grid + counting), "the runs that follow from tuning are reserved as well"
    running = claim(member.db, live(member.db)[0], 30.0)
    doing(member.db, lambda s: studies.cancel(s, bell, study))
    assert member.numbers == (0, RUN), "of the run that its worker still ends"
    doing(member.db, lambda s: attempts.stop(s, bell, running))
    assert member.numbers == (30, 0)
    doing(member.db, lambda s: deletion.delete_study(s, Files("memory://quotas"), study))
    assert member.numbers == (30, 0)


def test_a_tuned_study_goes_on_within_its_reservation_whatever_the_limit_is_by_then(
    member: Account, bell: SilentBell
) -> None:
    member.limit(device_seconds=5 * RUN)
    study = submit_study(member.db, bell, tuning="grid", arms=[FULL])
    assert member.numbers == (0, 5 * RUN)
    member.limit(device_seconds=1)
    reached = result().model_copy(update={"evaluations": [evaluation("adapted", "validation", 0.5)]})
    for run_id in live(member.db):
        mine = claim(member.db, run_id, 7.0)
        doing(member.db, lambda s, m=mine: attempts.finish(s, bell, m, reached, {}))
    assert len(live(member.db)) == 2, "the runs that count are queued, although the limit has no room"
    assert member.numbers == (21, 2 * RUN)
    with member.db.reading() as session:
        row_ = session.get_one(StudyRow, study)
        assert not row_.tuning and row_.reserved_json == {}


def test_stopping_an_arm_releases_what_its_tuning_would_have_queued(member: Account, bell: SilentBell) -> None:
    study = submit_study(member.db, bell, tuning="grid")
    doing(member.db, lambda s: studies.stop_arm(s, bell, study, study_spec().arms[0].title))
    assert member.numbers == (0, 3 * RUN + 2 * RUN)
    doing(member.db, lambda s: studies.add_seeds(s, bell, study, 2))
    assert member.numbers == (0, 3 * RUN + 4 * RUN), "of the arm that is still tuned"


def test_several_devices_count_several_times(member: Account, bell: SilentBell) -> None:
    training = TrainingArguments(devices=2, gradient_accumulation_steps=2)
    run_id = submit(member.db, bell, SPEC.model_copy(update={"training": training}))
    assert member.numbers == (0, 2 * RUN)
    with member.db.transaction() as session:
        mine = attempts.claim(session, run_id, "w1", LEASE)
    assert mine is not None and mine.clock is not None
    before = time.monotonic()
    time.sleep(0.05)
    assert mine.clock.device_seconds >= 2 * 0.05
    mine.clock.share = lambda: 1.5
    assert mine.clock.device_seconds == 3.0 and time.monotonic() - before < 1.0


def test_of_two_simultaneous_submissions_one_gets_the_room_that_is_left(member: Account, bell: SilentBell) -> None:
    member.limit(device_seconds=RUN)
    together = Barrier(2)

    def one() -> bool:
        together.wait()
        try:
            submit(member.db, bell)
        except OverQuota:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        accepted = [future.result() for future in [pool.submit(one) for _ in range(2)]]
    assert sorted(accepted) == [False, True] and len(live(member.db)) == 1


def test_runs_above_the_limit_wait_are_not_rung_for_and_start_when_one_ends(
    member: Account, registered: Database, bell: SilentBell, settings: Settings
) -> None:
    member.limit(concurrent_runs=1)
    first, second, third = (submit(member.db, bell) for _ in range(3))
    other = submit(registered, bell)
    mine = claim(registered, first, 1.0)
    assert doing(registered, lambda s: attempts.claim(s, second, "w2", LEASE)) is None
    assert doing(registered, lambda s: attempts.claim(s, other, "w2", LEASE)) is not None
    doing(registered, lambda s: s.execute(update(RunRow).values(rung_at=None)))
    with registered.reading() as session:
        assert ringing.to_ring_again(session, clock.now(session), lock=False) == []
    bell.rung.clear()
    doing(registered, lambda s: attempts.finish(s, bell, mine, result(), {}))
    assert bell.rung == [(TRAIN, second)]
    with registered.reading() as session:
        again = ringing.to_ring_again(session, clock.now(session), lock=False)
    assert again == [second], "one may start"
    member.limit(concurrent_runs=2)
    assert doing(registered, lambda s: attempts.claim(s, second, "w2", LEASE)) is not None
    assert doing(registered, lambda s: attempts.claim(s, third, "w3", LEASE)) is not None


def test_of_two_simultaneous_claims_of_a_user_at_the_limit_one_starts(
    member: Account, registered: Database, bell: SilentBell
) -> None:
    member.limit(concurrent_runs=1)
    waiting, together = [submit(member.db, bell) for _ in range(2)], Barrier(2)

    def one(run_id: int) -> bool:
        together.wait()
        return registered.write(lambda session: attempts.claim(session, run_id, f"w{run_id}", LEASE)) is not None

    with ThreadPoolExecutor(2) as pool:
        started = list(pool.map(one, waiting))
    assert sorted(started) == [False, True]
