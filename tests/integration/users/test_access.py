"""Every route is closed unless it is listed, and roles, scopes and cookies hold on all of them."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from urllib.parse import unquote

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.domain.accounts.policy import Role, Scope
from app.services.users import users as user_service
from app.settings import Settings
from app.store.tables import LoginSessionRow, UserRow, now
from app.web.http.access import needed
from tests.support.checks.access_table import FILE, filled_in, routes, table
from tests.support.rows.accounts import OWN_PAGE, Installation, installed

PUBLIC = {
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("POST", "/login/code"),
    ("GET", "/login/openid"),
    ("GET", "/login/openid/back"),
    ("POST", "/language"),
    ("GET", "/first-admin/{secret}"),
    ("POST", "/first-admin/{secret}"),
    ("GET", "/password/{secret}"),
    ("POST", "/password/{secret}"),
    ("POST", "/api/v1/login"),
    ("GET", "/api/v1/receipt-key"),
}
"""The routes that answer anonymous visitors, beside /static/."""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, filled_file: Path) -> Iterator[Installation]:
    """An application that requires a login and has one of everything."""
    home = tmp_path_factory.mktemp("closed")
    with installed(home, filled_file) as found:
        yield found


@pytest.mark.slow
def test_every_route_is_closed_to_anonymous_visitors_unless_it_is_listed(installation: Installation) -> None:
    client, walked = installation.anonymous(), routes(installation.app)
    assert len(walked) > 150
    answering = set()
    for method, path in walked:
        if path == "/static":
            continue
        answer = client.request(method, filled_in(path))
        closed = answer.status_code == 401 or (answer.status_code == 303 and answer.headers["location"][:6] == "/login")
        if not closed:
            answering.add((method, path))
        elif path.startswith(("/api/", "/metrics")):
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"].startswith("Bearer"), (method, path)
            assert answer.headers["content-type"] == "application/problem+json", (method, path)
    assert answering == PUBLIC


@pytest.mark.slow
def test_every_route_lets_each_kind_of_client_through_as_listed(installation: Installation) -> None:
    """A new route needs a line in the file: `python -m tests.support.checks.access_table` writes it."""
    assert table(installation).splitlines() == FILE.read_text().splitlines()


@pytest.mark.parametrize(
    "value", ["1%0A", "%0A1", "1%0D", "%201", "1%20", "+1", "1%00", "1%E2%80%A8", "1%C2%85", "a%3Fb"]
)
def test_another_spelling_of_a_parameter_needs_the_same(installation: Installation, value: str) -> None:
    """Else a request escapes its need: a route takes `2` with a newline for 2."""
    for method, path in routes(installation.app):
        assert needed(method, unquote(filled_in(path, value))) == needed(method, filled_in(path)), (method, path)


@pytest.mark.slow
def test_a_member_reaches_no_route_by_control_characters(installation: Installation) -> None:
    """One sign after the other, so that each stands at many routes and in every place."""
    member, signs = installation.browser(Role.MEMBER), cycle(["%00", "%0A", "%0D", "%7F", "%C2%85"])
    for (method, path), sign in zip(routes(installation.app), signs, strict=False):
        for spelling in {filled_in(path, f"1{sign}"), filled_in(path, f"{sign}1"), filled_in(path) + sign}:
            if spelling != filled_in(path):
                assert member.request(method, spelling).status_code == 400, (method, spelling)


def test_a_member_does_not_become_admin_by_another_spelling_of_an_id(installation: Installation) -> None:
    member, own = installation.browser(Role.MEMBER), installation.ids[Role.MEMBER]
    for spelling in (f"{own}%0A", f"%0A{own}", f"{own}%20", f"%20{own}", f"+{own}", f"0{own}", f"{own}.0"):
        answer = member.post(f"/users/{spelling}/role", data={"role": "admin"})
        assert answer.status_code in (400, 403), spelling
    assert member.get("/users").status_code == 403


def test_a_path_without_a_route_is_closed_too(installation: Installation) -> None:
    client = installation.anonymous()
    for path in ("/", "/nowhere", "/admin", "/static", "/loginx", "/login/", "/livez/", "/api/v1/login/x", "//login"):
        assert client.get(path).status_code in (303, 401), path


def test_static_files_are_open_and_nothing_above_them(installation: Installation) -> None:
    client = installation.anonymous()
    assert client.get("/static/css/tokens.css").status_code == 200
    assert client.get("/static/../studies").status_code in (303, 404)
    assert client.get("/static/%2e%2e/app/settings.py").status_code == 404


@pytest.mark.slow
@pytest.mark.parametrize(("role", "changes"), [(Role.VIEWER, 403), (Role.MEMBER, 0), (Role.ADMIN, 0)])
def test_a_viewer_changes_nothing_on_any_route(installation: Installation, role: Role, changes: int) -> None:
    client = installation.browser(role)
    for method, path in routes(installation.app):
        need = needed(method, filled_in(path))
        if path.startswith(("/static", "/logout", "/account")) or need == "nothing" or path.endswith("/events"):
            continue
        if need is Scope.RUN and changes:
            answer = client.request(method, filled_in(path))
            assert answer.status_code == changes, (method, path)
            assert "Your role viewer" in answer.text, (method, path)
        elif need is Scope.ADMIN and role is not Role.ADMIN:
            assert client.request(method, filled_in(path)).status_code == 403, (method, path)
        elif need is Scope.READ and path.startswith("/api/v1/") and "{" not in path:
            assert client.get(path).status_code not in (401, 403), (method, path)


@pytest.mark.parametrize(
    ("scopes", "reads", "runs", "manages"),
    [((Scope.READ,), True, False, False), ((Scope.RUN,), False, True, False), ((Scope.ADMIN,), False, False, True)],
)
def test_a_token_does_what_its_scopes_permit(
    installation: Installation, scopes: tuple[Scope, ...], reads: bool, runs: bool, manages: bool
) -> None:
    client = installation.program(Role.ADMIN, *scopes)
    assert (client.get("/api/v1/runs").status_code == 200) is reads
    assert (client.post("/api/v1/runs", json={}).status_code == 422) is runs
    assert (client.get("/users").status_code == 200) is manages
    refused = client.get("/api/v1/runs") if not reads else client.post("/api/v1/runs", json={})
    assert refused.status_code == 403
    assert refused.json()["type"] == "urn:vezna:forbidden" and "lacks the scope" in refused.json()["detail"]


def test_a_token_cannot_change_an_account_and_does_not_need_a_page(installation: Installation) -> None:
    client = installation.program(Role.ADMIN)
    assert client.post("/account/tokens", data={"name": "more"}).status_code == 403
    assert client.get("/account").status_code == 403
    assert client.get("/api/v1/me").json()["scopes"] == ["read", "run", "admin"]


def test_a_request_with_a_token_never_uses_its_cookie(installation: Installation) -> None:
    client = installation.browser(Role.ADMIN)
    for header in ("Bearer vezna_" + "x" * 43, "Bearer ", "bearer x", "Bearer é"):
        answer = client.get("/api/v1/runs", headers={"authorization": header.encode()})
        assert answer.status_code == 401, header


def test_a_browser_logs_in_behind_a_proxy_that_asks_for_a_password(installation: Installation) -> None:
    client = installation.browser(Role.MEMBER)
    client.headers["authorization"] = "Basic YTpi"
    assert client.get("/api/v1/me").json()["email"] == "member@example.org"
    assert client.post("/api/v1/runs", json={}).status_code == 422
    del client.headers["sec-fetch-site"]
    assert client.post("/api/v1/runs", json={}).status_code == 403
    client.cookies.clear()
    assert client.get("/api/v1/runs").status_code == 401


def test_a_token_of_an_admin_makes_no_other_account(installation: Installation) -> None:
    client, own = installation.program(Role.ADMIN), installation.ids[Role.ADMIN]
    assert client.get("/users").status_code == 200
    new = {"email": "more@example.org", "role": "admin"}
    for path, form in (("", new), (f"/{own}/link", {}), (f"/{own}/role", new), (f"/{own}/disabled", {"disabled": "0"})):
        answer = client.post(f"/users{path}", data=form)
        assert answer.status_code == 403 and "An API token cannot change users" in answer.text, path
    assert "more@example.org" not in client.get("/users").text


@pytest.mark.parametrize(
    "headers", [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "http://evil.example"}]
)
def test_a_cookie_changes_nothing_from_another_site(installation: Installation, headers: dict[str, str]) -> None:
    client = installation.browser(Role.MEMBER)
    del client.headers["sec-fetch-site"]
    assert client.post("/api/v1/runs", json={}, headers=headers).status_code == 403


def test_a_cookie_without_a_page_changes_nothing(installation: Installation) -> None:
    client = installation.browser(Role.MEMBER)
    assert client.post("/api/v1/runs", json={}).status_code == 422
    del client.headers["sec-fetch-site"]
    answer = client.post("/api/v1/runs", json={})
    assert answer.status_code == 403 and "own pages alone" in answer.json()["detail"]
    assert client.post("/api/v1/runs", json={}, headers={"origin": "http://127.0.0.1"}).status_code == 422


def test_pages_lead_to_the_login_and_back(installation: Installation) -> None:
    client = installation.anonymous()
    answer = client.get("/runs?filter=method%3Alora")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Fruns%3Ffilter%3Dmethod%253Alora")
    assert client.post("/studies/1/cancel").headers["location"] == "/login"
    for page, login in (
        ("http://127.0.0.1/studies/1?x=seconds", "/login?next=%2Fstudies%2F1%3Fx%3Dseconds"),
        ("http://evil.example/studies/1", "/login"),
        ("http://[", "/login"),
        ("", "/login"),
    ):
        swapped = client.get("/studies/1", headers={"hx-request": "true", "hx-trigger": "live", "hx-current-url": page})
        assert (swapped.status_code, swapped.headers["hx-redirect"]) == (401, login)


def test_kept_pages_are_not_given_to_others(installation: Installation) -> None:
    member = installation.browser(Role.MEMBER)
    assert member.get("/studies").status_code == 200
    assert "viewer@example.org" not in member.get("/studies").text
    assert installation.anonymous().get("/studies").status_code == 303
    assert "viewer@example.org" in installation.browser(Role.VIEWER).get("/studies").text


def test_an_ended_session_and_a_disabled_user_are_refused_at_once(installation: Installation) -> None:
    with installation.database.transaction() as session:
        session.add(UserRow(email="left@example.org", role_name="viewer"))
        session.flush()
        left = user_service.by_email(session, "left@example.org").id
    installation.ids[Role.VIEWER], viewer = left, installation.ids[Role.VIEWER]
    browser, program = installation.browser(Role.VIEWER), installation.program(Role.VIEWER)
    installation.ids[Role.VIEWER] = viewer
    assert (browser.get("/api/v1/runs").status_code, program.get("/api/v1/runs").status_code) == (200, 200)
    with installation.database.transaction() as session:
        user_service.set_disabled(session, left, True)
    assert (browser.get("/api/v1/runs").status_code, program.get("/api/v1/runs").status_code) == (401, 401)


def test_what_a_page_requests_by_itself_does_not_keep_a_session(installation: Installation) -> None:
    browser = installation.browser(Role.VIEWER)
    earlier = now() - timedelta(hours=11)
    with installation.database.transaction() as session:
        row = session.scalars(select(LoginSessionRow).order_by(LoginSessionRow.id.desc())).first()
        assert row is not None
        row.seen_at = earlier

    def seen() -> bool:
        with installation.database.reading() as session:
            return session.get_one(LoginSessionRow, row.id).seen_at > earlier

    assert browser.get("/workers", headers={"hx-request": "true", "vezna-automatic": "1"}).status_code == 200
    assert browser.get("/api/v1/runs/2/events").status_code == 200
    assert not seen()
    assert browser.get("/workers", headers={"hx-request": "true"}).status_code == 200
    assert seen()


def test_an_admin_ends_the_sessions_and_revokes_the_tokens_of_a_user(installation: Installation) -> None:
    browser, program = installation.browser(Role.VIEWER), installation.program(Role.VIEWER)
    other, admin = installation.program(Role.MEMBER), installation.browser(Role.ADMIN)
    assert (browser.get("/api/v1/runs").status_code, program.get("/api/v1/runs").status_code) == (200, 200)
    assert admin.post(f"/users/{installation.ids[Role.VIEWER]}/revoke").status_code == 303
    assert (browser.get("/api/v1/runs").status_code, program.get("/api/v1/runs").status_code) == (401, 401)
    assert (other.get("/api/v1/runs").status_code, admin.get("/api/v1/runs").status_code) == (200, 200)
    assert installation.browser(Role.VIEWER).get("/api/v1/runs").status_code == 200


def test_a_viewer_sees_no_button_for_what_the_role_does_not_permit(installation: Installation) -> None:
    button = '<a class="button quiet" href="/studies/new">New study</a>'
    assert button not in installation.browser(Role.VIEWER).get("/studies").text
    assert button in installation.browser(Role.MEMBER).get("/studies").text


def test_the_same_idempotency_key_of_two_users_is_two_keys(installation: Installation) -> None:
    key = {"Idempotency-Key": '"the-same"'}
    body = {"base_model": "all-MiniLM-L6-v2", "dataset": "bbc-headlines", "method": {"kind": "full"}}
    member, admin = (installation.program(role) for role in (Role.MEMBER, Role.ADMIN))
    answers = [client.post("/api/v1/runs", json=body, headers=key) for client in (member, admin, member)]
    assert [answer.status_code for answer in answers] == [202] * 3, answers[0].text
    first, other, again = answers
    assert first.json()["id"] != other.json()["id"] and again.json()["id"] == first.json()["id"]
    assert ["idempotency-replayed" in answer.headers for answer in answers] == [False, False, True]


def test_a_single_user_needs_no_login_and_has_no_account(tmp_path: Path, migrated_file: Path) -> None:
    (tmp_path / "vezna.sqlite").write_bytes(migrated_file.read_bytes())
    client = _client(Settings(home=tmp_path, login="single-user"))
    assert client.get("/studies").status_code == 200
    me = {"email": "", "name": "", "role": "admin", "scopes": ["read", "run", "admin"]}
    assert client.get("/api/v1/me").json() == me
    for path in ("/login", "/account", "/users", "/first-admin/x", "/password/x"):
        assert client.get(path).status_code == 404, path
    assert client.post("/api/v1/login", json={"email": "a", "password": "b", "token": {"name": "c"}}).status_code == 409


def test_probes_at_a_port_of_their_own_need_no_token_and_nothing_else_is_there(
    tmp_path: Path, migrated_file: Path
) -> None:
    (tmp_path / "vezna.sqlite").write_bytes(migrated_file.read_bytes())
    app = Installation(Settings(home=tmp_path, login="required", metrics_address="127.0.0.1:9100")).app
    probes = TestClient(app, base_url="http://127.0.0.1:9100", follow_redirects=False)
    pages = TestClient(app, base_url="http://127.0.0.1:8000", follow_redirects=False)
    assert "vezna_runs" in probes.get("/metrics").text
    assert probes.get("/livez").status_code == pages.get("/livez").status_code == 200
    for path in ("/api/v1/runs", "/studies", "/login"):
        assert probes.get(path).status_code == 404, path
    assert pages.get("/metrics").status_code == 404
    assert pages.get("/api/v1/runs").status_code == 401


def _client(settings: Settings) -> TestClient:
    installation = Installation(settings)
    return TestClient(installation.app, base_url="http://127.0.0.1", headers=OWN_PAGE, follow_redirects=False)


@pytest.mark.parametrize("login", ["auto", "required"])
def test_a_server_is_closed_unless_it_is_told_that_it_has_a_single_user(
    tmp_path: Path, migrated_file: Path, login: str
) -> None:
    (tmp_path / "vezna.sqlite").write_bytes(migrated_file.read_bytes())
    client = _client(Settings(home=tmp_path, login=login))  # type: ignore[arg-type]
    assert client.get("/api/v1/runs").status_code == 401
