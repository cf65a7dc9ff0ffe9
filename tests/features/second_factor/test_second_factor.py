"""The second factor: there is no login without a right code, a code works once, and guessing is limited."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import httpx2
import pyotp
import pytest
from cryptography.fernet import Fernet
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import update

from app.cli.users.keys import rotate_key
from app.domain.accounts.audit import AuditFilter
from app.domain.accounts.policy import Role
from app.domain.errors import Conflict, Invalid, NotFound, TooMany, Unauthenticated, Unavailable
from app.features.second_factor import service as second_factor
from app.features.second_factor.tables import PendingLoginRow, SecondFactorRow
from app.services.ownership.vault import KEY_FILE, Vault
from app.services.users import audit, links, login, passwords, sessions, throttle, users
from app.services.users.login import CodeNeeded
from app.settings import Settings
from app.store.database.session import Database
from app.store.tables import LoginSessionRow, now
from app.store.users import queries as user_queries
from app.web.http.csrf import SESSION_COOKIE
from tests.support.rows.accounts import HERE, PASSWORD, Installation, installed

EMAIL = "member@example.org"


@pytest.fixture(scope="module")
def password_hash() -> str:
    return passwords.accepted(PASSWORD)


@pytest.fixture
def installation(tmp_path: Path, migrated_file: Path, password_hash: str) -> Iterator[Installation]:
    with installed(tmp_path, migrated_file) as made:
        with made.database.transaction() as session:
            user_queries.get(session, made.ids[Role.MEMBER]).password_hash = password_hash
        yield made


def code(secret: str, steps: int = 0) -> str:
    return pyotp.TOTP(secret).at(now() + timedelta(seconds=30 * steps))


def turn_on(made: Installation) -> tuple[str, list[str]]:
    """Give the member a factor, by the app's code of a minute ago. Returns secret and recovery codes."""
    vault, own = Vault(made.settings), made.ids[Role.MEMBER]
    with made.database.transaction() as session:
        user = user_queries.get(session, own, lock=True)
        second_factor.begin(session, vault, user)
        found = second_factor.setup_of(session, vault, user)
    assert found is not None
    return found[0], second_factor.confirm(made.database, vault, own, code(found[0], -1))


def posted(client: TestClient, path: str, **form: str) -> httpx2.Response:
    return client.post(path, data=form, headers={"sec-fetch-site": "same-origin"})


def waiting_of(answer: httpx2.Response) -> str:
    found = re.search(r'name="waiting" value="([^"]+)"', answer.text)
    assert found, answer.text
    return found[1]


def test_a_user_sets_it_up_by_qr_code_or_key_and_logs_in_with_a_code(installation: Installation) -> None:
    browser = installation.browser(Role.MEMBER)
    refused = posted(browser, "/account/factor", current="wrong")
    assert refused.status_code == 422 and "current password" in refused.text
    shown = posted(browser, "/account/factor", current=PASSWORD)
    assert 'class="qr"' in shown.text and shown.headers["cache-control"] == "no-store"
    secret = re.search(r'<code id="factor-key">([A-Z2-7 ]+)</code>', shown.text)
    assert secret is not None
    key = secret[1].replace(" ", "")
    wrong = posted(browser, "/account/factor/confirm", code="000000" if code(key) != "000000" else "000001")
    assert wrong.status_code == 422 and "wrong" in wrong.text
    assert (
        key[:4] not in wrong.text and 'class="qr"' not in wrong.text
    )  # a session without the password does not get it
    done = posted(browser, "/account/factor/confirm", code=code(key, -1))
    assert len(re.findall(r"(?:[a-z2-7]{4}-){3}[a-z2-7]{4}", done.text)) == 10

    visitor = installation.anonymous()
    asked = posted(visitor, "/login", email=EMAIL, password=PASSWORD, next="/runs")
    assert asked.status_code == 200 and "set-cookie" not in asked.headers
    waiting = waiting_of(asked)
    refused = posted(visitor, "/login/code", waiting=waiting, code="12345", next="/runs")
    assert refused.status_code == 422 and "set-cookie" not in refused.headers
    entered = posted(visitor, "/login/code", waiting=waiting, code=code(key), next="/runs")
    assert (entered.status_code, entered.headers["location"]) == (303, "/runs")
    assert SESSION_COOKIE in entered.headers["set-cookie"]
    again = posted(installation.anonymous(), "/login/code", waiting=waiting, code=code(key, 1))
    assert again.status_code == 422 and "expired" in again.text


