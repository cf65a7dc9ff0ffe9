"""`vezna login` and `vezna logout` against a server that requires a login, over a socket."""

import io
import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from app.cli.users import credentials
from app.domain.accounts.policy import Role, Scope
from app.services.users import passwords
from app.store.users import queries as users
from tests.integration.web.test_cli import vezna
from tests.support.rows.accounts import PASSWORD, Installation, installed
from tests.support.servers.served import served

Run = Callable[..., int]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Iterator[tuple[str, Installation]]:
    home = tmp_path_factory.mktemp("login")
    with installed(home, migrated_file) as found:
        stored = passwords.accepted(PASSWORD)
        with found.database.transaction() as session:
            users.get(session, found.ids[Role.MEMBER]).password_hash = stored
        with served(found.app) as url:
            yield url, found


@pytest.fixture
def run(server: tuple[str, Installation], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command at the server, with a configuration directory of the test's own; its exit status."""
    monkeypatch.delenv(credentials.VARIABLE, raising=False)
    monkeypatch.delenv(credentials.FILE_VARIABLE, raising=False)
    monkeypatch.setattr(typer, "get_app_dir", lambda name: str(tmp_path / name))
    return lambda *arguments: vezna(monkeypatch, *arguments, "--url", server[0])


class Terminal(io.StringIO):
    """Standard input that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.slow
def test_a_password_becomes_a_token_that_later_commands_use(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("list") == 1
    assert "Run: vezna login, or set VEZNA_TOKEN" in capsys.readouterr().err

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(typer, "prompt", lambda *_words, **_options: PASSWORD)
    assert run("login", "--email", "member@example.org", "--scopes", "read") == 0

    assert "Logged in as member@example.org, member" in capsys.readouterr().out
    assert stat.S_IMODE(credentials.file().stat().st_mode) == 0o600
    assert stat.S_IMODE(credentials.file().parent.stat().st_mode) == 0o700
    [token] = json.loads(credentials.file().read_text()).values()
    assert run("list") == 0

    assert run("cancel", "1") == 1
    assert "lacks the scope run" in capsys.readouterr().err

    assert run("logout") == 0
    assert json.loads(credentials.file().read_text()) == {}
    monkeypatch.setenv(credentials.VARIABLE, token)
    assert run("list") == 1


def test_a_login_revokes_the_token_that_it_replaces(
    run: Run, server: tuple[str, Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (server[1].token(Role.ADMIN, Scope.READ) for _ in range(2))
    for token in (first, second, second):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{token}\n"))
        assert run("login", "--with-token") == 0
    assert run("list") == 0
    monkeypatch.setenv(credentials.VARIABLE, first)
    assert run("list") == 1


def test_a_wrong_password_stores_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(typer, "prompt", lambda *_words, **_options: "wrong")
    assert run("login", "--email", "member@example.org") == 1
    assert capsys.readouterr().err == "The e-mail address or the password is wrong.\n"
    assert not credentials.file().exists()


def test_an_existing_token_is_read_from_standard_input(
    run: Run, server: tuple[str, Installation], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    token = server[1].token(Role.ADMIN, Scope.READ)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{token}\n"))
    assert run("login", "--with-token") == 0
    printed = capsys.readouterr()
    assert "admin@example.org" in printed.out
    assert token not in printed.out + printed.err
    monkeypatch.setattr("sys.stdin", io.StringIO("a password\n"))
    assert run("login", "--with-token") == 1
    assert "begins with vezna_" in capsys.readouterr().err


def test_the_variable_takes_precedence(
    run: Run, server: tuple[str, Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(credentials.VARIABLE, server[1].token(Role.VIEWER))
    assert run("list") == 0
    credentials.store(server[0], "vezna_" + "x" * 43)
    assert run("list") == 0
    monkeypatch.delenv(credentials.VARIABLE)
    assert run("list") == 1


def test_a_token_goes_only_to_the_server_that_gave_it(run: Run) -> None:
    credentials.store("https://vezna.example", "vezna_a")
    assert credentials.token_for("https://vezna.example:443/") == "vezna_a"
    assert credentials.token_for("https://user:password@vezna.example") == "vezna_a"
    for other in ("http://vezna.example", "https://vezna.example:8443", "https://vezna.example.org", "https://example"):
        assert credentials.token_for(other) == ""
    assert [
        credentials.is_plain(url) for url in ("http://vezna.example", "https://vezna.example", "http://[::1]:8000")
    ] == [True, False, False]


def test_an_address_with_a_user_name_is_refused_beside_a_token(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    credentials.store("https://vezna.example", "vezna_a")
    for command in (["list"], ["login"]):
        assert vezna(monkeypatch, *command, "--url", "https://user:secret@vezna.example") == 1
        error = capsys.readouterr().err
        assert "Remove user name and password from the address" in error and "secret" not in error


def test_a_token_is_read_from_a_file(
    server: tuple[str, Installation],
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "token"
    monkeypatch.setenv(credentials.FILE_VARIABLE, str(file))
    assert run("list") == 1
    assert f"VEZNA_TOKEN_FILE={file} cannot be read" in capsys.readouterr().err
    file.write_text(server[1].token(Role.VIEWER) + "\n")
    assert run("list") == 0
    monkeypatch.setenv(credentials.VARIABLE, "vezna_another")
    assert run("list") == 1
    assert "are both set" in capsys.readouterr().err
