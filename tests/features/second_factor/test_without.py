"""Without the feature nobody who has a second factor gets in by less, and core pages do without it."""

from copy import copy

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.accounts.policy import Role
from app.domain.errors import Unauthenticated
from app.feature import VARIABLE
from app.features import FEATURES
from app.features.second_factor.tables import SecondFactorRow
from app.main import create_app
from app.services.ownership import stored_secrets
from app.services.ownership.vault import Vault
from app.services.users import links, login
from app.store.users import queries as users
from tests.features.second_factor.test_second_factor import (  # noqa: F401 fixtures
    EMAIL,
    code,
    installation,
    password_hash,
    posted,
    turn_on,
    waiting_of,
)
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.accounts import HERE, PASSWORD, Installation

REFUSED = "This account has a second factor"


def turn_off(made: Installation, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """The same installation without the feature."""
    monkeypatch.setenv(VARIABLE, ",".join(name for name in FEATURES if name != "second_factor"))
    again = copy(made)
    again.app = create_app(made.settings)
    again.app.state.database.dispose()
    again.app.state.database, again.app.state.doorbell = made.database, SilentBell()
    return again


def test_the_password_alone_does_not_log_in(
    installation: Installation,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret, _codes = turn_on(installation)
    waiting = waiting_of(posted(installation.anonymous(), "/login", email=EMAIL, password=PASSWORD))
    without = turn_off(installation, monkeypatch)
    browser = without.anonymous()
    answer = posted(browser, "/login", email=EMAIL, password=PASSWORD)
    assert answer.status_code == 422 and REFUSED in answer.text and "set-cookie" not in answer.headers
    assert REFUSED not in posted(browser, "/login", email=EMAIL, password="wrong").text
    assert posted(browser, "/login/code", waiting=waiting, code=code(secret)).status_code == 404
    body = {"email": EMAIL, "password": PASSWORD, "token": {"name": "ci"}, "code": code(secret)}
    told = browser.post("/api/v1/login", json=body)
    assert told.status_code == 401 and told.json()["detail"].startswith(REFUSED)


def test_a_link_and_single_sign_on_do_not_go_around_it(
    installation: Installation,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turn_on(installation)
    without, own = turn_off(installation, monkeypatch), installation.ids[Role.MEMBER]

    def wait(session: Session, user_id: int) -> str:
        return login.wait_if_needed(session, users.get(session, user_id, lock=True), "single sign-on", {})

    with without.database.transaction() as session:
        secret = links.for_password(session, users.get(session, own, lock=True))
        assert wait(session, installation.ids[Role.ADMIN]) == ""
        with pytest.raises(Unauthenticated, match=REFUSED):
            wait(session, own)
    new = "nine quiet otters sleep"
    answer = posted(without.anonymous(), f"/password/{secret}", password=new, repeated=new)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert "set-cookie" not in answer.headers
    with pytest.raises(Unauthenticated, match=REFUSED):
        login.log_in(without.database, EMAIL, new, HERE)


def test_a_user_without_one_logs_in_and_the_pages_lack_it(
    installation: Installation,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert 'id="factor"' in installation.browser(Role.MEMBER).get("/account").text
    without = turn_off(installation, monkeypatch)
    assert posted(without.anonymous(), "/login", email=EMAIL, password=PASSWORD).status_code == 303
    browser = without.browser(Role.MEMBER)
    shown = browser.get("/account")
    assert shown.status_code == 200 and 'id="factor"' not in shown.text and 'id="sessions"' in shown.text
    assert posted(browser, "/account/factor", current=PASSWORD).status_code == 404


def test_the_list_of_users_has_no_button_of_it(
    installation: Installation,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turn_on(installation)
    own = installation.ids[Role.MEMBER]
    assert f'id="factor-{own}"' in installation.browser(Role.ADMIN).get("/users").text
    admin = turn_off(installation, monkeypatch).browser(Role.ADMIN)
    shown = admin.get("/users")
    assert shown.status_code == 200 and f'id="revoke-{own}"' in shown.text and f'id="factor-{own}"' not in shown.text
    assert posted(admin, f"/users/{own}/factor/reset").status_code == 404


def test_a_new_key_encrypts_its_secrets_too(
    installation: Installation,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turn_on(installation)
    turn_off(installation, monkeypatch)
    with installation.database.reading() as session:
        [before] = session.scalars(select(SecondFactorRow.secret)).all()
    assert stored_secrets.rotate(installation.database, Vault(installation.settings)) >= 1
    with installation.database.reading() as session:
        assert session.scalars(select(SecondFactorRow.secret)).one() != before
