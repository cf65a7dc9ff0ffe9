"""Whether login is required is decided once, at the start, by the command and the names of the server."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.cli.serve import _settings
from app.domain.errors import Invalid
from app.settings import Settings


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGIN", "HOST", "URL", "ALLOWED_HOSTS", "FORWARDED_ALLOW_IPS"):
        monkeypatch.delenv(f"VEZNA_{name}", raising=False)


def test_a_server_of_its_own_requires_a_login_on_every_address() -> None:
    assert Settings().login_required
    assert Settings(host="0.0.0.0").login_required
    assert Settings(login="required").login_required


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_vezna_up_on_loopback_has_a_single_user(host: str) -> None:
    assert not Settings(host=host).for_up().login_required
    assert not Settings(host=host, url="http://localhost:9000", allowed_hosts=["localhost"]).for_up().login_required


@pytest.mark.parametrize(
    "values",
    [
        {"host": "0.0.0.0"},
        {"host": "192.0.2.1"},
        {"host": "::"},
        {"host": "127.0.0.2"},
        {"login": "required"},
        {"allowed_hosts": ["vezna.example"]},
        {"url": "https://vezna.example"},
        {"forwarded_allow_ips": ["10.0.0.5"]},
    ],
)
def test_vezna_up_requires_a_login_where_others_may_reach_it(values: dict[str, object]) -> None:
    assert Settings(**values).for_up().login_required  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "vezna.example"])
def test_login_cannot_be_switched_off_on_an_address_that_others_reach(host: str) -> None:
    with pytest.raises(ValidationError, match="VEZNA_LOGIN=single-user would open"):
        Settings(host=host, login="single-user")


@pytest.mark.parametrize(
    ("name", "value"),
    [("ALLOWED_HOSTS", "vezna.example"), ("URL", "https://vezna.example"), ("FORWARDED_ALLOW_IPS", "127.0.0.1")],
)
def test_login_cannot_be_switched_off_behind_a_proxy(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("VEZNA_LOGIN", "single-user")
    assert not _settings(None).login_required
    monkeypatch.setenv(f"VEZNA_{name}", value)
    with pytest.raises(Invalid, match="single-user would open the server to other machines"):
        _settings(None)
    monkeypatch.setenv("VEZNA_LOGIN", "required")
    assert _settings(None).login_required


def test_there_is_no_other_way_to_switch_it_off() -> None:
    with pytest.raises(ValidationError, match="single-user"):
        Settings(login="off")  # type: ignore[arg-type]


def test_the_first_admin_needs_a_password() -> None:
    with pytest.raises(ValidationError, match="only together with VEZNA_ADMIN_PASSWORD_FILE"):
        Settings(admin_email="ada@example.org")


def test_the_password_of_the_first_admin_is_read_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("seven grey herons wait\n")
    monkeypatch.setenv("VEZNA_ADMIN_EMAIL", "ada@example.org")
    monkeypatch.setenv("VEZNA_ADMIN_PASSWORD_FILE", str(tmp_path / "password"))
    settings = _settings(None)
    assert settings.admin_password.get_secret_value() == "seven grey herons wait"
    assert "herons" not in repr(settings)
