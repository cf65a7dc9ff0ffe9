"""Single sign-on against an OpenID Connect server on loopback: only its users get in, and no account is taken."""

import base64
import hashlib
import hmac
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pyotp
import pytest
from fastapi.testclient import TestClient
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from oidc_provider_mock import app as provider_app
from pydantic import SecretStr
from sqlalchemy import update
from sqlalchemy.orm import Session
from werkzeug.serving import make_server

from app.domain.accounts.audit import AuditFilter
from app.domain.accounts.policy import Role
from app.domain.accounts.users import NewUser
from app.domain.errors import Invalid
from app.features.second_factor import service as second_factor
from app.features.second_factor.tables import SecondFactorRow
from app.features.single_sign_on.commands import remove_identity
from app.features.single_sign_on.pages import COOKIE
from app.features.single_sign_on.rules import Profile, role_of
from app.features.single_sign_on.services import openid
from app.features.single_sign_on.services.provider import Provider as OpenIdProvider
from app.features.single_sign_on.tables import ExternalIdentityRow, OpenIdLoginRow
from app.services.ownership.vault import Vault
from app.services.users import audit, login
from app.services.users import users as user_service
from app.services.users.audit import AuditEvent
from app.settings import Settings, load
from app.store.tables import LoginSessionRow, UserRow, now
from app.store.users import queries as users
from app.web.http.csrf import SESSION_COOKIE
from tests.support.rows.accounts import HERE, Installation

CLIENT = "vezna"
Answers = Callable[[dict[str, Any]], dict[str, Any]]
OTHER = RSAKey.generate_key(2048)


@dataclass
class Provider:
    """The server, the requests that it got, and what is changed in its answers to requests for tokens."""

    address: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    forge: Answers | None = None
    forged_path: str = "/oauth2/token"

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = _Read(body)
        query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
        form = {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
        self.requests.append({"path": environ["PATH_INFO"], **query, **form})
        if environ["PATH_INFO"] != self.forged_path or self.forge is None:
            return self.app(environ, start)
        content = json.dumps(self.forge(json.loads(b"".join(self.app(environ, lambda *_args: None))))).encode()
        start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(content)))])
        return [content]

    def __post_init__(self) -> None:
        self.app: Any = provider_app(require_nonce=True)

    def user(self, subject: str, **claims: Any) -> None:
        """Make a user known to the server."""
        assert httpx2.put(f"{self.address}/users/{subject}", json=claims).status_code == 204

    def last(self, path: str) -> dict[str, Any]:
        """The last request for a path."""
        return [request for request in self.requests if request["path"] == path][-1]


class _Read:
    def __init__(self, content: bytes) -> None:
        self._rest = content

    def read(self, size: int = -1) -> bytes:
        part = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(part) :]
        return part

    def readline(self, size: int = -1) -> bytes:
        return self.read(size)


@pytest.fixture(scope="module")
def running(monkeypatch_module: pytest.MonkeyPatch) -> Iterator[Provider]:
    monkeypatch_module.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")  # of the server, which is on loopback
    provider = Provider()
    server = make_server("localhost", 0, provider, threaded=True)  # type: ignore[arg-type]
    provider.address = f"http://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield provider
    server.shutdown()
    thread.join(10)


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture
def provider(running: Provider) -> Provider:
    running.forge, running.forged_path = None, "/oauth2/token"
    running.requests.clear()
    return running


@pytest.fixture
def installation(tmp_path: Path, migrated_file: Path, provider: Provider) -> Iterator[Installation]:
    (tmp_path / "vezna.sqlite").write_bytes(migrated_file.read_bytes())
    made = Installation(
        Settings(
            home=tmp_path,
            login="required",
            openid_issuer=provider.address,
            openid_client_id=CLIENT,
            openid_client_secret=SecretStr("hidden words of the client"),
            openid_name="Example ID",
            openid_role_claim="groups",
            openid_roles=["vezna-admins=admin", "science=member"],
        )
    )
    yield made
    made.database.dispose()


def confirmed(client: TestClient, subject: str, next: str = "/runs") -> str:
    """The address to which the provider sends a browser that has logged in there."""
    begun = client.get("/login/openid", params={"next": next})
    assert begun.status_code == 303, begun.text
    answer = httpx2.post(begun.headers["location"], data={"sub": subject})
    parts = urlsplit(answer.headers["location"])
    return f"{parts.path}?{parts.query}"


