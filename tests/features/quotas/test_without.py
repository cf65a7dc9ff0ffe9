"""Without the feature nothing is limited, the use is recorded all the same, and core pages do without it."""

from pathlib import Path

import pytest

from app.domain.accounts.policy import Role
from app.feature import VARIABLE
from app.features import FEATURES
from app.services.runs import attempts
from app.services.workers import ringing
from app.store.database.session import Database
from app.store.workers import clock
from tests.features.quotas.test_quotas import KILLED, RUN, Account, claim, doing, live, member, submit  # noqa: F401
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.accounts import installed


def turn_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, ",".join(name for name in FEATURES if name != "quotas"))


def test_limits_that_are_set_hold_nothing_and_use_is_recorded(
    member: Account,  # noqa: F811
    registered: Database,
    bell: SilentBell,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    member.limit(concurrent_runs=0, device_seconds=1, stored_bytes=1)
    turn_off(monkeypatch)
    first, second = (submit(member.db, bell) for _run in range(2))
    assert doing(registered, lambda s: ringing.to_ring_again(s, clock.now(s), lock=False)) == [first, second]
    mine, _other = claim(registered, first, 30.0), claim(registered, second, 5.0)
    doing(registered, lambda s: attempts.fail(s, bell, mine, KILLED))
    assert member.numbers == (30.0, RUN) and live(registered) == []


def test_pages_and_routes_are_gone(tmp_path: Path, migrated_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turn_off(monkeypatch)
    with installed(tmp_path, migrated_file) as made:
        browser = made.browser(Role.ADMIN)
        for page in ("/account", "/users"):
            shown = browser.get(page)
            assert shown.status_code == 200 and "/users/limits" not in shown.text and 'id="usage"' not in shown.text
        assert [browser.get(path).status_code for path in ("/users/limits", "/api/v1/me/usage", "/api/v1/quotas")] == [
            404
        ] * 3
