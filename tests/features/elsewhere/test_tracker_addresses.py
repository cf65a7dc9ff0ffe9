"""What is said of an address that names no tracker, of one that refuses, of a study that is not there, and of a missing
package."""

import sys
from typing import Any

import pytest

from tests.integration.tracking.test_trackers import mlflow, server, sqlite
from tests.integration.web.test_cli import vezna
from tests.integration.web.test_client import serving
from vezna import Client
from vezna.models import Artifact
from vezna.trackers import writing

__all__ = ["mlflow", "server"]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:5000", "is not the address of a tracker. Write http://host:5000"),
        ("tensorboard:", "or tensorboard:DIR, trackio:PROJECT"),
        ("neptune:project", "is not the address of a tracker"),
        ("ftp://host", "is not the address of a tracker"),
        ("http://host:port", "is not the address of a tracker"),
        ("http://ann:secret@127.0.0.1:9", "Set MLFLOW_TRACKING_USERNAME"),
    ],
)
def test_a_wrong_address_is_named(
    address: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vezna(monkeypatch, "export-study", "1", "--to", address, "--url", "http://127.0.0.1:9") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert words in said
    assert "secret" not in said


ANSWERS = [
    (403, "application/json", '{"error_code": "PERMISSION_DENIED", "message": "Permission denied"}'),
    (404, "text/html", "<html>Not here</html>"),
    (200, "text/html", "<html>Welcome</html>"),
]


@sqlite
@pytest.mark.nightly
def test_a_tracker_that_refuses_or_is_away_is_named(
    server: str, mlflow: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("export-study", "1", "--url", server, "--to")
    for answer in ANSWERS:
        with serving(lambda n, answer=answer: answer) as address:
            assert vezna(monkeypatch, *command, address) == 1
        said = " ".join(capsys.readouterr().err.split())
        assert f"The tracker at {address} refused (" in said, answer
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert vezna(monkeypatch, *command, "http://127.0.0.1:9") == 1
    assert "The tracker at http://127.0.0.1:9 does not answer" in " ".join(capsys.readouterr().err.split())


def test_a_link_to_a_file_has_no_password() -> None:
    file = Artifact(id=7, run_id=1, name="model", kind="weights", bytes=1, sha256="0" * 64)
    with Client("https://ann:hidden-word@vezna.example") as client:
        assert writing._link(client, file)["url"] == "https://vezna.example/api/v1/artifacts/7/content"


@sqlite
def test_a_study_that_is_not_there_is_named_before_the_tracker_is_asked(
    server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vezna(monkeypatch, "export-study", "999", "--to", "http://127.0.0.1:9", "--url", server) == 1
    assert "999" in capsys.readouterr().err


@sqlite
@pytest.mark.parametrize(
    ("address", "module", "package"),
    [("http://127.0.0.1:9", "mlflow", "mlflow-skinny"), ("tensorboard:runs", "tensorboardX.summary", "tensorboardX")],
)
def test_without_the_package_of_a_tracker_it_is_named(
    address: str,
    module: str,
    package: str,
    server: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert vezna(monkeypatch, "export-study", "1", "--to", address, "--url", server) == 1
    assert f"pip install {package}" in " ".join(capsys.readouterr().err.split())