def log_in(installation: Installation, subject: str) -> httpx2.Response:
    client = installation.anonymous()
    return client.get(confirmed(client, subject))


def is_refused(answer: httpx2.Response, words: str = "") -> bool:
    return (
        answer.status_code == 422
        and SESSION_COOKIE not in answer.headers.get("set-cookie", "")
        and words in answer.text
    )


def logged(installation: Installation, action: str) -> list[AuditEvent]:
    return list(audit.entries(installation.database, AuditFilter(action=action), 0))


def user_of(installation: Installation, email: str) -> Any:
    with installation.database.reading() as session:
        return users.by_email(session, email)


def test_a_new_user_logs_in_with_the_role_of_the_claim(installation: Installation, provider: Provider) -> None:
    provider.user("u1", email="Nina@Example.org", email_verified=True, name="Nina", groups=["science", "other"])
    client = installation.anonymous()
    assert "Log in with Example ID" in client.get("/login?next=/runs").text
    answer = client.get(confirmed(client, "u1", "/runs?sort=score"))
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs?sort=score")
    client.cookies.set(SESSION_COOKIE, answer.cookies[SESSION_COOKIE])
    me = client.get("/api/v1/me").json()
    assert (me["email"], me["name"], me["role"]) == ("nina@example.org", "Nina", "member")
    asked, token = provider.last("/oauth2/authorize"), provider.last("/oauth2/token")
    digest = hashlib.sha256(token["code_verifier"].encode()).digest()
    assert asked["code_challenge"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert (asked["code_challenge_method"], asked["response_type"]) == ("S256", "code")
    assert len(asked["state"]) >= 43 and len(asked["nonce"]) >= 43 and asked["state"] != asked["nonce"]


def test_the_role_follows_the_claim_at_each_login(installation: Installation, provider: Provider) -> None:
    provider.user("u2", email="bo@example.org", email_verified=True, groups=["science"])
    assert log_in(installation, "u2").status_code == 303
    provider.user("u2", email="bo@example.org", email_verified=True, groups=["vezna-admins"])
    assert log_in(installation, "u2").status_code == 303
    assert user_of(installation, "bo@example.org").role is Role.ADMIN
    provider.user("u2", email="bo@example.org", email_verified=True, groups=[])
    assert is_refused(log_in(installation, "u2"), "no role in Vezna")


@pytest.mark.parametrize("verified", [False, None, "true", 1])
def test_an_unverified_address_takes_no_account_and_makes_none(
    installation: Installation, provider: Provider, verified: object
) -> None:
    for email in ("admin@example.org", "new@example.org"):
        provider.user("thief", email=email, email_verified=verified, groups=["vezna-admins"])
        assert is_refused(log_in(installation, "thief"), "has not verified")
    assert user_of(installation, "new@example.org") is None


def test_a_verified_address_joins_an_account_once(installation: Installation, provider: Provider) -> None:
    provider.user("first", email="member@example.org", email_verified=True, groups=["science"])
    provider.user("second", email="member@example.org", email_verified=True, groups=["vezna-admins"])
    assert log_in(installation, "first").status_code == 303
    assert is_refused(log_in(installation, "second"), "another identity")
    assert user_of(installation, "member@example.org").role is Role.MEMBER
    provider.user("first", email="moved@example.org", email_verified=False, groups=["science"])
    assert log_in(installation, "first").status_code == 303  # the identity stays, whatever its address is now
    assert user_of(installation, "moved@example.org") is None


def test_a_state_works_once_in_the_browser_that_began(installation: Installation, provider: Provider) -> None:
    provider.user("u3", email="eve@example.org", email_verified=True, groups=["science"])
    attacker, victim = installation.anonymous(), installation.anonymous()
    address = confirmed(attacker, "u3")
    assert is_refused(victim.get(address))  # else the victim would work in the attacker's account
    assert is_refused(attacker.get(address.replace("state=", "state=x")))
    assert attacker.get(address).status_code == 303
    attacker.cookies.set(COOKIE, parse_qs(urlsplit(address).query)["state"][0], path="/login/openid/back")
    assert is_refused(attacker.get(address))
    late = installation.anonymous()
    address = confirmed(late, "u3")
    with installation.database.transaction() as session:
        session.execute(update(OpenIdLoginRow).values(expires_at=now()))
    assert is_refused(late.get(address))


def forged(key: Any, algorithm: str, head: dict[str, Any] | None = None, **changes: Any) -> Answers:
    """An answer with a token of the same claims but for some (None: without), by another key."""

    def forge(answer: dict[str, Any]) -> dict[str, Any]:
        part = answer["id_token"].split(".")[1]
        known = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) | changes
        claims = {name: value for name, value in known.items() if value is not None}
        if algorithm == "none":
            start = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
            body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
            return answer | {"id_token": f"{start}.{body}."}
        if isinstance(key, bytes):  # joserfc itself refuses to sign with a public key
            parts = [json.dumps(part).encode() for part in ({"alg": algorithm}, claims)]
            signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
            mac = base64.urlsafe_b64encode(hmac.digest(key, signed, "sha256")).rstrip(b"=")
            return answer | {"id_token": b".".join([signed, mac]).decode()}
        return answer | {"id_token": jwt.encode({"alg": algorithm} | (head or {}), claims, key)}

    return forge


