"""`vezna` against a served application: submit, watch, compare, and what it says when something is wrong."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


@pytest.fixture
def server(registered: Database, settings: Settings, bell: SilentBell) -> Iterator[str]:
    """URL of a served application whose doorbell nobody hears."""
    app = create_app(settings)
    app.state.doorbell = bell
    with served(app) as url:
        yield url


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
    comparison = json.loads(capsys.readouterr().out)[0]
    assert comparison["name"] == "Small study"
    assert vezna(monkeypatch, "compare", "1", "--url", server) == 0
    again = " ".join(capsys.readouterr().out.split())
    assert any(caveat.startswith("learning rates were not tuned") for caveat in comparison["caveats"])
    assert all(f"- {caveat}" in again for caveat in comparison["caveats"])
    assert comparison["summary"] and again.endswith(" ".join(comparison["summary"].split()))


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
        attempts.fail(session, SilentBell(), mine, failure)
    assert vezna(monkeypatch, "watch", str(run["id"]), "--run", "--url", server) == 1
    assert "failed: diverged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (RUN | {"method": {"kind": "lora", "r": 0}}, "method.r: Must be 1 or more"),
        (RUN | {"base_model": "gone"}, "base_model: There is no base model 'gone'. Choose from: tiny"),
    ],
)
def test_an_invalid_spec_is_reported_by_field(
    server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    body: dict[str, Any],
    says: str,
) -> None:
    assert vezna(monkeypatch, "submit", write(tmp_path / "run.yaml", body), "--url", server) == 1
    assert says in capsys.readouterr().err


def test_an_absent_resource_is_one_sentence(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vezna(monkeypatch, "watch", "9", "--url", server) == 1
    assert "There is no study 9." in capsys.readouterr().err
    assert vezna(monkeypatch, "submit", str(tmp_path / "nothing.yaml"), "--url", server) == 1
    assert "cannot be read: No such file or directory" in capsys.readouterr().err
    assert vezna(monkeypatch, "submit", write(tmp_path / "list.yaml", [1]), "--url", server) == 1  # type: ignore[arg-type]
    assert "contains neither a run nor a study" in capsys.readouterr().err
    assert vezna(monkeypatch, "compare", "1", "--url", "http://127.0.0.1:9") == 1
    assert "No server answers" in capsys.readouterr().err


def test_a_setting_that_is_wrong_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VEZNA_HOME", str(tmp_path))
    monkeypatch.setenv("VEZNA_HOST", "0.0.0.0")
    assert vezna(monkeypatch, "up") == 1
    assert "would open VEZNA_HOST=0.0.0.0 to the network" in capsys.readouterr().err
    monkeypatch.setenv("VEZNA_HOST", "127.0.0.1")
    monkeypatch.setenv("VEZNA_PORT", "many")
    assert vezna(monkeypatch, "up") == 1
    assert "VEZNA_PORT: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("[/x].yaml", "a: [", "is not YAML"),
        ("date.yaml", "name: 2026-01-01", "Put quotes around dates"),
        ("nan.yaml", "margin_points: .nan", "no .nan"),
    ],
)
def test_a_file_without_a_spec_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    text: str,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    where = tmp_path / name
    where.parent.mkdir(exist_ok=True)
    where.write_text(text)
    assert vezna(monkeypatch, "submit", name) == 1
    told = capsys.readouterr().err.strip()
    assert name in told and says in told and "\n" not in told


def test_a_file_with_brackets_in_its_name_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vezna(monkeypatch, "submit", "[/x].yaml") == 1
    assert capsys.readouterr().err == "[/x].yaml cannot be read: No such file or directory\n"


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
        ("VEZNA_REPORT_SECONDS", "30", "at least twice VEZNA_REPORT_SECONDS"),
    ],
)
def test_an_invalid_setting_is_one_sentence_for_every_start(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    value: str,
    says: str,
) -> None:
    monkeypatch.setenv("VEZNA_HOME", str(tmp_path))
    monkeypatch.setenv(variable, value)
    for command in ("migrate", "web"):
        assert vezna(monkeypatch, command) == 1
        told = capsys.readouterr().err.strip()
        assert says in told and "\n" not in told and "secret" not in told


def test_the_web_server_alone_does_not_start_on_an_empty_database_nor_on_an_open_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VEZNA_HOME", str(tmp_path / "empty"))
    assert vezna(monkeypatch, "web") == 1
    assert "Run: vezna migrate" in capsys.readouterr().err
    monkeypatch.setenv("VEZNA_HOST", "0.0.0.0")
    assert vezna(monkeypatch, "web") == 1
    assert "would open VEZNA_HOST=0.0.0.0 to the network" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["localhost, vezna.example,[::1]", '["localhost", "vezna.example", "[::1]"]'])
def test_a_list_is_json_or_has_commas(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("VEZNA_LOGIN", "required")
    monkeypatch.setenv("VEZNA_ALLOWED_HOSTS", given)
    assert load().allowed_hosts == ["localhost", "vezna.example", "[::1]"]
    monkeypatch.setenv("VEZNA_ALLOWED_HOSTS", "[::1]")
    assert load().allowed_hosts == ["[::1]"]


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


@pytest.mark.slow
def test_an_estimate_is_a_table_of_owners_and_of_devices(
    server: str,
    registered: Database,
    bell: SilentBell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(studies, "WAIT_SECONDS", 5)
    monkeypatch.setattr(shared, "console", Console(width=200))
    sign_on(registered, memory_bytes=8 * GIB)
    spec = write(tmp_path / "study.yaml", STUDY)
    with control_worker(registered, bell):
        assert vezna(monkeypatch, "estimate", spec, "--url", server) == 0
        shown = capsys.readouterr().out
        assert "Activations" in shown and "CUDA, bfloat16" in shown and "10.0\N{NO-BREAK SPACE}GiB" in shown
        assert "worker w1" in shown and "does not fit" in shown and "A100 80 GB, H100" in shown
        assert "full on w1: LoRA instead of full fine-tuning saves 5.0\N{NO-BREAK SPACE}GiB (fits)" in shown
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"model_type": "llama"}))
        options = ("--config", str(config), "--json", "--url", server)
        assert vezna(monkeypatch, "estimate", spec, *options) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["settled"] and [arm["name"] for arm in answer["arms"]] == ["full", "LoRA r=2"]


def test_without_a_control_worker_estimate_prints_what_is_ready(
    server: str,
    registered: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(studies, "WAIT_SECONDS", 0)
    monkeypatch.setattr(studies, "ESTIMATE_SECONDS", 0.2)
    assert vezna(monkeypatch, "estimate", write(tmp_path / "run.yaml", RUN), "--url", server) == 0
    assert "Is the control worker running?" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_spec_that_fits_no_worker_is_submitted_only_with_insist(
    server: str,
    registered: Database,
    bell: SilentBell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sign_on(registered, memory_bytes=8 * GIB)
    spec = write(tmp_path / "study.yaml", STUDY)
    monkeypatch.setattr(studies, "WAIT_SECONDS", 5)
    with control_worker(registered, bell):
        assert vezna(monkeypatch, "estimate", spec, "--json", "--url", server) == 0
    capsys.readouterr()
    assert vezna(monkeypatch, "submit", spec, "--url", server) == 1
    assert "arms.0.method: full needs an estimated 10.0 GiB" in capsys.readouterr().err
    assert vezna(monkeypatch, "submit", spec, "--insist", "--url", server) == 0


def test_export_writes_a_table_or_the_comparison(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    server: str,
    registered: Database,
    bell: SilentBell,
) -> None:
    monkeypatch.chdir(tmp_path)
    with registered.transaction() as session:
        study = study_service.submit(session, bell, StudySpec.model_validate(STUDY)).id
    assert vezna(monkeypatch, "export", str(study), "--url", server) == 0
    assert f"Wrote study-{study}-runs.csv." in capsys.readouterr().out
    assert Path(f"study-{study}-runs.csv").read_text().startswith("arm,seed,run,baseline,status")
    steps = ("export", str(study), "--what", "steps", "--format", "parquet", "-o", "steps.parquet", "--url", server)
    assert vezna(monkeypatch, *steps) == 0
    assert Path("steps.parquet").read_bytes().startswith(b"PAR1")
    assert vezna(monkeypatch, "export", str(study), "--format", "json", "-o", "study.json", "--url", server) == 0
    assert json.loads(Path("study.json").read_text())["study_id"] == study
    Path("study.json").write_text("kept")
    for command in (("export", str(study), "--format", "json"), ("report", str(study)), ("audit",)):
        assert vezna(monkeypatch, *command, "-o", "study.json", "--url", server) == 1
        assert "study.json exists already" in capsys.readouterr().err
    assert Path("study.json").read_text() == "kept"
    assert vezna(monkeypatch, "report", str(study), "-o", "study.json", "--force", "--url", server) == 0
    assert Path("study.json").read_text().startswith("<!DOCTYPE html>")


def test_export_leaves_nothing_half_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, server: str
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    assert vezna(monkeypatch, "export", "99", "--url", server) == 1
    assert "There is no study 99." in capsys.readouterr().err
    assert vezna(monkeypatch, "export", "1", "--format", "json", "--what", "items", "--url", server) == 1
    assert "Choose --format csv or --format parquet" in capsys.readouterr().err
    assert vezna(monkeypatch, "export", "1", "--url", "http://127.0.0.1:9") == 1
    assert "No server answers" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_report_writes_one_file_of_html(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    server: str,
    registered: Database,
    bell: SilentBell,
) -> None:
    with registered.transaction() as session:
        study = study_service.submit(session, bell, StudySpec.model_validate(STUDY)).id
    target = tmp_path / "report.html"
    assert vezna(monkeypatch, "report", str(study), "-o", str(target), "--url", server) == 0
    assert capsys.readouterr().out == f"Wrote {target}.\n"
    assert target.read_text().startswith("<!DOCTYPE html>")


def test_results_are_imported_once_and_invalid_files_are_reported(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "others"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.json").write_text(imported_results.as_file(imported_results.result()).text)
    (folder / "deep" / "b.json").write_text(imported_results.as_file(imported_results.result(seed=1)).text)
    assert vezna(monkeypatch, "import", str(folder), "--url", server) == 0
    assert "2 results imported into others." in capsys.readouterr().out
    (folder / "c.json").write_text('{"score": 47}')
    assert vezna(monkeypatch, "import", str(folder), "--url", server) == 1
    said = capsys.readouterr().out
    assert f"{folder / 'c.json'}: the file was rejected" in said
    assert "score: A score is a fraction from 0 to 1, not 47. Write 47 % as 0.47." in said
    assert "0 results imported into others, 2 already imported, 1 file refused." in said
    assert vezna(monkeypatch, "import", str(folder / "a.json"), "--collection", "x", "--url", server, "--json") == 0
    assert json.loads(capsys.readouterr().out)["added"] == [3]


def test_any_runs_are_compared_in_the_terminal_with_their_confounders(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text(
        imported_results.as_file(imported_results.result(), imported_results.result(label="full", method="full")).text
    )
    assert vezna(monkeypatch, "import", str(tmp_path / "a.json"), "--url", server) == 0
    capsys.readouterr()
    assert vezna(monkeypatch, "compare", "--runs", "1,2", "--url", server) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Undecided whether LoRA r=8 loses less than 1 point against full" in shown
    assert "imported" in shown and "75.0 (" in shown
    assert "all results are imported: Vezna has not verified them" in shown
    assert vezna(monkeypatch, "compare", "--collection", "1", "--reference", "1", "--url", server, "--json") == 0
    arms = json.loads(capsys.readouterr().out)["arms"]
    assert [(arm["title"], arm["reference"]) for arm in arms] == [("LoRA r=8", True), ("full", False)]
    assert vezna(monkeypatch, "compare", "--runs", "1,2", "--margin", "2.5", "--url", server) == 0
    assert "margin 2.5 points" in capsys.readouterr().out
    assert vezna(monkeypatch, "compare", "--runs", "1,2", "--margin", "0", "--url", server) == 1
    assert "'0' is not a margin" in capsys.readouterr().err
    assert vezna(monkeypatch, "compare", "--margin", "2", "--url", server) == 1
    assert "No run is given" in capsys.readouterr().err
    assert vezna(monkeypatch, "compare", "--runs", "1,x", "--url", server) == 1
    assert "'x' is not the id of a run" in capsys.readouterr().err
    assert vezna(monkeypatch, "compare", "--url", server) == 1
    assert "Nothing is given to compare" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "says"), [("gone", "gone does not exist"), ("", "contains no .json file")])
def test_an_import_of_nothing_is_a_sentence(
    name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vezna(monkeypatch, "import", str(tmp_path / name)) == 1
    assert says in capsys.readouterr().err.replace("\n", "")


def test_studies_and_runs_are_listed_filtered_and_cancelled(
    server: str, registered: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VEZNA_URL", server)
    monkeypatch.setattr(shared, "console", Console(width=200))

    def said(*arguments: str, status: int = 0) -> str:
        assert vezna(monkeypatch, *arguments) == status
        printed = capsys.readouterr()
        return printed.err if status else printed.out

    with registered.transaction() as session:
        study_service.submit(session, SilentBell(), StudySpec.model_validate(STUDY))
    finish(registered, 1, 0.5)
    table = said("list")
    assert "Small study" in table and "1 of 4 runs" in table
    listed = json.loads(said("list", "runs", "--filter", "not succeeded", "--json"))
    assert [run["id"] for run in listed] == [4, 3, 2]
    assert [run["id"] for run in json.loads(said("list", "runs", "--status", "succeeded", "--json"))] == [1]
    assert [run["id"] for run in json.loads(said("list", "runs", "--method", "lora", "--limit", "1", "--json"))] == [4]
    assert "50.0\N{NO-BREAK SPACE}%" in said("list", "runs", "--sort", "score")
    assert "vezna list runs --method" in said("list", "--method", "lora", status=1)
    assert "--filter archived" in said("list", "runs", "--archived", status=1)
    assert "nonsense" in said("list", "runs", "--filter", "nonsense = 1", status=1)
    assert said("cancel", "4", "--run").strip() == "Run 4 is being cancelled: it is cancelled."
    assert "Study 1 is being cancelled" in said("cancel", "1")
    assert {run["status"] for run in json.loads(said("list", "runs", "--json"))} == {"succeeded", "cancelled"}
    assert said("cancel", "1", status=1)
    assert said("list", "--archived", "--json").strip() == "[]"
