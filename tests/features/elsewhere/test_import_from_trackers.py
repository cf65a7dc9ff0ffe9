"""Runs that MLflow and Trackio recorded: MLflow's own client writes into its file store, and a project's file has the
tables of Trackio 0.43. A real MLflow server is read in `test_trackers.py`."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.integration.tracking.test_trackers import sqlite
from tests.integration.web.test_cli import vezna
from tests.support.rows.external import FULL, LORA
from vezna import Client
from vezna.errors import NotImported, WrongTracker
from vezna.trackers import import_runs
from vezna.trackers.study import read_steps
from vezna.trackers.targets import recorded_at


def losses(client: Client, run_id: int) -> list[float]:
    """The curve of a run in Vezna."""
    return [point.value for point in read_steps(client, run_id) if point.name == "train/loss"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file store with an experiment: two finished runs of one name, one that goes on, and another experiment."""
    mlflow = pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    folder = tmp_path / "mlruns"
    client = mlflow.MlflowClient(tracking_uri=folder.as_uri())
    experiment = client.create_experiment("headlines")
    client.create_experiment("other")
    for name, seed, ended in (("lora", 0, True), ("lora", 1, True), ("full", 0, True), ("late", 0, False)):
        run = client.create_run(experiment, start_time=1_000_000, run_name=name).info.run_id
        client.log_param(run, "args.seed", seed)
        client.log_param(run, "learning_rate", 0.001)
        for step in range(3):
            client.log_metric(run, "train/loss", 1 / (step + 1), timestamp=1_000_000 + 500 * step, step=step)
            client.log_metric(run, "eval_accuracy", 0.25 * step + 0.1 * seed, timestamp=1_000_000, step=step)
        if ended:
            client.set_terminated(run)
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    return folder


@pytest.mark.slow
@sqlite
def test_finished_runs_of_mlflow_are_imported_once_without_a_verdict(
    study_server: str, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (
        "import-runs",
        f"mlflow:{store}#headlines",
        "--study",
        "1",
        "--metric",
        "eval_accuracy",
        "--url",
        study_server,
    )
    assert vezna(monkeypatch, *command, "--arm", LORA, "--run", "lora*", "--json") == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["seed"], second["seed"], second["score"]) == (0, 1, pytest.approx(0.6))
    assert first["name"].startswith("lora ") and first["name"] != second["name"]
    assert first["lacking"] == ["item_scores", "splits.train", "splits.test", "metric_version"]
    assert vezna(monkeypatch, *command, "--arm", LORA, "--run", "lora*") == 0
    assert "was imported before" in capsys.readouterr().out
    with Client(study_server) as client:
        run = client.run(first["run_id"])
        assert (run.step, run.score) == (3, pytest.approx(0.5))
        stated = (run.model_extra or {})["imported"]
        assert stated["settings"] == {"args.seed": 0, "learning_rate": 0.001}
        assert losses(client, first["run_id"]) == [1.0, 0.5, pytest.approx(1 / 3)]
        for names, words in (
            (["late"], "its status is RUNNING. Select runs that have finished"),
            (["none-*"], "Choose from the runs there"),
        ):
            with pytest.raises(NotImported, match=words):
                import_runs(client, f"mlflow:{store}#headlines", 1, FULL, metric="eval_accuracy", names=names)


def test_an_experiment_that_is_not_named_or_not_there_is_said_with_those_that_are(store: Path, tmp_path: Path) -> None:
    with pytest.raises(NotImported, match=r"several experiments.*there are: headlines, other"):
        recorded_at(f"mlflow:{store}", ())
    with pytest.raises(NotImported, match="no experiment nothing"):
        recorded_at(f"mlflow:{store}#nothing", ())
    with pytest.raises(NotImported, match="no folder of MLflow's file store"):
        recorded_at(f"mlflow:{tmp_path / 'elsewhere'}", ())
    with pytest.raises(WrongTracker, match="MLFLOW_TRACKING_USERNAME"):
        recorded_at("mlflow:http://ann:secret@127.0.0.1:9#1", ())


def project(folder: Path, name: str = "headlines") -> Path:
    """A project as Trackio 0.43 stores it: two runs, of which one has a table, a text and no number for a loss."""
    file = folder / f"{name}.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(
            "CREATE TABLE metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, timestamp TEXT NOT NULL,"
            " run_name TEXT NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL, log_id TEXT, space_id TEXT);"
            "CREATE TABLE configs (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, run_name TEXT NOT NULL,"
            " config TEXT NOT NULL, created_at TEXT NOT NULL, UNIQUE(run_id));"
        )
        for run, seed in (("full-a", 0), ("lora-a", 1)):
            config = {"seed": seed, "lr": 0.001, "_Created": "2026-01-01T00:00:00+00:00", "_Group": None}
            at = "2026-01-01T00:00:00+00:00"
            connection.execute(
                "INSERT INTO configs (run_id, run_name, config, created_at) VALUES (?, ?, ?, ?)",
                (f"id-{run}", run, json.dumps(config), at),
            )
            logged: list[dict[str, Any]] = [
                {"train/loss": 0.9, "table": {"_type": "trackio.table"}, "note": "hello"},
                {"train/loss": "NaN"},
                {"train/loss": 0.3, "eval/accuracy": 0.75},
            ]
            for step, values in enumerate(logged):
                connection.execute(
                    "INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) VALUES (?, ?, ?, ?, ?)",
                    (f"id-{run}", f"2026-01-01T00:00:0{2 * step}+00:00", run, step, json.dumps(values)),
                )
        connection.commit()
    return file


@sqlite
def test_runs_of_a_trackio_project_are_imported(
    study_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project(tmp_path)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    command = ("import-runs", "trackio:head.lines", "--study", "1", "--metric", "eval/accuracy", "--url", study_server)
    assert vezna(monkeypatch, *command, "--arm", FULL, "--run", "full-*", "--json") == 0
    [full] = json.loads(capsys.readouterr().out)
    assert (full["seed"], full["score"], full["known"]) == (0, 0.75, False)
    [run] = recorded_at(f"trackio:{file}", ["full-a"])
    assert [(point.step, point.seconds) for point in run.series["train/loss"]] == [(0, 0.0), (1, 2.0), (2, 4.0)]
    assert set(run.series) == {"train/loss", "eval/accuracy"} and dict(run.parameters) == {"seed": "0", "lr": "0.001"}
    with Client(study_server) as client:
        [again] = import_runs(client, f"trackio:{file}", 1, FULL, metric="eval/accuracy", names=["full-a"])
        assert again.known and not again.changed
        assert losses(client, full["run_id"]) == [0.9, 0.3], "a loss that is no number is left out"


def test_a_project_that_is_not_there_or_broken_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    with pytest.raises(NotImported, match=r"there is no .*nothing\.db"):
        recorded_at("trackio:nothing", ())
    (tmp_path / "broken.db").write_bytes(b"SQLite format 3\0 and then nothing")
    with pytest.raises(NotImported, match="it is broken"):
        recorded_at("trackio:broken", ())
    with closing(sqlite3.connect(project(tmp_path))) as connection:
        connection.execute("UPDATE metrics SET metrics = '[1'")
        connection.commit()
    with pytest.raises(NotImported, match="it is broken"):
        recorded_at("trackio:headlines", ())