def own_key(provider: Provider) -> RSAKey:
    """The key with which the server signs."""
    with provider.app.test_request_context("/"):
        provider.app.preprocess_request()
        from flask import g  # noqa: PLC0415 the server's own key is in its context

        return RSAKey.import_key(g.oidc_provider_mock_storage.jwk.as_dict(is_private=True))


@pytest.mark.by_day
@pytest.mark.parametrize(
    "attack",
    ["other key", "none", "client secret", "no token", "changed", "public key", "own kid", "no kid", "key in head",
     "key by address", "a path as kid", "not text"],
)  # fmt: skip
def test_a_token_that_the_provider_did_not_sign_is_refused(
    installation: Installation, provider: Provider, attack: str
) -> None:
    provider.user("u4", email="kim@example.org", email_verified=True, groups=["science"])
    provider.forge = {
        "other key": forged(OTHER, "RS256"),
        "none": forged(None, "none"),
        "client secret": forged(OctKey.import_key("hidden words of the client"), "HS256"),
        "public key": forged(own_key(provider).as_pem(private=False), "HS256"),
        "own kid": forged(OTHER, "RS256", {"kid": own_key(provider).kid}),
        "no kid": forged(OTHER, "RS256", {"kid": "nobody's"}),
        "key in head": forged(OTHER, "RS256", {"jwk": OTHER.as_dict(private=False)}),
        "key by address": forged(OTHER, "RS256", {"jku": "https://evil.example/keys", "x5u": "https://evil.example/"}),
        "a path as kid": forged(OctKey.import_key("x" * 32), "HS256", {"kid": "../../dev/null"}),
        "not text": lambda answer: answer | {"id_token": [answer["id_token"]]},
        "no token": lambda answer: {name: value for name, value in answer.items() if name != "id_token"},
        "changed": lambda answer: answer | {"id_token": answer["id_token"][:-8] + "AAAAAAAA"},
    }[attack]
    assert is_refused(log_in(installation, "u4"), "did not confirm")
    assert user_of(installation, "kim@example.org") is None


@pytest.mark.by_day
@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": ["other"]},
        {"aud": []},
        {"aud": [CLIENT, "other"], "azp": "other"},
        {"azp": "other"},
        {"exp": int(time.time()) - 3600},
        {"exp": None},
        {"exp": "9999999999"},
        {"iat": int(time.time()) + 86400},
        {"nbf": int(time.time()) + 86400},
        {"sub": None},
        {"sub": ""},
        {"at_hash": "another"},
    ],
    ids=str,
)
def test_a_signed_token_of_another_login_client_issuer_or_time_is_refused(
    installation: Installation, provider: Provider, changes: dict[str, Any]
) -> None:
    provider.user("u5", email="lou@example.org", email_verified=True, groups=["science"])
    key = own_key(provider)
    provider.forge = forged(key, "RS256", **changes)
    assert is_refused(log_in(installation, "u5"), "did not confirm")
    provider.forge = forged(key, "RS256")
    assert log_in(installation, "u5").status_code == 303


