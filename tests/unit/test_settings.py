"""Secrets come by value or by file, by one of them only, and no error shows them."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.domain.errors import Invalid
from app.settings import Settings, load
from worker.children.environment import child_environment

URL = {
    "database_url": "postgresql://vezna:a-secret@db/vezna",
    "database_password": "a-secret",
    "broker_url": "redis://:a-secret@broker:6379/0",
    "broker_password": "a-secret",
}
BESIDE = {"database_password": ("VEZNA_DATABASE_URL", "postgresql://vezna@db/vezna")}


def value_of(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A value of a secret; what it needs beside it is set."""
    if name in BESIDE:
        monkeypatch.setenv(*BESIDE[name])
    return URL.get(name, "a-secret")


def test_the_known_secrets_are_among_them() -> None:
    assert set(URL) | {"hub_token"} <= set(Settings.secrets())


@pytest.mark.parametrize("name", Settings.secrets())
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_may_be_a_file(name: str, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = value_of(name, monkeypatch)
    (tmp_path / "secret").write_text(value + end, newline="")
    monkeypatch.setenv(f"VEZNA_{name.upper()}_FILE", str(tmp_path / "secret"))
    assert getattr(load(), name).get_secret_value() == value
    assert "a-secret" not in repr(load())


@pytest.mark.parametrize("name", Settings.secrets())
def test_a_secret_is_given_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = value_of(name, monkeypatch)
    (tmp_path / "secret").write_text(value)
    monkeypatch.setenv(f"VEZNA_{name.upper()}_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv(f"VEZNA_{name.upper()}", value)
    with pytest.raises(Invalid) as refused:
        load()
    variable = f"VEZNA_{name.upper()}"
    assert f"{variable} and {variable}_FILE are both set" in refused.value.message
    assert "a-secret" not in refused.value.message


@pytest.mark.parametrize(
    ("content", "says"), [(b"", "is empty"), (b"\n", "is empty"), (b"a-secret\xff", "it is not UTF-8")]
)
def test_a_file_without_a_secret(content: bytes, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_bytes(content)
    monkeypatch.setenv("VEZNA_HUB_TOKEN_FILE", str(tmp_path / "secret"))
    with pytest.raises(Invalid) as refused:
        load()
    assert says in refused.value.message and "a-secret" not in refused.value.message
    assert refused.value.message.startswith(f"VEZNA_HUB_TOKEN_FILE={tmp_path}/secret ")


@pytest.mark.parametrize(
    ("url", "password", "whole"),
    [
        ("postgresql://vezna@db:5432/vezna", "p", "postgresql://vezna:p@db:5432/vezna"),
        ("postgresql://vezna:@db/vezna", "p", "postgresql://vezna:p@db/vezna"),
        ("postgresql://vezna@[fe80::1]:5432/vezna", "p", "postgresql://vezna:p@[fe80::1]:5432/vezna"),
        ("postgresql://db/vezna?options=a@b", "p", "postgresql://:p@db/vezna?options=a@b"),
        ("postgresql://vezna@db/vezna?sslmode=require", "a/b@c:d %", "postgresql://vezna:a%2Fb%40c%3Ad%20%25@db/vezna?sslmode=require"),
    ],
)  # fmt: skip
def test_a_password_comes_into_the_databases_address(url: str, password: str, whole: str) -> None:
    settings = Settings(database_url=SecretStr(url), database_password=SecretStr(password))
    assert settings.database == whole


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("redis://broker:6379/0", "redis://:p%3A@broker:6379/0"),
        ("redis://[::1]:6379/0", "redis://:p%3A@[::1]:6379/0"),
        ("rediss://user@broker/1?ssl_cert_reqs=required", "rediss://user:p%3A@broker/1?ssl_cert_reqs=required"),
    ],
)
def test_a_password_comes_into_the_brokers_address(url: str, whole: str) -> None:
    assert Settings(broker_url=SecretStr(url), broker_password=SecretStr("p:")).broker == whole


def test_a_password_is_in_one_place() -> None:
    for name in ("database", "broker"):
        url, password = {f"{name}_url": SecretStr(URL[f"{name}_url"])}, {f"{name}_password": SecretStr("another")}
        with pytest.raises(Invalid) as refused:
            load(**url, **password)
        assert f"VEZNA_{name.upper()}_URL has a password already" in refused.value.message
        assert "secret" not in refused.value.message and "another" not in refused.value.message
    with pytest.raises(Invalid, match="VEZNA_DATABASE_PASSWORD is set without VEZNA_DATABASE_URL"):
        load(database_password=SecretStr("p"))


@pytest.mark.parametrize("name", Settings.secrets())
def test_a_child_of_a_worker_gets_no_secret(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for ending in ("", "_FILE"):
        monkeypatch.setenv(f"VEZNA_{name.upper()}{ending}", "a-secret")
    assert "a-secret" not in child_environment().values()
    assert os.environ[f"VEZNA_{name.upper()}"] == "a-secret"
