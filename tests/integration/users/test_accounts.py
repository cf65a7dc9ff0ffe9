"""Users, sessions, tokens, links and the limit on logins, on SQLite and on PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier, Semaphore

import pytest
from sqlalchemy import select

from app.domain.accounts.policy import Role, Scope
from app.domain.accounts.users import NewUser
from app.domain.errors import Conflict, Invalid, NotFound, TooMany, Unauthenticated, Unavailable
from app.services.users import links, login, passwords, sessions, throttle, tokens, users
from app.services.users.sessions import Visitor
from app.services.users.tokens import NewToken
from app.store.database.session import Database
from app.store.tables import ApiTokenRow, LoginFailuresRow, LoginSessionRow, OneTimeLinkRow, UserRow, now
from app.store.users import login_sessions
from tests.support.rows.accounts import verified

PASSWORD = "seven grey herons wait"
HERE = Visitor("198.51.100.7", "Mozilla/5.0")


@pytest.fixture(scope="module")
def password_hash() -> str:
    return passwords.accepted(PASSWORD)


def user(db: Database, password_hash: str | None, email: str = "ada@example.org", role: Role = Role.MEMBER) -> int:
    with db.transaction() as session:
        return users.create(session, NewUser(email=email, role=role), password_hash).id


def session_of(db: Database, user_id: int) -> str:
    with db.transaction() as session:
        return sessions.begin(session, session.get_one(UserRow, user_id), HERE)


@pytest.mark.parametrize(
    "password", ["short", "password1234", "qwertyuiop12", "aaaaaaaaaaaa", "123456789012", "ada@example.org", "x" * 1025]
)
def test_a_short_common_or_obvious_password_is_refused(password: str) -> None:
    with pytest.raises(Invalid) as refused:
        passwords.check(password, "ada@example.org")
    assert [field.path for field in refused.value.fields] == ["password"]
    assert refused.value.fields[0].remedy


@pytest.mark.parametrize("password", [PASSWORD, "Montag Regen Fisch", "åäö čšž 水曜日の雨", "x7#kQ!9v2$Lp"])
def test_an_unusual_password_of_any_characters_is_accepted(password: str) -> None:
    passwords.check(password, "ada@example.org")


def test_a_password_is_stored_as_argon2id_and_verified(password_hash: str) -> None:
    assert password_hash.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert passwords.verified(PASSWORD, password_hash) == (True, None)
    assert passwords.verified(PASSWORD + "!", password_hash) == (False, None)
    assert passwords.verified("\ud800" * 12, password_hash) == (False, None)


def test_an_email_address_has_one_account(database: Database) -> None:
    user(database, None)
    with pytest.raises(Conflict, match="already is a user"):
        user(database, None, " ADA@example.org")


def test_a_login_begins_a_session_that_replaces_the_one_of_the_browser(database: Database, password_hash: str) -> None:
    user_id = user(database, password_hash)
    first = login.log_in(database, "Ada@example.org ", PASSWORD, HERE)
    identity = sessions.authenticate(database, first, HERE)
    assert identity is not None and (identity.user_id, identity.role) == (user_id, Role.MEMBER)
    assert identity.scopes == {Scope.READ, Scope.RUN}

    second = login.log_in(database, "ada@example.org", PASSWORD, HERE, identity)

    assert second != first
    assert sessions.authenticate(database, first, HERE) is None
    assert sessions.authenticate(database, second, HERE) is not None


def test_the_database_has_no_secret_in_plain_text(database: Database, password_hash: str) -> None:
    user_id = user(database, password_hash)
    secret = session_of(database, user_id)
    with database.transaction() as session:
        row = session.get_one(UserRow, user_id)
        _row, token = tokens.create(session, row, NewToken(name="ci"))
        link = links.for_password(session, row)
    with database.reading() as session:
        stored = [
            *session.scalars(select(LoginSessionRow.secret_sha256)),
            *session.scalars(select(ApiTokenRow.secret_sha256)),
            *session.scalars(select(OneTimeLinkRow.secret_sha256)),
        ]
    assert len(stored) == 3 and not {secret, token, link} & set(stored)
    assert not [text for text in stored if any(part in text for part in (secret, token[6:], link))]


@pytest.mark.parametrize(
    "values",
    [{"seen_at": now() - sessions.IDLE - timedelta(seconds=1)}, {"expires_at": now() - timedelta(seconds=1)}],
    ids=["disuse", "age"],
)
def test_a_session_ends_by_disuse_and_by_age(database: Database, values: dict[str, object]) -> None:
    secret = session_of(database, user(database, None))
    with database.transaction() as session:
        row = session.scalars(select(LoginSessionRow)).one()
        for name, value in values.items():
            setattr(row, name, value)
    assert sessions.authenticate(database, secret, HERE) is None
    with database.transaction() as session:
        login.forget(session, now())
        assert session.scalars(select(LoginSessionRow)).all() == []


def test_the_last_use_is_written_now_and_then_with_its_address(database: Database) -> None:
    secret = session_of(database, user(database, None))
    elsewhere = Visitor.of("2001:db8::1", "curl/8\n" + "x" * 400)
    sessions.authenticate(database, secret, elsewhere)
    with database.transaction() as session:
        row = session.scalars(select(LoginSessionRow)).one()
        assert row.address == HERE.address
        row.seen_at = now() - sessions.SEEN_EVERY
    assert sessions.authenticate(database, secret, elsewhere, used=False) is not None
    with database.reading() as session:
        assert session.scalars(select(LoginSessionRow)).one().address == HERE.address
    sessions.authenticate(database, secret, elsewhere)
    with database.reading() as session:
        row = session.scalars(select(LoginSessionRow)).one()
    assert (row.address, row.user_agent[:7], len(row.user_agent)) == ("2001:db8::1", "curl/8 ", 300)
    assert now() - row.seen_at < timedelta(minutes=1)


def test_a_user_ends_only_sessions_of_the_user(database: Database) -> None:
    mine, other = user(database, None), user(database, None, "bo@example.org")
    kept, ended, foreign = session_of(database, mine), session_of(database, mine), session_of(database, other)
    with database.transaction() as session:
        [foreign_row] = sessions.of_user(session, other)
        with pytest.raises(NotFound):
            sessions.end(session, mine, foreign_row.id)
        first = min(row.id for row in sessions.of_user(session, mine))
        assert login_sessions.end_all(session, mine, first) == 1
    assert [sessions.authenticate(database, secret, HERE) is not None for secret in (kept, ended, foreign)] == [
        True,
        False,
        True,
    ]


def test_a_disabled_user_has_no_session_no_token_and_no_login(database: Database, password_hash: str) -> None:
    user_id = user(database, password_hash)
    secret = session_of(database, user_id)
    with database.transaction() as session:
        _row, token = tokens.create(session, session.get_one(UserRow, user_id), NewToken(name="ci"))
        link = links.for_password(session, session.get_one(UserRow, user_id))
    with database.transaction() as session:
        users.set_disabled(session, user_id, True)
    assert sessions.authenticate(database, secret, HERE) is None
    assert tokens.authenticate(database, token, HERE) is None
    with pytest.raises(Unauthenticated, match="wrong"):
        login.log_in(database, "ada@example.org", PASSWORD, HERE)
    with database.transaction() as session, pytest.raises(NotFound):
        links.user_of(session, link)

    with database.transaction() as session:
        users.set_disabled(session, user_id, False)
    assert sessions.authenticate(database, secret, HERE) is None
    assert tokens.authenticate(database, token, HERE) is not None


def test_the_last_admin_stays(database: Database) -> None:
    only = user(database, "a hash", role=Role.ADMIN)
    user(database, None, "eve@example.org", Role.ADMIN)
    with database.transaction() as session, pytest.raises(Conflict, match="last admin"):
        users.set_role(session, only, Role.MEMBER)
    with database.transaction() as session, pytest.raises(Conflict, match="last admin"):
        users.set_disabled(session, only, True)
    user(database, "a hash", "bo@example.org", Role.ADMIN)
    with database.transaction() as session:
        assert users.set_role(session, only, Role.VIEWER).role is Role.VIEWER


def test_the_last_two_admins_cannot_be_disabled_at_once(database: Database) -> None:
    both = [user(database, "a hash", f"{name}@example.org", Role.ADMIN) for name in ("ada", "bo")]
    together = Barrier(2)

    def disable(user_id: int) -> bool:
        together.wait(30)
        try:
            with database.transaction() as session:
                users.set_disabled(session, user_id, True)
            return True
        except Conflict:
            return False

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(disable, both)) == [False, True]


def test_a_role_holds_from_the_next_request(database: Database) -> None:
    user_id = user(database, None)
    secret = session_of(database, user_id)
    with database.transaction() as session:
        users.set_role(session, user_id, Role.VIEWER)
    identity = sessions.authenticate(database, secret, HERE)
    assert identity is not None and identity.scopes == {Scope.READ}


def test_a_token_authenticates_with_its_scopes_until_it_expires_or_is_revoked(database: Database) -> None:
    user_id = user(database, None)
    with database.transaction() as session:
        owner = session.get_one(UserRow, user_id)
        row, token = tokens.create(session, owner, NewToken(name="board", scopes=[Scope.READ], expires_days=1))
        assert row.expires_at is not None and timedelta(hours=23) < row.expires_at - now() <= timedelta(days=1)
        _row, forever = tokens.create(session, owner, NewToken(name="ci", expires_days=None))
    identity = tokens.authenticate(database, token, HERE)
    assert identity is not None and (identity.scopes, identity.token_id) == ({Scope.READ}, row.id)
    with database.transaction() as session:
        used = session.get_one(ApiTokenRow, row.id)
        assert (used.last_address, used.last_used_at is not None) == (HERE.address, True)
        used.expires_at = now()
    assert tokens.authenticate(database, token, HERE) is None
    assert tokens.authenticate(database, forever, HERE) is not None
    with database.transaction() as session:
        with pytest.raises(NotFound):
            tokens.revoke(session, user_id + 1, row.id)
        for each in tokens.of_user(session, user_id):
            tokens.revoke(session, user_id, each.id)
    assert tokens.authenticate(database, forever, HERE) is None


def test_a_token_gets_no_scope_that_the_role_lacks(database: Database) -> None:
    user_id = user(database, None, role=Role.VIEWER)
    with database.transaction() as session, pytest.raises(Invalid) as refused:
        tokens.create(session, session.get_one(UserRow, user_id), NewToken(name="ci", scopes=[Scope.RUN]))
    assert (refused.value.fields[0].path, refused.value.fields[0].remedy) == ("scopes", "Choose from: read")


def test_a_link_for_the_first_admin_works_once_and_only_without_users(database: Database, password_hash: str) -> None:
    with database.transaction() as session:
        first, second = links.for_first_admin(session), links.for_first_admin(session)
    assert first and second and first != second
    with database.transaction() as session:
        with pytest.raises(NotFound):
            links.user_of(session, first)
        admin = links.create_first_admin(session, first, NewUser(email="ada@example.org"), password_hash)
        assert admin.role is Role.ADMIN
    for secret in (first, second):
        with database.transaction() as session, pytest.raises(NotFound, match="used before"):
            links.create_first_admin(session, secret, NewUser(email="eve@example.org"), password_hash)
    with database.transaction() as session:
        assert links.for_first_admin(session) is None


def test_two_uses_of_first_admin_links_at_once_create_one_admin(database: Database, password_hash: str) -> None:
    with database.transaction() as session:
        secrets = [links.for_first_admin(session) for _ in range(2)]

    def use(number: int) -> bool:
        try:
            with database.transaction() as session:
                new = NewUser(email=f"admin{number}@example.org")
                links.create_first_admin(session, secrets[number] or "", new, password_hash)
            return True
        except NotFound:
            return False

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(use, range(2))) == [False, True]


def test_a_link_sets_a_password_once_ends_sessions_and_expires(database: Database, password_hash: str) -> None:
    user_id = user(database, None)
    session_secret = session_of(database, user_id)
    with database.transaction() as session:
        replaced = links.for_password(session, session.get_one(UserRow, user_id))
        secret = links.for_password(session, session.get_one(UserRow, user_id))
        with pytest.raises(NotFound):
            links.user_of(session, replaced)
    with database.transaction() as session:
        links.set_password(session, secret, password_hash)
    assert sessions.authenticate(database, session_secret, HERE) is None
    assert verified(database, "ada@example.org", PASSWORD, HERE) == user_id
    with database.transaction() as session, pytest.raises(NotFound):
        links.set_password(session, secret, password_hash)

    with database.transaction() as session:
        late = links.for_password(session, session.get_one(UserRow, user_id))
        session.scalars(select(OneTimeLinkRow)).one().expires_at = now()
        with pytest.raises(NotFound):
            links.user_of(session, late)


def test_failures_of_an_account_are_limited_whether_or_not_it_exists(
    database: Database, password_hash: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "verified", lambda password, stored: (password == PASSWORD, None))
    user(database, password_hash)
    answers = {}
    for email in ("ada@example.org", "ghost@example.org"):
        texts = []
        for number in range(throttle.MOST_BY_ACCOUNT + 1):
            with pytest.raises((Unauthenticated, TooMany)) as refused:
                verified(database, email, "wrong", Visitor(f"192.0.2.{number}"))
            texts.append((type(refused.value), refused.value.message))
        answers[email] = texts
    assert answers["ada@example.org"] == answers["ghost@example.org"]
    assert [kind for kind, _text in answers["ada@example.org"]] == [Unauthenticated] * 10 + [TooMany]
    with pytest.raises(TooMany) as limited:
        verified(database, "ada@example.org", PASSWORD, HERE)
    assert 0 < limited.value.retry_seconds <= throttle.WINDOW.total_seconds()

    with database.transaction() as session:
        for row in session.scalars(select(LoginFailuresRow)):
            row.began_at -= throttle.WINDOW
    assert verified(database, "ada@example.org", PASSWORD, HERE)


@pytest.mark.parametrize("email", ["a\0b@example.org", "a\nb", "", "\N{ZERO WIDTH SPACE}", "x" * 1000])
def test_an_address_that_cannot_be_stored_is_an_unknown_account(
    database: Database, monkeypatch: pytest.MonkeyPatch, email: str
) -> None:
    monkeypatch.setattr(passwords, "verified", lambda _password, _stored: (False, None))
    with pytest.raises(Unauthenticated, match="is wrong"):
        verified(database, email, "wrong", HERE)


def test_failures_from_an_address_are_limited_over_all_accounts(database: Database) -> None:
    visitor = "2001:db8:0:1::"
    for number in range(throttle.MOST_BY_ADDRESS):
        throttle.failed(database, f"user{number}@example.org", f"{visitor}{number:x}")
    with pytest.raises(TooMany):
        throttle.failed(database, "another@example.org", f"{visitor}ffff")
    throttle.failed(database, "another@example.org", "2001:db8:0:2::1")


def test_a_success_counts_nothing_and_lifts_the_failures_of_its_account(database: Database, password_hash: str) -> None:
    user(database, password_hash)
    with pytest.raises(Unauthenticated):
        verified(database, "ada@example.org", "wrong", HERE)
    for _attempt in range(2):
        verified(database, "ada@example.org", PASSWORD, HERE)
    with database.reading() as session:
        assert [row.failures for row in session.scalars(select(LoginFailuresRow))] == [1], "that of the address"


def test_right_logins_at_the_same_time_are_all_accepted(
    database: Database, password_hash: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = throttle.MOST_BY_ACCOUNT + 2
    everyone = Barrier(at_once, timeout=60)

    def verify(_password: str, _stored: str | None) -> tuple[bool, str | None]:
        everyone.wait()
        return True, None

    monkeypatch.setattr(passwords, "verified", verify)
    user_id = user(database, password_hash)
    with ThreadPoolExecutor(at_once) as pool:
        logins = pool.map(lambda _n: verified(database, "ada@example.org", PASSWORD, HERE), range(at_once))
        assert list(logins) == [user_id] * at_once


def test_guesses_at_the_same_time_learn_no_more_than_the_limit_permits(
    database: Database, password_hash: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = throttle.MOST_BY_ACCOUNT + 4
    everyone, wrong_are_counted = Barrier(at_once, timeout=60), Semaphore(0)

    def verify(password: str, _stored: str | None) -> tuple[bool, str | None]:
        everyone.wait()
        if password == PASSWORD:
            for _number in range(at_once - 1):
                assert wrong_are_counted.acquire(timeout=60)
        return password == PASSWORD, None

    def guess(password: str) -> type[Exception] | int:
        try:
            return verified(database, "ada@example.org", password, HERE)
        except (Unauthenticated, TooMany) as error:
            return type(error)
        finally:
            wrong_are_counted.release()

    monkeypatch.setattr(passwords, "verified", verify)
    user(database, password_hash)
    with ThreadPoolExecutor(at_once) as pool:
        *wrong, right = pool.map(guess, [*[f"guess {number}" for number in range(at_once - 1)], PASSWORD])
    assert wrong.count(Unauthenticated) == throttle.MOST_BY_ACCOUNT and wrong.count(TooMany) == 3
    assert right is TooMany, "an answer would tell that the guess is right"


def test_an_attempt_that_could_not_be_verified_does_not_count(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    user(database, None)
    monkeypatch.setattr(passwords, "WAIT_SECONDS", 0.0)
    with passwords._place(), passwords._place():
        for _attempt in range(throttle.MOST_BY_ACCOUNT + 1):
            with pytest.raises(Unavailable):
                login.log_in(database, "ada@example.org", PASSWORD, HERE)
    with pytest.raises(Unauthenticated):
        login.log_in(database, "ada@example.org", PASSWORD, HERE)


def test_expired_tokens_do_not_count_and_are_forgotten(database: Database) -> None:
    user_id, at = user(database, None), now()
    with database.transaction() as session:
        row = session.get_one(UserRow, user_id)
        made = [tokens.create(session, row, NewToken(name="laptop"))[0] for _ in range(tokens.MOST_TOKENS)]
        with pytest.raises(Conflict, match="which is the limit"):
            tokens.create(session, row, NewToken(name="one more"))
        made[0].expires_at = at - timedelta(days=1)
        made[1].expires_at = at - tokens.LISTED - timedelta(days=1)
        tokens.create(session, row, NewToken(name="one more"))
        login.forget(session, at)
        assert {made[0].id, made[1].id} & {kept.id for kept in tokens.of_user(session, user_id)} == {made[0].id}


def test_attempts_at_the_same_time_are_all_counted(database: Database) -> None:
    def attempt(_number: int) -> bool:
        try:
            throttle.failed(database, "ada@example.org", HERE.address)
            return True
        except TooMany:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(24))) == throttle.MOST_BY_ACCOUNT


def test_deleting_a_user_row_would_delete_what_authenticates_it(database: Database) -> None:
    user_id = user(database, None)
    session_of(database, user_id)
    with database.transaction() as session:
        session.delete(session.get_one(UserRow, user_id))
    with database.reading() as session:
        assert login_sessions.of_user(session, user_id, now() - sessions.IDLE, now()) == []


@pytest.mark.parametrize("meanwhile", ["password", "disabled"])
def test_a_login_fails_if_the_user_is_changed_while_the_password_is_verified(
    database: Database, password_hash: str, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    user_id = user(database, password_hash)
    real = passwords.verified

    def slow(password: str, stored: str | None) -> tuple[bool, str | None]:
        answer = real(password, stored)
        with database.transaction() as session:
            if meanwhile == "disabled":
                users.set_disabled(session, user_id, True)
            else:
                row = session.get_one(UserRow, user_id, with_for_update=True)
                users.set_password(session, row, passwords.accepted("nine blue umbrellas sing"))
        return answer

    monkeypatch.setattr(passwords, "verified", slow)
    with pytest.raises(Unauthenticated):
        login.log_in(database, "ada@example.org", PASSWORD, HERE)
    with database.reading() as session:
        assert session.scalars(select(LoginSessionRow)).all() == []


def test_logins_links_and_resets_of_a_user_at_the_same_time_do_not_wait_for_each_other_forever(
    database: Database, password_hash: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "verified", lambda _password, _stored: (True, None))
    monkeypatch.setattr(throttle, "MOST_BY_ACCOUNT", 1000)
    user_id = user(database, password_hash)

    def act(number: int) -> None:
        if number % 3 == 0:
            login.log_in(database, "ada@example.org", PASSWORD, HERE)
            return
        with database.transaction() as session:
            row = users.by_email(session, "ada@example.org", lock=True)
            if number % 3 == 1:
                users.set_password(session, row, password_hash)
            else:
                links.set_password(session, links.for_password(session, row), password_hash)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(act, range(30)))
    with database.reading() as session:
        assert session.get_one(UserRow, user_id).last_login_at is not None


def test_a_disabled_user_gets_no_link(database: Database, password_hash: str) -> None:
    user_id = user(database, password_hash)
    with database.transaction() as session:
        row = users.set_disabled(session, user_id, True)
        with pytest.raises(Conflict, match="Enable the user first"):
            links.for_password(session, row)