def test_a_second_factor_of_the_account_is_still_needed(installation: Installation, provider: Provider) -> None:
    own, vault = installation.ids[Role.MEMBER], Vault(installation.settings)
    with installation.database.transaction() as session:
        user = users.get(session, own, lock=True)
        second_factor.begin(session, vault, user)
        factor = session.get(SecondFactorRow, own)
        assert factor is not None
        factor.confirmed_at, secret = now(), vault.decrypt(factor.secret)
    provider.user("u6", email="member@example.org", email_verified=True, groups=["vezna-admins"])
    browser = installation.browser(Role.VIEWER)
    answer = browser.get(confirmed(browser, "u6"))
    waiting = re.search(r'name="waiting" value="([^"]+)"', answer.text)
    assert answer.status_code == 200 and waiting is not None
    assert SESSION_COOKIE not in answer.headers.get("set-cookie", "")
    with installation.database.reading() as session:  # without the code nothing is joined and no role changes
        assert session.query(ExternalIdentityRow).count() == 0
    assert user_of(installation, "member@example.org").role is Role.MEMBER
    form = {"waiting": waiting[1], "code": pyotp.TOTP(secret).now(), "next": "/runs"}
    entered = browser.post("/login/code", data=form)
    assert (entered.status_code, entered.headers["location"]) == (303, "/runs")
    assert user_of(installation, "member@example.org").role is Role.ADMIN
    with installation.database.reading() as session:
        assert [row.user_id for row in session.query(ExternalIdentityRow)] == [own]
        assert [row.user_id for row in session.query(LoginSessionRow)] == [own]  # the viewer's has ended
    entry = logged(installation, "session.login")[-1]
    assert (entry.name, entry.details) == ("member@example.org", {"by": "single sign-on and code"})
    assert logged(installation, "user.join_identity")[-1].via == "visitor"


def test_a_login_ends_the_session_of_the_browser(installation: Installation, provider: Provider) -> None:
    provider.user("u9", email="member@example.org", email_verified=True, groups=["science"])
    browser = installation.browser(Role.VIEWER)
    assert browser.get(confirmed(browser, "u9")).status_code == 303
    with installation.database.reading() as session:
        assert [row.user_id for row in session.query(LoginSessionRow)] == [installation.ids[Role.MEMBER]]
    assert logged(installation, "user.join_identity")[-1].via == "visitor"


