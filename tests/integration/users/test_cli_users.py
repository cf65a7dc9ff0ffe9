"""`vezna user` on a database: no password in arguments, errors as sentences."""

import io
import json
from pathlib import Path

import pytest

from app.services.users.sessions import Visitor
from app.store.database.session import Database
from tests.integration.users.test_accounts import PASSWORD
from tests.integration.web.test_cli import vezna
from tests.support.rows.accounts import verified

pytestmark = [pytest.mark.parametrize("database", ["sqlite"], indirect=True)]
ADA = "ada@example.org"


@pytest.fixture(autouse=True)
def _installation(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEZNA_DATABASE_URL", database.url.render_as_string(hide_password=False))


def piped(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


@pytest.mark.slow
def test_a_user_is_created_listed_disabled_and_enabled(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    assert (
        vezna(monkeypatch, "user", "create", ADA, "--name", "Ada", "--role", "admin", "--password-file", str(file)) == 0
    )
    assert verified(database, ADA, PASSWORD, Visitor("::1"))
    assert vezna(monkeypatch, "user", "create", ADA, "--password-file", str(file)) == 1
    assert "already is a user" in capsys.readouterr().err

    piped(monkeypatch, PASSWORD + "\n")
    assert vezna(monkeypatch, "user", "create", "bo@example.org", "--password-file", "-") == 0
    assert vezna(monkeypatch, "user", "revoke", "Bo@example.org") == 0
    assert vezna(monkeypatch, "user", "disable", "Bo@example.org") == 0
    assert vezna(monkeypatch, "user", "disable", ADA) == 1
    assert "last admin" in capsys.readouterr().err
    assert vezna(monkeypatch, "user", "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(row["email"], row["role"], row["disabled"]) for row in listed] == [
        (ADA, "admin", False),
        ("bo@example.org", "member", True),
    ]
    assert vezna(monkeypatch, "user", "enable", "bo@example.org") == 0
    assert vezna(monkeypatch, "user", "list") == 0
    table = capsys.readouterr().out
    assert ADA in table and "disabled" not in table


def test_a_password_is_reset(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    piped(monkeypatch, PASSWORD)
    vezna(monkeypatch, "user", "create", ADA, "--password-file", "-")
    piped(monkeypatch, "nine blue umbrellas sing\r\n")
    assert vezna(monkeypatch, "user", "reset-password", ADA, "--password-file", "-") == 0
    assert verified(database, ADA, "nine blue umbrellas sing", Visitor("::1"))
    assert vezna(monkeypatch, "user", "reset-password", "ghost@example.org", "--password-file", "-") == 1
    assert "no user ghost@example.org" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((ADA,), "no terminal"),
        ((ADA, "--password-file", "-"), "list of common ones"),
        (("ada", "--password-file", "-"), "not an e-mail address"),
        ((ADA, "--password-file", "/nowhere/password"), "No such file"),
    ],
)
def test_what_is_wrong_is_said_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    piped(monkeypatch, "password1234\n")
    assert vezna(monkeypatch, "user", "create", *arguments) == 1
    assert says in capsys.readouterr().err
