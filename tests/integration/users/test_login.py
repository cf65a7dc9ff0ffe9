"""Logging in and out by the pages, with the first admin, links, tokens and users, as a browser without scripts."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from fastapi.testclient import TestClient
from pydantic import SecretStr

from app import logs
from app.domain.accounts.policy import Role
from app.domain.errors import Invalid
from app.main import create_app
from app.services.users import first_start, links, passwords, sessions, throttle, users
from app.settings import Settings
from app.store.database.session import Database
from app.store.users import queries as user_queries
from app.web.http.csrf import SESSION_COOKIE as COOKIE
from app.web.pages.account.login_routes import own_path
from tests.support.rows.accounts import HERE, OWN_PAGE, PASSWORD, Installation, installed, set_cookies, with_form_token

MEMBER = "member@example.org"
ANOTHER = "nine blue umbrellas sing"


@pytest.fixture(scope="module")
def password_hash() -> str:
    return passwords.accepted(PASSWORD)


@pytest.fixture
def installation(tmp_path: Path, migrated_file: Path, password_hash: str) -> Iterator[Installation]:
    """An application that requires a login, on SQLite; the member has a password."""
    with installed(tmp_path, migrated_file, allowed_hosts=["vezna.example"]) as found:
        with found.database.transaction() as session:
            user_queries.get(session, found.ids[Role.MEMBER]).password_hash = password_hash
        yield found


@pytest.fixture
def empty(tmp_path: Path, migrated_file: Path) -> Iterator[Database]:
    """A database without users."""
    path = tmp_path / "empty.sqlite"
    path.write_bytes(migrated_file.read_bytes())
    found = Database(f"sqlite:///{path}")
    yield found
    found.dispose()


def log_in(client: TestClient, password: str = PASSWORD, email: str = MEMBER, **more: str) -> object:
    return client.post("/login", data={"email": email, "password": password, **more}, headers=OWN_PAGE)


def test_a_login_leads_to_the_page_that_was_asked_for_and_a_logout_ends_it(installation: Installation) -> None:
    browser = installation.anonymous()
    assert 'name="next" value="/runs?sort=-score"' in browser.get("/login?next=/runs%3Fsort%3D-score").text
    answer = browser.post("/login", data={"email": " Member@example.org", "password": PASSWORD, "next": "/runs"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs")
    assert browser.get("/runs").status_code == 200
    assert browser.get("/login?next=/data").headers["location"] == "/data"
    kept = browser.cookies[COOKIE]

    answer = browser.post("/logout", headers=OWN_PAGE)

    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert answer.headers["clear-site-data"] == '"cache"'
    browser.cookies.set(COOKIE, kept)
    assert browser.get("/runs").status_code == 303


def test_the_cookie_is_for_this_server_alone(installation: Installation) -> None:
    form = {"email": MEMBER, "password": PASSWORD}
    plain = set_cookies(installation.anonymous().post("/login", data=form))
    assert re.fullmatch(r"vezna_session=[\w-]{43}; HttpOnly; Max-Age=1209600; Path=/; SameSite=lax", plain)
    encrypted = with_form_token(TestClient(installation.app, base_url="https://vezna.example", follow_redirects=False))
    cookie = set_cookies(encrypted.post("/login", data=form))
    assert re.fullmatch(
        r"__Host-vezna_session=[\w-]{43}; HttpOnly; Max-Age=1209600; Path=/; SameSite=lax; Secure", cookie
    )
    assert encrypted.get("/account").status_code == 200


def test_a_login_gives_a_new_session_and_ends_the_one_of_the_browser(installation: Installation) -> None:
    browser = installation.anonymous()
    log_in(browser)
    first = browser.cookies[COOKIE]
    log_in(browser)
    second = browser.cookies[COOKIE]
    assert first != second
    assert sessions.authenticate(installation.database, first, HERE) is None

    planted = "A" * 43
    victim = installation.anonymous()
    victim.cookies.set(COOKIE, planted)
    log_in(victim)
    assert sessions.authenticate(installation.database, planted, HERE) is None


@pytest.mark.parametrize("email", [MEMBER, "viewer@example.org", "ghost@example.org", "", "a\0b"])
def test_a_wrong_password_and_an_unknown_account_are_answered_alike(installation: Installation, email: str) -> None:
    answer = installation.anonymous().post("/login", data={"email": email, "password": "wrong"})
    assert answer.status_code == 422
    assert "The e-mail address or the password is wrong." in answer.text
    assert "set-cookie" not in answer.headers and answer.headers["cache-control"] == "no-store"


def test_an_unknown_account_takes_the_time_of_a_wrong_password(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    hasher = passwords._hasher()

    class Counting:
        def hash(self, password: bytes) -> str:
            hashed.append("unknown")
            return hasher.hash(password)

        def verify_and_update(self, password: bytes, stored: str) -> tuple[bool, str | None]:
            hashed.append("known")
            return hasher.verify_and_update(password, stored)

    monkeypatch.setattr(passwords, "_hasher", Counting)
    for email in (MEMBER, "ghost@example.org", "viewer@example.org"):
        installation.anonymous().post("/login", data={"email": email, "password": "wrong"})
    assert hashed == ["known", "unknown", "unknown"]


def test_too_many_failures_are_answered_with_the_time_to_wait(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "MOST_BY_ACCOUNT", 0)
    answer = installation.anonymous().post("/login", data={"email": MEMBER, "password": PASSWORD})
    assert answer.status_code == 429 and 0 < int(answer.headers["retry-after"]) <= 900
    assert "Too many failed logins. Try again in 15 minutes." in answer.text
    by_api = installation.anonymous().post(
        "/api/v1/login", json={"email": MEMBER, "password": PASSWORD, "token": {"name": "x"}}
    )
    assert by_api.status_code == 429 and "retry-after" in by_api.headers


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("/runs?a=b#c", "/runs?a=b#c"),
        ("//evil.example", "/studies"),
        ("/\\evil.example", "/studies"),
        ("https://evil.example", "/studies"),
        ("/a\\b", "/studies"),
        ("/\tevil", "/studies"),
        ("javascript:alert(1)", "/studies"),
        ("", "/studies"),
    ],
)
def test_a_login_leads_to_no_other_site(path: str, leads_to: str) -> None:
    assert own_path(path) == leads_to


def test_a_password_is_exchanged_for_a_token(installation: Installation) -> None:
    program = installation.anonymous()
    body = {"email": MEMBER, "password": PASSWORD, "token": {"name": "laptop", "scopes": ["read"], "expires_days": 7}}
    answer = program.post("/api/v1/login", json=body)
    assert answer.status_code == 201 and answer.json()["scopes"] == ["read"]
    program.headers["authorization"] = f"Bearer {answer.json()['token']}"
    assert program.get("/api/v1/me").json() == {"email": MEMBER, "name": "", "role": "member", "scopes": ["read"]}
    wrong = program.post("/api/v1/login", json=body | {"password": "wrong"})
    assert (wrong.status_code, wrong.headers["content-type"]) == (401, "application/problem+json")
    above = program.post("/api/v1/login", json=body | {"token": {"name": "x", "scopes": ["admin"]}})
    assert above.status_code == 422 and above.json()["errors"][0]["path"] == "scopes"

    assert program.delete("/api/v1/me/token").status_code == 204
    assert program.get("/api/v1/me").status_code == 401


def test_the_first_admin_is_created_by_the_link_of_the_log(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(first_start.log, "warning", lambda _text, link="", **_more: logged.append(link))
    settings = Settings(database_url=SecretStr(str(empty.url)), login="required")
    with TestClient(create_app(settings), base_url="http://127.0.0.1", follow_redirects=False) as browser:
        with_form_token(browser)
        [path] = logged
        assert re.fullmatch(r"/first-admin/[\w-]{43}", path)
        assert "Create the first admin" in browser.get(path).text
        form = {"email": "Ada@example.org", "name": "Ada", "password": PASSWORD, "repeated": PASSWORD}
        for change, says in (
            ({"repeated": "another"}, "The passwords differ"),
            ({"email": "ada"}, "not an e-mail address"),
            ({"password": "password1234", "repeated": "password1234"}, "list of common ones"),
        ):
            refused = browser.post(path, data=form | change)
            assert refused.status_code == 422 and says in refused.text, change
        assert browser.post(path, data=form).headers["location"] == "/studies"
        assert "Ada" in browser.get("/users").text and browser.get("/api/v1/me").json()["role"] == "admin"
        assert browser.get(path).status_code == browser.post(path, data=form).status_code == 404
    assert first_start.prepare(empty, settings) is None


def test_no_log_line_about_a_request_has_the_secret_of_a_link(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    logs.configure(Settings(log_format="json"))
    logging.getLogger("uvicorn.access").setLevel("INFO")
    for secret in ("/password/abc-DEF_1", "/first-admin/abc-DEF_1?x=1"):
        access = ("127.0.0.1:1", "GET", secret, "1.1", 200)
        logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', *access)
        structlog.get_logger().error("unexpected error", path=secret)
    structlog.reset_defaults()
    written = capsys.readouterr().err
    assert written.count("/password/(secret)") == 2 and written.count("/first-admin/(secret)") == 2
    assert "abc" not in written


def test_the_first_admin_is_created_from_the_settings_once(empty: Database, tmp_path: Path) -> None:
    settings = Settings(admin_email="Ada@example.org", admin_password=SecretStr(PASSWORD), login="required")
    for _start in range(2):
        assert first_start.prepare(empty, settings) is None
    with empty.reading() as session:
        [row] = user_queries.all_of_them(session)
    assert (row.email, row.role) == ("ada@example.org", Role.ADMIN)


@pytest.mark.parametrize(
    ("email", "password", "setting"),
    [("ada", PASSWORD, "VEZNA_ADMIN_EMAIL"), ("ada@example.org", "short", "VEZNA_ADMIN_PASSWORD_FILE")],
)
def test_a_wrong_first_admin_is_refused_by_the_name_of_the_setting(
    empty: Database, email: str, password: str, setting: str
) -> None:
    with pytest.raises(Invalid) as refused:
        first_start.prepare(empty, Settings(admin_email=email, admin_password=SecretStr(password)))
    assert [field.path for field in refused.value.fields] == [setting]


def test_a_link_sets_a_password_and_logs_in(installation: Installation) -> None:
    with installation.database.transaction() as session:
        viewer = user_queries.get(session, installation.ids[Role.VIEWER])
        path = f"/password/{links.for_password(session, viewer)}"
    browser = installation.anonymous()
    assert "viewer@example.org" in browser.get(path).text
    assert browser.post(path, data={"password": ANOTHER, "repeated": "x"}).status_code == 422
    assert browser.post(path, data={"password": ANOTHER, "repeated": ANOTHER}).status_code == 303
    assert browser.get("/api/v1/me").json()["email"] == "viewer@example.org"
    assert browser.get(path).status_code == 404


def test_a_user_creates_and_revokes_a_token_whose_secret_is_shown_once(installation: Installation) -> None:
    browser = installation.browser(Role.MEMBER)
    answer = browser.post("/account/tokens", data={"name": "laptop", "scopes": ["read", "run"], "expires_days": "30"})
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    [token] = re.findall(r"vezna_[\w-]{43}", answer.text)
    page = browser.get("/account").text
    assert token not in page and token[:10] in page and "laptop" in page
    program = installation.anonymous()
    program.headers["authorization"] = f"Bearer {token}"
    assert program.get("/api/v1/runs").status_code == 200

    [revoke] = re.findall(r'action="(/account/tokens/\d+/revoke)"', page)
    assert browser.post(revoke).headers["location"] == "/account#tokens"
    assert program.get("/api/v1/runs").status_code == 401
    assert installation.browser(Role.ADMIN).post(revoke).status_code == 404


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"name": "", "scopes": "read", "expires_days": "30"}, "Must not be empty"),
        ({"name": "x", "expires_days": "30"}, "Must have 1 or more entries"),
        ({"name": "x", "scopes": "admin", "expires_days": "30"}, "does not have the scope admin"),
        ({"name": "x", "scopes": "root", "expires_days": "30"}, "Must be one of"),
        ({"name": "x", "scopes": "read", "expires_days": "0"}, "Must be 1 or more"),
    ],
)
def test_a_wrong_token_form_is_shown_with_its_error(
    installation: Installation, form: dict[str, str], says: str
) -> None:
    answer = installation.browser(Role.MEMBER).post("/account/tokens", data=form)
    assert answer.status_code == 422 and says in answer.text and "new-token" not in answer.text


def test_a_user_sees_and_ends_the_own_sessions(installation: Installation) -> None:
    browser, phone = installation.browser(Role.MEMBER), installation.browser(Role.MEMBER)
    page = browser.get("/account").text
    assert page.count("Firefox on Linux</strong>") == 2 and page.count("this session") == 1
    [end] = re.findall(r'action="(/account/sessions/\d+/end)"', page)
    assert installation.browser(Role.ADMIN).post(end).status_code == 404
    assert browser.post(end).status_code == 303
    assert phone.get("/account").status_code == 303

    third = installation.browser(Role.MEMBER)
    assert browser.post("/account/sessions/others/end").status_code == 303
    assert (third.get("/account").status_code, browser.get("/account").status_code) == (303, 200)


@pytest.mark.slow
def test_a_changed_password_ends_the_other_sessions(installation: Installation) -> None:
    browser, phone = installation.browser(Role.MEMBER), installation.browser(Role.MEMBER)
    form = {"current": PASSWORD, "password": ANOTHER, "repeated": ANOTHER}
    for change, says in (
        ({"current": "wrong"}, "not the current password"),
        ({"password": "short", "repeated": "short"}, "has 5 characters"),
        ({"repeated": "another"}, "The passwords differ"),
    ):
        refused = browser.post("/account/password", data=form | change)
        assert refused.status_code == 422 and says in refused.text, change
    assert browser.post("/account/password", data=form).headers["location"] == "/account?done=password"
    assert "The password is changed." in browser.get("/account?done=password").text
    assert (phone.get("/account").status_code, browser.get("/account").status_code) == (303, 200)
    assert installation.anonymous().post("/login", data={"email": MEMBER, "password": ANOTHER}).status_code == 303


def test_an_admin_creates_users_changes_roles_and_disables(installation: Installation) -> None:
    admin = installation.browser(Role.ADMIN)
    answer = admin.post("/users", data={"email": "new@example.org", "name": "New", "role": "viewer"})
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    [link] = re.findall(r"http://127\.0\.0\.1/password/[\w-]{43}", answer.text)
    assert link not in admin.get("/users").text
    guest = installation.anonymous()
    guest.post(link, data={"password": ANOTHER, "repeated": ANOTHER})
    assert guest.get("/api/v1/me").json()["role"] == "viewer"
    with installation.database.reading() as session:
        user_id = users.by_email(session, "new@example.org").id

    assert admin.post(f"/users/{user_id}/role", data={"role": "member"}).status_code == 303
    assert guest.get("/api/v1/me").json()["role"] == "member"
    assert admin.post(f"/users/{user_id}/disabled", data={"disabled": "true"}).status_code == 303
    assert guest.get("/api/v1/me").status_code == 401
    assert admin.post(f"/users/{user_id}/link").status_code == 409
    assert admin.post(f"/users/{user_id}/disabled", data={"disabled": "false"}).status_code == 303
    assert "/password/" in admin.post(f"/users/{user_id}/link").text


def test_what_an_admin_cannot_do_is_said_on_the_page(installation: Installation) -> None:
    admin = installation.browser(Role.ADMIN)
    own = installation.ids[Role.ADMIN]
    with installation.database.transaction() as session:
        user_queries.get(session, own).password_hash = "of a password"
    for path, form in ((f"/users/{own}/role", {"role": "viewer"}), (f"/users/{own}/disabled", {"disabled": "true"})):
        answer = admin.post(path, data=form)
        assert answer.status_code == 409 and "This is the last admin with a password." in answer.text, path
    taken = admin.post("/users", data={"email": MEMBER})
    assert taken.status_code == 409 and "already is a user" in taken.text
    assert admin.post("/users", data={"email": "x"}).status_code == 422
    assert admin.post("/users/999/role", data={"role": "viewer"}).status_code == 404
    assert installation.browser(Role.MEMBER).get("/users").status_code == 403