def test_an_admin_removes_an_identity(
    installation: Installation, provider: Provider, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for subject in ("old", "new", "newest"):
        provider.user(subject, email="member@example.org", email_verified=True, groups=["science"])
    assert log_in(installation, "old").status_code == 303
    assert is_refused(log_in(installation, "new"), "Ask an admin to remove")
    own, admin = installation.ids[Role.MEMBER], installation.browser(Role.ADMIN)
    assert f'id="identity-{own}"' in admin.get("/users").text
    assert admin.post(f"/users/{own}/identity/remove").status_code == 303
    assert f'id="identity-{own}"' not in admin.get("/users").text
    assert log_in(installation, "new").status_code == 303
    assert is_refused(log_in(installation, "old"))
    monkeypatch.setenv("VEZNA_HOME", str(installation.settings.home))
    for name in ("ISSUER", "CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.delenv(f"VEZNA_OPENID_{name}", raising=False)
    remove_identity("member@example.org")
    remove_identity("member@example.org")
    out = capsys.readouterr().out
    assert "no identity of single sign-on any more" in out and "had no identity" in out
    assert log_in(installation, "newest").status_code == 303
    assert [entry.via for entry in logged(installation, "user.remove_identity")] == ["session", "command line"]


def test_an_issuer_that_ends_in_a_slash(installation: Installation, provider: Provider) -> None:
    issuer = f"{provider.address}/"
    provider.forge = lambda answer: answer | {"issuer": issuer}
    provider.forged_path = "/.well-known/openid-configuration"
    refused = installation.anonymous().get("/login/openid")
    assert refused.status_code == 503 and f"{issuer}: set VEZNA_OPENID_ISSUER" in refused.text
    settings = installation.settings.model_copy(update={"openid_issuer": issuer})
    installation.app.state.openid = OpenIdProvider(settings)
    assert installation.anonymous().get("/login/openid").status_code == 303
    provider.user("u10", email="una@example.org", email_verified=True, groups=["science"])
    provider.forge, provider.forged_path = forged(own_key(provider), "RS256", iss=issuer), "/oauth2/token"
    client = installation.anonymous()
    address = confirmed(client, "u10")
    assert client.get(re.sub("&iss=[^&]*", "", address) + f"&iss={issuer}").status_code == 303


@pytest.mark.slow
def test_a_refused_login_is_recorded_and_many_of_them_are_counted(
    installation: Installation, provider: Provider
) -> None:
    provider.user("u11", email="tam@example.org", email_verified=True, groups=[])
    assert is_refused(log_in(installation, "u11"), "no role in Vezna")
    client = installation.anonymous()
    for _try in range(52):
        assert is_refused(client.get("/login/openid/back?state=x"))
    failed = [(entry.subject, entry.details) for entry in logged(installation, "session.login_failed")]
    by = {"by": "single sign-on"}
    assert failed == [("tam@example.org", by), *[("", by)] * 49, ("", {"limit": "address"})]


def test_an_address_that_is_not_ascii_joins_no_account(installation: Installation, provider: Provider) -> None:
    with installation.database.transaction() as session:
        user_service.create(session, NewUser(email="kim@example.org"))
    provider.user("thief", email="\u212aim@example.org", email_verified=True, groups=["science"])
    assert is_refused(log_in(installation, "thief"), "ASCII")


@pytest.mark.parametrize("path", ["/%1f", "/a%7f", "/a%0Ab"])
def test_a_path_with_control_characters_leads_home(installation: Installation, path: str) -> None:
    client = installation.anonymous()
    assert client.get(f"/login/openid?next={path}").status_code == 303
    with installation.database.reading() as session:
        assert [row.back for row in session.query(OpenIdLoginRow)] == ["/studies"]


def test_the_cookie_of_a_login_is_of_this_host_alone_over_tls(installation: Installation, provider: Provider) -> None:
    provider.user("u12", email="ann@example.org", email_verified=True, groups=["science"])
    client = installation.anonymous()
    client.base_url = "https://127.0.0.1"  # type: ignore[assignment]
    cookie = client.get("/login/openid").headers["set-cookie"]
    assert cookie.startswith("__Host-vezna_openid=") and "Secure" in cookie and "; Path=/;" in cookie
    assert "domain" not in cookie.lower()
    assert client.get(confirmed(client, "u12")).status_code == 303
    client.cookies.clear()
    address = confirmed(client, "u12")
    state = parse_qs(urlsplit(address).query)["state"][0]
    client.cookies.clear()
    client.cookies.set(COOKIE, state)  # a sibling host can set this one
    assert is_refused(client.get(address))


@pytest.mark.parametrize("subject", ["u13", "with code"])
def test_admins_are_locked_before_the_user_as_by_a_change_of_role(
    installation: Installation, provider: Provider, monkeypatch: pytest.MonkeyPatch, subject: str
) -> None:
    profile = Profile(provider.address, subject, "member@example.org", True, "", Role.VIEWER)
    locked: list[str] = []
    get, admins = users.get, users.lock_active_admins

    def getting(session: Session, user_id: int, *, lock: bool = False) -> UserRow:
        locked.extend(["user"] * lock)
        return get(session, user_id, lock=lock)

    def locking(session: Session) -> list[int]:
        locked.append("admins")
        return admins(session)

    monkeypatch.setattr(users, "get", getting)
    monkeypatch.setattr(users, "lock_active_admins", locking)
    if subject == "u13":
        with installation.database.transaction() as session:
            openid.enter(session, installation.settings, profile, HERE, None)
    else:
        monkeypatch.setattr(second_factor, "check", lambda *_args: None)
        with installation.database.transaction() as session:
            user = get(session, installation.ids[Role.MEMBER])
            waiting = second_factor.wait_for_code(session, user, "x", openid.PROFILE.dump_python(profile, mode="json"))
        login.finish(
            installation.database,
            Vault(installation.settings),
            waiting,
            "",
            lambda session, user: second_factor.begin_after_code(
                session, installation.settings, waiting, user, HERE, None
            ),
        )
    assert locked[:2] == ["admins", "user"]
    assert user_of(installation, "member@example.org").role is Role.VIEWER


def test_a_disabled_user_and_another_issuer_get_nowhere(installation: Installation, provider: Provider) -> None:
    provider.user("u7", email="viewer@example.org", email_verified=True, groups=["science"])
    assert log_in(installation, "u7").status_code == 303
    with installation.database.transaction() as session:
        users.get(session, installation.ids[Role.VIEWER], lock=True).disabled = True
    assert is_refused(log_in(installation, "u7"))
    client = installation.anonymous()
    assert is_refused(client.get(confirmed(client, "u7") + "&iss=https://evil.example"))


def test_a_provider_that_is_away_is_said(installation: Installation) -> None:
    settings = installation.settings.model_copy(update={"openid_issuer": "http://127.0.0.1:9"})
    installation.app.state.openid = OpenIdProvider(settings)
    answer = installation.anonymous().get("/login/openid")
    assert answer.status_code == 503 and "identity provider" in answer.text


@pytest.mark.parametrize(
    "changes", [{"issuer": "https://evil.example"}, {"token_endpoint": "http://evil.example/token"}, {"jwks_uri": 3}]
)
def test_a_description_of_another_issuer_or_without_https_is_refused(
    installation: Installation, provider: Provider, changes: dict[str, Any]
) -> None:
    provider.forge, provider.forged_path = lambda answer: answer | changes, "/.well-known/openid-configuration"
    assert installation.anonymous().get("/login/openid").status_code == 503


@pytest.mark.by_day
@pytest.mark.parametrize(
    "path",
    ["//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example",
     " //evil.example", "javascript:alert(1)", "evil.example", "/\n//evil.example", "///evil.example",
     "/runs\\..\\..\\evil.example"],
)  # fmt: skip
def test_a_login_leads_to_no_other_site(installation: Installation, provider: Provider, path: str) -> None:
    provider.user("u8", email="zoe@example.org", email_verified=True, groups=["science"])
    client = installation.anonymous()
    assert client.get(confirmed(client, "u8", path)).headers["location"] == "/studies"


def test_a_code_is_used_once_with_the_verifier_of_its_own_login(installation: Installation, provider: Provider) -> None:
    provider.user("u9", email="ida@example.org", email_verified=True, groups=["science"])
    first, second = installation.anonymous(), installation.anonymous()
    address = confirmed(first, "u9")
    code = parse_qs(urlsplit(address).query)["code"][0]
    of_second = parse_qs(urlsplit(confirmed(second, "u9")).query)["state"][0]
    stolen = f"/login/openid/back?state={of_second}&code={code}"
    assert is_refused(second.get(stolen), "did not confirm"), "another login's verifier and nonce"
    again = confirmed(first, "u9")
    assert first.get(again).status_code == 303
    state = parse_qs(urlsplit(confirmed(first, "u9")).query)["state"][0]
    used = parse_qs(urlsplit(again).query)["code"][0]
    assert is_refused(first.get(f"/login/openid/back?state={state}&code={used}"), "did not confirm"), "a replay"
    for query in ("", "?error=access_denied", "?state=&code=", f"?state={state}", "?state=x&state=y&code=z"):
        assert is_refused(first.get(f"/login/openid/back{query}")), query
    mixed = confirmed(first, "u9")
    assert is_refused(first.get(f"{mixed}&iss=https://evil.example")), "the answer of another provider"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"VEZNA_OPENID_ISSUER": "http://id.example.org"}, "write https://id.example.org"),
        ({"VEZNA_OPENID_ISSUER": "https://id.example.org"}, "VEZNA_OPENID_CLIENT_SECRET_FILE"),
        ({"VEZNA_OPENID_ROLES": "x=owner"}, "x=owner gives no role"),
        ({"VEZNA_OPENID_ROLES": "x=admin"}, "VEZNA_OPENID_ROLE_CLAIM"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], says: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Invalid, match=says):
        load()


def test_a_claim_may_be_one_value_a_list_or_inside_of_others() -> None:
    roles = [("a", Role.ADMIN), ("v", Role.VIEWER)]
    assert role_of({"g": ["v", "a", 3]}, "g", roles) is Role.ADMIN
    assert role_of({"g": "v"}, "g", roles) is Role.VIEWER
    assert role_of({"r": {"g": ["v"]}}, "r.g", roles) is Role.VIEWER
    assert role_of({"r": 1}, "r.g", roles) is None