def test_a_secret_that_is_not_confirmed_expires(installation: Installation) -> None:
    db, vault, own = installation.database, Vault(installation.settings), installation.ids[Role.MEMBER]
    with db.transaction() as session:
        user = user_queries.get(session, own, lock=True)
        second_factor.begin(session, vault, user)
        setup = second_factor.setup_of(session, vault, user)
        session.execute(update(SecondFactorRow).values(created_at=now() - timedelta(minutes=11)))
    assert setup is not None
    with pytest.raises(Conflict, match="expired"):
        second_factor.confirm(db, vault, own, code(setup[0]))
    with db.transaction() as session:
        second_factor.forget(session)
        assert session.query(SecondFactorRow).count() == 0
        second_factor.begin(session, vault, user_queries.get(session, own, lock=True))
        second_factor.forget(session)
        assert session.query(SecondFactorRow).count() == 1


def test_the_limit_is_recorded_once_in_its_window(installation: Installation) -> None:
    turn_on(installation)
    db, vault, own = installation.database, Vault(installation.settings), installation.ids[Role.MEMBER]
    for _try in range(13):
        with pytest.raises((Invalid, TooMany)):
            second_factor.check(db, vault, own, "no code")
        for typed in (EMAIL, "my secret password"):
            with suppress(TooMany):
                throttle.failed(db, typed, HERE.address)
    failed = [
        (entry.subject, entry.details.get("limit"))
        for entry in audit.entries(db, AuditFilter(), 0)
        if entry.action == "session.login_failed"
    ]
    assert failed.count((EMAIL, None)) == 10
    assert [each for each in failed if each[1]] == [(EMAIL, "codes"), (EMAIL, "account"), ("", "account")]


def test_a_wrong_password_does_not_say_that_there_is_a_factor(installation: Installation) -> None:
    turn_on(installation)
    answer = posted(installation.anonymous(), "/login", email=EMAIL, password="wrong")
    assert "wrong" in answer.text and "waiting" not in answer.text


def test_the_api_needs_a_code_too(installation: Installation) -> None:
    secret, _codes = turn_on(installation)
    client, body = installation.anonymous(), {"email": EMAIL, "password": PASSWORD, "token": {"name": "ci"}}
    refused = client.post("/api/v1/login", json=body)
    assert refused.status_code == 422 and refused.json()["errors"][0]["path"] == "code"
    assert client.post("/api/v1/login", json=body | {"code": "000"}).status_code == 422
    assert client.post("/api/v1/login", json=body | {"code": code(secret)}).status_code == 201
    assert client.post("/api/v1/login", json=body | {"code": code(secret)}).status_code == 422  # the same again


def test_a_link_that_sets_a_password_does_not_go_around_it(installation: Installation) -> None:
    turn_on(installation)
    own = installation.ids[Role.MEMBER]
    with installation.database.transaction() as session:
        secret = links.for_password(session, user_queries.get(session, own, lock=True))
    new = "nine quiet otters sleep"
    answer = posted(installation.anonymous(), f"/password/{secret}", password=new, repeated=new)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert "set-cookie" not in answer.headers


def test_a_code_is_accepted_once_also_by_two_requests_at_the_same_time(
    database: Database, tmp_path: Path, password_hash: str
) -> None:
    made = _on(database, tmp_path, password_hash)
    secret, _codes = turn_on(made)
    vault, own, barrier = Vault(made.settings), made.ids[Role.MEMBER], Barrier(2)

    def use(_which: int) -> bool:
        barrier.wait(10)
        try:
            second_factor.check(database, vault, own, code(secret))
        except Invalid:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(use, range(2))) == [False, True]
    with pytest.raises(Invalid):  # an earlier one than the last
        second_factor.check(database, vault, own, code(secret, -1))
    second_factor.check(database, vault, own, code(secret, 1))


def _on(database: Database, home: Path, password_hash: str) -> Installation:
    url = SecretStr(database.url.render_as_string(hide_password=False))
    made = Installation(Settings(home=home, login="required", database_url=url))
    with made.database.transaction() as session:
        user_queries.get(session, made.ids[Role.MEMBER]).password_hash = password_hash
    return made


@pytest.mark.parametrize("steps", [-10, -2, 2, 10])
def test_a_code_of_another_time_is_refused(installation: Installation, steps: int) -> None:
    secret, _codes = turn_on(installation)
    with installation.database.transaction() as session:
        session.execute(update(SecondFactorRow).values(last_step=0))
    with pytest.raises(Invalid):
        second_factor.check(
            installation.database, Vault(installation.settings), installation.ids[Role.MEMBER], code(secret, steps)
        )


