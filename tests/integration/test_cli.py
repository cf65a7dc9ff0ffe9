"""`vezna` against a served application: submit, watch, compare, and what it says when something is wrong."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml

from app import cli
from app.domain.runs import Failure, FailureCode, RunSpec
from app.domain.studies import StudySpec
from app.main import create_app
from app.services import attempts
from app.settings import Settings
from app.store.session import Database
from tests.fakes import SilentBell
from tests.integration.test_api import RUN, STUDY, finish

# The command line does not know which database is behind the server.
pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.parametrize("database", ["sqlite"], indirect=True)]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def server(registered: Database, settings: Settings, bell: SilentBell) -> Iterator[str]:
    """URL of a served application whose doorbell nobody hears."""
    app = create_app(settings)
    app.state.doorbell = bell
    found = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=found.run)
    thread.start()
    while not found.started:
        time.sleep(0.01)
    port = found.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    found.should_exit = True
    thread.join()


def vezna(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run a command; its exit status."""
    monkeypatch.setattr("sys.argv", ["vezna", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def write(path: Path, body: dict[str, Any]) -> str:
    path.write_text(yaml.safe_dump(body))
    return str(path)


def test_a_study_is_submitted_watched_and_compared(
    server: str,
    registered: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = write(tmp_path / "study.yaml", STUDY)
    assert vezna(monkeypatch, "submit", spec, "--url", server) == 0
    assert "Study 1 is queued" in capsys.readouterr().out
    for run_id, accuracy in zip(range(1, 5), (1.0, 0.25, 0.875, 0.25), strict=True):
        finish(registered, run_id, accuracy)
    assert vezna(monkeypatch, "watch", "1", "--url", server) == 0
    shown = capsys.readouterr().out
    assert "run 1 (full, seed 0): accuracy 1.000" in shown
    assert "reference" in shown and "LoRA r=2" in shown
    assert vezna(monkeypatch, "compare", "1", "--url", server, "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "Small study"


def test_a_run_is_submitted_and_its_end_is_the_exit_status(
    server: str,
    registered: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert vezna(monkeypatch, "submit", write(tmp_path / "run.yaml", RUN), "--url", server, "--json") == 0
    run = json.loads(capsys.readouterr().out)
    with registered.transaction() as session:
        mine = attempts.claim(session, run["id"], "w1", 45)
        assert mine is not None
        failure = Failure(code=FailureCode.DIVERGED, message="not finite")
        attempts.fail(session, mine, failure)
    assert vezna(monkeypatch, "watch", str(run["id"]), "--run", "--url", server) == 1
    assert "failed: diverged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (RUN | {"method": {"kind": "lora", "r": 0}}, "method.r: Input should be greater than or equal to 1"),
        (RUN | {"base_model": "gone"}, "base_model: there is no base model 'gone' (registered: tiny"),
    ],
)
def test_what_is_wrong_with_a_spec_is_said_by_field(
    server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    body: dict[str, Any],
    says: str,
) -> None:
    assert vezna(monkeypatch, "submit", write(tmp_path / "run.yaml", body), "--url", server) == 1
    assert says in capsys.readouterr().err


def test_what_is_absent_is_said_in_a_sentence(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vezna(monkeypatch, "watch", "9", "--url", server) == 1
    assert "there is no study 9" in capsys.readouterr().err
    assert vezna(monkeypatch, "submit", str(tmp_path / "nothing.yaml"), "--url", server) == 1
    assert "cannot be read: No such file or directory" in capsys.readouterr().err
    assert vezna(monkeypatch, "submit", write(tmp_path / "list.yaml", [1]), "--url", server) == 1  # type: ignore[arg-type]
    assert "holds no run and no study" in capsys.readouterr().err
    assert vezna(monkeypatch, "compare", "1", "--url", "http://127.0.0.1:9") == 1
    assert "No server answers" in capsys.readouterr().err


def test_a_setting_that_is_wrong_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VEZNA_HOME", str(tmp_path))
    monkeypatch.setenv("VEZNA_HOST", "0.0.0.0")
    assert vezna(monkeypatch, "up") == 1
    assert "would open the server to the network" in capsys.readouterr().err
    monkeypatch.setenv("VEZNA_HOST", "127.0.0.1")
    monkeypatch.setenv("VEZNA_PORT", "many")
    assert vezna(monkeypatch, "up") == 1
    assert "VEZNA_PORT: " in capsys.readouterr().err


def test_a_port_in_use_is_said_before_anything_is_started(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VEZNA_HOME", str(tmp_path / "other"))
    port = server.rpartition(":")[2]
    assert vezna(monkeypatch, "up", "--port", port) == 1
    assert f"Port {port} on 127.0.0.1 is in use" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_the_examples_are_specs() -> None:
    assert StudySpec.model_validate(yaml.safe_load((EXAMPLES / "study.yaml").read_text()))
    assert RunSpec.model_validate(yaml.safe_load((EXAMPLES / "run.yaml").read_text()))
