"""`vezna` against a served application: submit, watch, compare, and what it says when something is wrong."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml
from rich.console import Console

from app.cli import program as cli
from app.cli import shared
from app.cli.studies import studies
from app.domain.failures import Failure, FailureCode
from app.domain.resources.devices import GIB
from app.domain.runs.spec import RunSpec
from app.domain.studies.spec import StudySpec
from app.main import create_app
from app.services.runs import attempts
from app.services.studies import studies as study_service
from app.settings import Settings, load
from app.store.database.session import Database
from tests.integration.resources.test_api_estimates import control_worker
from tests.integration.resources.test_estimates import sign_on
from tests.integration.web.test_api import RUN, STUDY, finish
from tests.support.fakes.fakes import SilentBell
from tests.support.rows import imported_results
from tests.support.servers.served import served

# The command line does not know which database is behind the server.
pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.parametrize("database", ["sqlite"], indirect=True)]

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
NOBODY = ("--url", "http://127.0.0.1:9")


class Command(Protocol):
    """Runs a command that ends with this status: what it printed; where it failed, also on standard error."""

    def __call__(self, *arguments: str, status: int = 0) -> str: ...


@pytest.fixture
def server(
    registered: Database, settings: Settings, bell: SilentBell, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """URL of a served application whose doorbell nobody hears, which commands call."""
    app = create_app(settings)
    app.state.doorbell = bell
    with served(app) as url:
        monkeypatch.setenv("VEZNA_URL", url)
        yield url


def vezna(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run a command; its exit status."""
    monkeypatch.setattr("sys.argv", ["vezna", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: str, status: int = 0) -> str:
        ended, printed = vezna(monkeypatch, *arguments), capsys.readouterr()
        assert ended == status, printed
        return printed.out + printed.err if status else printed.out

    return run


def write(path: Path, body: Any) -> str:
    path.write_text(yaml.safe_dump(body))
    return str(path)


def submitted(database: Database) -> str:
    """A study; its id."""
    with database.transaction() as session:
        return str(study_service.submit(session, SilentBell(), StudySpec.model_validate(STUDY)).id)


@pytest.mark.usefixtures("server")
def test_a_study_is_submitted_watched_and_compared(command: Command, registered: Database, tmp_path: Path) -> None:
    assert "Study 1 is queued" in command("submit", write(tmp_path / "study.yaml", STUDY))
    for run_id, accuracy in zip(range(1, 5), (1.0, 0.25, 0.875, 0.25), strict=True):
        finish(registered, run_id, accuracy)
    shown = command("watch", "1")
    assert "run 1 (full, seed 0): accuracy 1.000" in shown
    assert "reference" in shown and "LoRA r=2" in shown
    comparison = json.loads(command("compare", "1", "--json"))[0]
    assert comparison["name"] == "Small study"
    again = " ".join(command("compare", "1").split())
    assert comparison["caveats"] and all(f"- {caveat}" in again for caveat in comparison["caveats"])
    assert comparison["summary"] and again.endswith(" ".join(comparison["summary"].split()))


@pytest.mark.usefixtures("server")
def test_a_run_is_submitted_and_its_end_is_the_exit_status(
    command: Command, registered: Database, tmp_path: Path
) -> None:
    run = json.loads(command("submit", write(tmp_path / "run.yaml", RUN), "--json"))
    with registered.transaction() as session:
        mine = attempts.claim(session, run["id"], "w1", 45)
        assert mine is not None
        attempts.fail(session, SilentBell(), mine, Failure(code=FailureCode.DIVERGED, message="not finite"))
    command("watch", str(run["id"]), "--run", status=1)


@pytest.mark.usefixtures("server")
def test_what_is_wrong_is_named_on_standard_error(command: Command, tmp_path: Path) -> None:
    wrong = write(tmp_path / "run.yaml", RUN | {"method": {"kind": "lora", "r": 0}})
    assert "method.r: " in command("submit", wrong, status=1)
    assert "study 9" in command("watch", "9", status=1)
    assert "No such file" in command("submit", str(tmp_path / "nothing.yaml"), status=1)
    assert "neither a run nor a study" in command("submit", write(tmp_path / "list.yaml", [1]), status=1)
    assert "No server answers" in command("compare", "1", *NOBODY, status=1)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("[/x].yaml", "a: [", "is not YAML"),
        ("date.yaml", "name: 2026-01-01", "Put quotes around dates"),
        ("nan.yaml", "margin_points: .nan", "no .nan"),
        ("[/y].yaml", None, "cannot be read"),
    ],
)
def test_a_file_without_a_spec_is_one_sentence(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str | None, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    if text is not None:
        (tmp_path / name).write_text(text)
    told = command("submit", name, status=1).strip()
    assert name in told and says in told and "\n" not in told


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("VEZNA_DATABASE_URL", "mysql://u@h/d", "VEZNA_DATABASE_URL: mysql is not supported"),
        ("VEZNA_DATABASE_URL", "nonsense", "VEZNA_DATABASE_URL: this is not the URL of a database"),
        ("VEZNA_DATABASE_URL", "postgresql://u:secret@127.0.0.1:9/d", "The database does not answer: "),
        ("VEZNA_DATABASE_URL_FILE", "/nowhere", "VEZNA_DATABASE_URL_FILE=/nowhere cannot be read: No such file"),
        ("VEZNA_HOME", __file__, "test_cli.py is a file, not a directory"),
        ("VEZNA_URL", "http://team:secret@[::1:8000", "VEZNA_URL: this is not the address of a server: write http://"),
        ("VEZNA_URL", "localhost:8000", "VEZNA_URL: this is not the address of a server: write http://"),
        ("VEZNA_PORT", "0", "VEZNA_PORT: Must be 1 or more"),
        ("VEZNA_PORT", "many", "VEZNA_PORT: "),
        ("VEZNA_REPORT_SECONDS", "30", "at least twice VEZNA_REPORT_SECONDS"),
    ],
)
def test_an_invalid_setting_is_one_sentence_for_every_start(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv("VEZNA_HOME", str(tmp_path))
    monkeypatch.setenv(variable, value)
    for start in ("migrate", "web"):
        told = command(start, status=1).strip()
        assert says in told and "\n" not in told and "secret" not in told


def test_no_server_starts_on_an_empty_database_nor_on_an_open_address(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEZNA_HOME", str(tmp_path / "empty"))
    assert "vezna migrate" in command("web", status=1)
    monkeypatch.setenv("VEZNA_HOST", "0.0.0.0")
    for start in ("web", "up"):
        assert "VEZNA_HOST=0.0.0.0" in command(start, status=1)


@pytest.mark.parametrize("given", ["localhost, vezna.example,[::1]", '["localhost", "vezna.example", "[::1]"]'])
def test_a_list_is_json_or_has_commas(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("VEZNA_LOGIN", "required")
    monkeypatch.setenv("VEZNA_ALLOWED_HOSTS", given)
    assert load().allowed_hosts == ["localhost", "vezna.example", "[::1]"]
    monkeypatch.setenv("VEZNA_ALLOWED_HOSTS", "[::1]")
    assert load().allowed_hosts == ["[::1]"]


def test_a_port_in_use_is_said_before_anything_is_started(
    command: Command, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEZNA_HOME", str(tmp_path / "other"))
    port = server.rpartition(":")[2]
    assert f"Port {port} on 127.0.0.1 is in use" in command("up", "--port", port, status=1)
    assert not (tmp_path / "other").exists()


def test_the_examples_are_specs() -> None:
    assert StudySpec.model_validate(yaml.safe_load((EXAMPLES / "study.yaml").read_text()))
    assert RunSpec.model_validate(yaml.safe_load((EXAMPLES / "run.yaml").read_text()))


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_a_study_is_estimated_and_submitted_though_it_fits_no_worker_only_with_insist(
    command: Command, registered: Database, bell: SilentBell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "WAIT_SECONDS", 5)
    monkeypatch.setattr(shared, "console", Console(width=200))
    sign_on(registered, memory_bytes=8 * GIB)
    spec, config = write(tmp_path / "study.yaml", STUDY), tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "llama"}))
    with control_worker(registered, bell):
        shown = command("estimate", spec)
        assert "CUDA, bfloat16" in shown and "10.0\N{NO-BREAK SPACE}GiB" in shown
        assert "worker w1" in shown and "A100 80 GB, H100" in shown
        answer = json.loads(command("estimate", spec, "--config", str(config), "--json"))
    assert answer["settled"] and [arm["name"] for arm in answer["arms"]] == ["full", "LoRA r=2"]
    assert "arms.0.method: full needs an estimated 10.0 GiB" in command("submit", spec, status=1)
    command("submit", spec, "--insist")


@pytest.mark.usefixtures("server")
def test_without_a_control_worker_estimate_prints_what_is_ready(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "WAIT_SECONDS", 0)
    monkeypatch.setattr(studies, "ESTIMATE_SECONDS", 0.2)
    assert "control worker" in " ".join(command("estimate", write(tmp_path / "run.yaml", RUN)).split())


@pytest.mark.usefixtures("server")
def test_export_and_report_write_whole_files_and_replace_none(
    command: Command, registered: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    assert "study 99" in command("export", "99", status=1)
    assert "--format csv" in command("export", "1", "--format", "json", "--what", "items", status=1)
    assert "No server answers" in command("export", "1", *NOBODY, status=1)
    assert list(Path().iterdir()) == [], "nothing is half written"
    study = submitted(registered)
    assert f"study-{study}-runs.csv" in command("export", study)
    assert Path(f"study-{study}-runs.csv").read_text().startswith("arm,seed,run,baseline,status")
    command("export", study, "--what", "steps", "--format", "parquet", "-o", "steps.parquet")
    assert Path("steps.parquet").read_bytes().startswith(b"PAR1")
    command("export", study, "--format", "json", "-o", "study.json")
    assert json.loads(Path("study.json").read_text())["study_id"] == int(study)
    Path("study.json").write_text("kept")
    for writing in (("export", study, "--format", "json"), ("report", study), ("audit",)):
        assert "study.json exists already" in command(*writing, "-o", "study.json", status=1)
    assert Path("study.json").read_text() == "kept"
    command("report", study, "-o", "study.json", "--force")
    assert Path("study.json").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.usefixtures("server")
def test_results_are_imported_once_and_invalid_files_are_reported(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "others"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.json").write_text(imported_results.as_file(imported_results.result()).text)
    (folder / "deep" / "b.json").write_text(imported_results.as_file(imported_results.result(seed=1)).text)
    assert "2 results imported into others." in command("import", str(folder))
    (folder / "c.json").write_text('{"score": 47}')
    said = command("import", str(folder), status=1)
    assert str(folder / "c.json") in said and "2 already imported, 1 file refused" in said
    added = command("import", str(folder / "a.json"), "--collection", "x", "--json")
    assert json.loads(added)["added"] == [3]
    assert "does not exist" in command("import", str(tmp_path / "gone"), status=1).replace("\n", "")


@pytest.mark.usefixtures("server")
def test_any_runs_are_compared_in_the_terminal(command: Command, tmp_path: Path) -> None:
    results = imported_results.result(), imported_results.result(label="full", method="full")
    (tmp_path / "a.json").write_text(imported_results.as_file(*results).text)
    command("import", str(tmp_path / "a.json"))
    assert "75.0 (" in command("compare", "--runs", "1,2")
    compared = json.loads(command("compare", "--collection", "1", "--reference", "1", "--json"))
    assert [(arm["title"], arm["reference"]) for arm in compared["arms"]] == [("LoRA r=8", True), ("full", False)]
    assert json.loads(command("compare", "--runs", "1,2", "--margin", "2.5", "--json"))["margin"] == 0.025
    wrong = {("--runs", "1,2", "--margin", "0"): "'0'", ("--margin", "2"): "No run", ("--runs", "1,x"): "'x'", (): ""}
    for arguments, named in wrong.items():
        assert named in command("compare", *arguments, status=1)


@pytest.mark.usefixtures("server")
def test_studies_and_runs_are_listed_filtered_and_cancelled(
    command: Command, registered: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "console", Console(width=200))
    submitted(registered)
    finish(registered, 1, 0.5)
    table = command("list")
    assert "Small study" in table and "1 of 4 runs" in table

    def listed(*arguments: str) -> list[int]:
        return [run["id"] for run in json.loads(command("list", "runs", *arguments, "--json"))]

    assert listed("--filter", "not succeeded") == [4, 3, 2]
    assert listed("--status", "succeeded") == [1]
    assert listed("--method", "lora", "--limit", "1") == [4]
    assert "50.0\N{NO-BREAK SPACE}%" in command("list", "runs", "--sort", "score")
    assert "vezna list runs --method" in command("list", "--method", "lora", status=1)
    assert "--filter archived" in command("list", "runs", "--archived", status=1)
    assert "nonsense" in command("list", "runs", "--filter", "nonsense = 1", status=1)
    command("cancel", "4", "--run")
    command("cancel", "1")
    assert {run["status"] for run in json.loads(command("list", "runs", "--json"))} == {"succeeded", "cancelled"}
    assert command("cancel", "1", status=1)
    assert command("list", "--archived", "--json").strip() == "[]"