def test_a_recovery_code_works_once_however_it_is_typed(installation: Installation) -> None:
    _secret, codes = turn_on(installation)
    vault, own = Vault(installation.settings), installation.ids[Role.MEMBER]
    second_factor.check(installation.database, vault, own, f" {codes[3].upper().replace('-', ' ')} ")
    with pytest.raises(Invalid):
        second_factor.check(installation.database, vault, own, codes[3])
    with installation.database.transaction() as session:
        newer = second_factor.renew_codes(session, user_queries.get(session, own, lock=True))
    with pytest.raises(Invalid):
        second_factor.check(installation.database, vault, own, codes[4])
    second_factor.check(installation.database, vault, own, newer[4])


@pytest.mark.slow
def test_guessing_is_limited_and_a_right_password_does_not_lift_that(installation: Installation) -> None:
    secret, _codes = turn_on(installation)
    db, vault, own = installation.database, Vault(installation.settings), installation.ids[Role.MEMBER]
    for _try in range(10):
        with pytest.raises(CodeNeeded):
            login.log_in(db, EMAIL, PASSWORD, HERE)
        with pytest.raises(Invalid):
            second_factor.check(db, vault, own, "no code")
    with pytest.raises(TooMany):
        second_factor.check(db, vault, own, code(secret))
    asked = posted(installation.anonymous(), "/login", email=EMAIL, password=PASSWORD)
    answer = posted(installation.anonymous(), "/login/code", waiting=waiting_of(asked), code=code(secret))
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("how", ["time", "password", "disabled", "enabled again", "revoked", "reset"])
def test_a_login_does_not_wait_for_ever(installation: Installation, password_hash: str, how: str) -> None:
    secret, _codes = turn_on(installation)
    db, vault, own = installation.database, Vault(installation.settings), installation.ids[Role.MEMBER]
    with pytest.raises(CodeNeeded) as needed:
        login.log_in(db, EMAIL, PASSWORD, HERE)
    with db.transaction() as session:
        if how == "time":
            session.execute(update(PendingLoginRow).values(expires_at=now() - timedelta(seconds=1)))
        elif how == "password":
            users.set_password(session, user_queries.get(session, own, lock=True), password_hash)
        elif how == "disabled":
            users.set_disabled(session, own, True)
        elif how == "enabled again":
            users.set_disabled(session, own, True)
            users.set_disabled(session, own, False)
        elif how == "revoked":
            link = links.for_password(session, user_queries.get(session, own, lock=True))
            users.revoke_access(session, own)
            with pytest.raises(NotFound):
                links.user_of(session, link)
        else:
            second_factor.remove(session, user_queries.get(session, own, lock=True))
    with pytest.raises(Unauthenticated):
        login.finish(
            db, vault, needed.value.waiting, code(secret), lambda session, user: sessions.begin(session, user, HERE)
        )
    with db.reading() as session:
        assert session.query(LoginSessionRow).count() == 0


def test_an_admin_resets_it(installation: Installation) -> None:
    turn_on(installation)
    own, admin = installation.ids[Role.MEMBER], installation.browser(Role.ADMIN)
    assert "Reset factor" in admin.get("/users").text
    assert posted(installation.browser(Role.VIEWER), f"/users/{own}/factor/reset").status_code == 403
    assert posted(admin, f"/users/{own}/factor/reset").status_code == 303
    assert login.log_in(installation.database, EMAIL, PASSWORD, HERE)


def test_the_database_has_neither_the_secret_nor_a_recovery_code(installation: Installation, tmp_path: Path) -> None:
    secret, codes = turn_on(installation)
    installation.database.dispose()
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("vezna.sqlite*"))
    for text in (secret, *codes, *(each.replace("-", "") for each in codes)):
        assert text.encode() not in stored
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_the_command_encrypts_every_secret_by_the_first_key(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret, _codes = turn_on(installation)
    file, new = installation.settings.home / KEY_FILE, Fernet.generate_key()
    file.write_bytes(new + b"\n" + file.read_bytes())
    monkeypatch.setenv("VEZNA_HOME", str(installation.settings.home))
    rotate_key()
    assert "Encrypted 1 secret" in capsys.readouterr().out
    file.write_bytes(new)
    second_factor.check(
        installation.database, Vault(installation.settings), installation.ids[Role.MEMBER], code(secret)
    )


def test_keys_are_replaced_and_a_missing_one_is_said(tmp_path: Path) -> None:
    old, new = (Fernet.generate_key().decode() for _key in range(2))

    def vault(*keys: str) -> Vault:
        return Vault(Settings(home=tmp_path, encryption_key=SecretStr("\n".join(keys))))

    stored = vault(old).encrypt("hidden")
    assert vault(new, old).decrypt(stored) == "hidden"
    assert vault(new).decrypt(vault(new, old).rotate(stored)) == "hidden"
    with pytest.raises(Unavailable, match="its key is missing"):
        vault(new).decrypt(stored)
    with pytest.raises(Unavailable, match="openssl rand") as refused:
        vault("not a key")
    assert "not a key" not in refused.value.message
