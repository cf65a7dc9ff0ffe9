"""Studies in a real MLflow server: what is written, that writing again updates, and what is said when it fails."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from app.domain.runs.training import TASKS_OF
from app.features.elsewhere.tables import TrackerExportRow
from app.main import create_app
from app.services.runs import ended as ended_runs
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.tables import ArtifactRow, RunRow, now
from tests.integration.web.test_cli import vezna
from tests.support.fakes.fakes import SilentBell
from tests.support.fakes.mlflow_server import experiments, frozen, mlflow_server, runs_of
from tests.support.filled.filled import fill
from tests.support.servers.served import served
from tests.support.training_again import Training
from vezna import Client
from vezna.errors import NotImported, TrackerUnreachable
from vezna.sending.connection import Request
from vezna.trackers import export_study, writing
from vezna.trackers import mlflow as mlflow_tracker
from vezna.trackers.study import USED_BY, read_run, read_steps
from vezna.trackers.targets import recorded_at
from worker.features.elsewhere.host import export_due
from worker.nodes.context import Context

# The command does not know which database is behind the server.
sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
def server(database: Database, settings: Settings) -> Iterator[str]:
    """A server with studies of every state; the small files of the first have their contents."""
    with database.transaction() as session:
        fill(session)
        for row in session.query(ArtifactRow).where(ArtifactRow.bytes <= writing.FILE_BYTES):
            place = settings.home / "files" / row.file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(bytes(row.bytes))
    with served(create_app(settings)) as address:
        yield address


@pytest.fixture
def mlflow() -> Any:
    """MLflow's package, whose import takes seconds."""
    return pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")


@pytest.fixture(scope="module")
def mlflow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the MLflow server keeps everything."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def tracker(mlflow_folder: Path) -> Iterator[str]:
    """The address of a real MLflow server, which takes seconds to start."""
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    with mlflow_server(mlflow_folder) as address:
        yield address


def holding(folder: Path, *words: str) -> list[Path]:
    """The files below a folder that contain one of some words."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    return [file for file in files if any(word.encode() in file.read_bytes() for word in words)]


def test_the_tasks_of_training_arguments_are_those_of_the_server() -> None:
    assert {name: set(tasks) for name, tasks in USED_BY.items()} == {n: set(tasks) for n, tasks in TASKS_OF.items()}


@sqlite
def test_parameters_that_a_run_does_not_use_are_left_out(server: str) -> None:
    run = read_run(Client(server), 2)
    assert run is not None and run.parameters["task"] == "sequence-classification"
    assert not run.parameters.keys() & {"preference_loss", "beta", "packing", "max_new_tokens", "completion_only_loss"}
    assert {"max_length", "learning_rate", "padding_free", "num_train_epochs"} <= run.parameters.keys()


@sqlite
@pytest.mark.nightly
def test_a_study_is_written_into_mlflow_and_updated(
    server: str,
    database: Database,
    mlflow: Any,
    tracker: str,
    mlflow_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = tracker
    client = mlflow.MlflowClient(tracking_uri=address)
    command = ("export-study", "1", "--to", address, "--url", server)
    # It breaks off after the steps of a run, and is repeated.
    with monkeypatch.context() as patched:
        patched.setattr(writing, "_link", lambda client, file: client.artifacts(10**9))
        assert vezna(monkeypatch, *command) == 1
    broken = runs_of(client, server)
    assert set(broken) == {"study", "1"}
    assert vezna(monkeypatch, *command) == 0
    said = capsys.readouterr().out
    assert f"{address}/#/experiments/" in said
    assert "View run" not in said, "MLflow prints on standard output"

    written = runs_of(client, server)
    assert set(written) == {"study", *map(str, range(1, 10))}
    assert written["1"].info.run_id == broken["1"].info.run_id
    study, lora = written["study"], written["2"]
    assert study.info.status == lora.info.status == "FINISHED"
    assert lora.data.tags["mlflow.parentRunId"] == study.info.run_id
    assert lora.data.tags["vezna.url"] == f"{server}/runs/2"
    assert lora.info.run_name == "LoRA r=8, seed 0"
    expected = {"method": "lora", "r": "8", "target_modules": "query, value", "learning_rate": "0.002", "seed": "0"}
    assert expected.items() <= lora.data.params.items()
    assert lora.data.params["base_model"] == "all-MiniLM-L6-v2"
    with database.reading() as session:
        row = session.get_one(RunRow, 2)
        result = row.result
        assert result is not None
        assert lora.info.start_time == round(row.started_at.timestamp() * 1000)
    assert lora.data.metrics["score"] == row.score == lora.data.metrics["test/accuracy"]
    assert lora.data.metrics["memory/peak_bytes"] == result.memory.peak_bytes
    assert lora.data.metrics["seconds/wall"] == result.clocks.wall
    for run in ("1", "2"):  # the first was written twice
        losses = client.get_metric_history(written[run].info.run_id, "train/loss")
        assert [metric.step for metric in losses] == list(range(1, 247))
    assert study.data.tags["vezna.verdict/LoRA r_8"] == "undecided"
    low, mean, high = (study.data.metrics[f"arm/LoRA r_8/score{end}"] for end in ("_low", "", "_high"))
    assert low < mean < high
    assert {file.path for file in client.list_artifacts(study.info.run_id)} == {"report.html", "comparison.json"}
    report = Path(client.download_artifacts(study.info.run_id, "report.html", str(tmp_path)))
    assert "LoRA r=8" in report.read_text(encoding="utf-8")
    files = {file.path for file in client.list_artifacts(written["1"].info.run_id)}
    assert {"files.json", "predictions.parquet"} <= files
    assert "model" not in files, "90 MB are a link"

    # The study changes: a note on a run, another name of an arm's verdict cannot be; exporting again follows.
    with database.transaction() as session:
        row = session.get_one(RunRow, 2)
        row.note, row.worker = "watch this", "host-of-the-team"
    assert vezna(monkeypatch, *command) == 0
    again = runs_of(client, server)
    assert {run.info.run_id for run in again.values()} == {run.info.run_id for run in written.values()}
    assert again["2"].data.tags["mlflow.note.content"] == "watch this"
    assert again["2"].data.tags["vezna.worker"] == "host-of-the-team"
    assert again["2"].data.metrics == lora.data.metrics
    assert len(client.get_metric_history(again["2"].info.run_id, "train/loss")) == 246
    assert len(client.get_metric_history(again["study"].info.run_id, "arm/full/score")) == 1

    # Neither the password of a server's address nor the token is written anywhere.
    with Client(server.replace("://", "://ann:hidden-word@"), token="hidden-token") as api:
        export_study(api, 2, address)
        assert len(experiments(client, server)) == 2
    assert not holding(mlflow_folder, "hidden-word", "hidden-token")

    client.delete_experiment(study.info.experiment_id)
    assert vezna(monkeypatch, *command) == 1
    assert "mlflow experiments restore" in " ".join(capsys.readouterr().err.split())


@sqlite
@pytest.mark.nightly
def test_a_study_that_has_ended_is_exported_by_the_control_node_after_an_outage(
    server: str, database: Database, settings: Settings, files: Files, mlflow: Any, tracker: str
) -> None:
    away = settings.model_copy(update={"url": server, "tracker": "http://127.0.0.1:9"})
    there = away.model_copy(update={"tracker": tracker})
    with database.transaction() as session:
        before = session.get_one(RunRow, 26).finished_at
        ended_runs.note(session, 26)
    ended_runs.process(database, away)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        assert export_due(Context(away, database, files, SilentBell())) == 1
    page = httpx2.get(f"{server}/studies/3", timeout=60).text
    assert "The tracker at http://127.0.0.1:9 does not answer" in page
    assert "attempt 2 of 8" in page
    assert export_due(Context(there, database, files, SilentBell())) == 0, "its time has not come"
    with database.transaction() as session:
        session.execute(update(TrackerExportRow).values(next_at=now()))
    assert export_due(Context(there, database, files, SilentBell())) == 1
    study = httpx2.get(f"{server}/api/v1/studies/3", timeout=60).json()
    assert study["tracker_export"] | {"exported_at": None} == {
        "state": "exported",
        "attempts": 2,
        "next_at": None,
        "exported_at": None,
        "url": f"{tracker}/#/experiments/{experiments(mlflow.MlflowClient(tracker), server)[0].experiment_id}/runs",
        "message": "",
    }
    written = runs_of(mlflow.MlflowClient(tracker), server)
    assert set(written) == {"study", "25", "26", "27", "28"}
    assert written["study"].data.tags["vezna.headline"]
    [recorded] = recorded_at(study["tracker_export"]["url"], ["LoRA r=4*"])  # the address of the experiment's page
    assert recorded.parameters["seed"] == "7" and recorded.series["score"][-1].value > 0
    assert [point.step for point in recorded.series["train/loss"]] == list(range(1, 247))
    with pytest.raises(NotImported, match="its status is FAILED"):
        recorded_at(study["tracker_export"]["url"], ["full*"])
    with database.reading() as session:
        assert session.get_one(RunRow, 26).finished_at == before
        assert session.get_one(RunRow, 26).status == "succeeded"


@sqlite
@pytest.mark.nightly
def test_a_run_that_goes_on_has_each_step_once_after_outages_kills_and_another_attempt(
    server: str, database: Database, mlflow: Any, tracker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, there = Training(database, 26), mlflow.MlflowClient(tracking_uri=tracker)
    monkeypatch.setattr(mlflow_tracker, "STEP_BATCH", 200)  # values: 33 steps
    send = mlflow.MlflowClient.log_batch

    def written() -> tuple[Any, list[int]]:
        run = runs_of(there, server)["26"]
        return run, [metric.step for metric in there.get_metric_history(run.info.run_id, "train/loss")]

    with Client(server) as client:
        # MLflow is killed after the values of a request and before its tag; then the worker of the run is lost.
        def halved(self: Any, run_id: str, metrics: Any = (), **more: Any) -> None:
            if not metrics or "tags" not in more:
                return send(self, run_id, metrics=metrics, **more)
            send(self, run_id, metrics=metrics)
            raise KeyboardInterrupt

        training.report(20, later=0.25)
        with monkeypatch.context() as patched:
            patched.setattr(mlflow.MlflowClient, "log_batch", halved)
            with pytest.raises(KeyboardInterrupt):
                export_study(client, 3, tracker, report=False)
        assert written()[1] == list(range(1, 21))
        with database.reading() as session:
            training.change(epoch=session.get_one(RunRow, 26).epoch + 1)

        # The same kill, but the attempt goes on: what is there is not sent again, whatever the tag says.
        training.report(30)
        export_study(client, 3, tracker, report=False)
        training.report(35)
        with monkeypatch.context() as patched:
            patched.setattr(mlflow.MlflowClient, "log_batch", halved)
            with pytest.raises(KeyboardInterrupt):
                export_study(client, 3, tracker, report=False)
        run, steps = written()
        assert steps == list(range(1, 36)) and run.data.tags["vezna.steps"].endswith(" 30")
        training.report(40)
        values: list[Any] = []

        def watched(self: Any, run_id: str, metrics: Any = (), **more: Any) -> None:
            values.extend(metrics)
            send(self, run_id, metrics=metrics, **more)

        with monkeypatch.context() as patched:
            patched.setattr(mlflow.MlflowClient, "log_batch", watched)
            export_study(client, 3, tracker, report=False)
        assert [one.step for one in values if one.key == "train/loss"] == list(range(36, 41))
        run, steps = written()
        assert (run.info.status, steps) == ("RUNNING", list(range(1, 41)))
        assert run.data.tags["vezna.steps"].endswith(" 40") and run.data.params["method"] == "lora"

        # The exporter is killed after a request, and then the answer to another one is lost: the server stands still.
        training.report(120)
        sent: list[int] = []

        def killed(self: Any, *args: Any, **more: Any) -> None:
            send(self, *args, **more)
            sent.append(len(more.get("metrics") or (args[1:] and args[1])))
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(mlflow.MlflowClient, "log_batch", killed)
            with pytest.raises(KeyboardInterrupt):
                export_study(client, 3, tracker, report=False)
        assert len(sent) == 1 and written()[1] == list(range(1, 41 + sent[0] // 6))
        training.report(150)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

        def lost(self: Any, *args: Any, **more: Any) -> None:
            with monkeypatch.context() as patched, frozen(tracker):
                patched.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
                send(self, *args, **more)

        with monkeypatch.context() as patched:
            patched.setattr(mlflow.MlflowClient, "log_batch", lost)
            with pytest.raises(TrackerUnreachable):
                export_study(client, 3, tracker, report=False)
        export_study(client, 3, tracker, report=False)
        assert written()[1] == list(range(1, 151))

        # Its worker is lost: another attempt trains all steps anew.
        with database.reading() as session:
            attempt = session.get_one(RunRow, 26).epoch + 1
        training.change(epoch=attempt)
        training.report(60, later=0.5)
        export_study(client, 3, tracker, report=False)
        again, steps = written()
        assert again.info.run_id != run.info.run_id and steps == list(range(1, 61))

        # Evaluations appear as they come; the result has them too, of which an export writes those that are not there.
        evaluation = training.validated
        training.evaluate()
        export_study(client, 3, tracker, report=False)
        assert written()[0].data.metrics["validation/accuracy"] == evaluation.score
        training.validated = evaluation.model_copy(update={"step": 60})  # out of order
        training.evaluate()
        training.end()
        with monkeypatch.context() as patched:  # killed after the values, before the files
            patched.setattr(mlflow.MlflowClient, "log_dict", lambda *_args: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                export_study(client, 3, tracker)
        values.clear()
        with monkeypatch.context() as patched:
            patched.setattr(mlflow.MlflowClient, "log_batch", watched)
            export_study(client, 3, tracker)
        assert [one.key for one in values if not one.key.startswith("arm/")] == []
        run, steps = written()
        history = there.get_metric_history(run.info.run_id, "validation/accuracy")
        evaluated = client.request(Request("GET", "/runs/26/evaluations"))
        expected_scores = [(one["step"], one["metrics"]["accuracy"]) for one in evaluated]
        assert sorted((one.step, one.value) for one in history) == expected_scores and expected_scores[0][0] == 60
        assert (run.info.run_id, run.info.status) == (again.info.run_id, "FINISHED")
        assert run.data.tags["vezna.exported"] == "true" and "vezna.steps" not in run.data.tags
        assert run.data.metrics["score"] == training.ended["score"]
        expected = list(read_steps(client, 26))
        for name in {point.name for point in expected}:
            history = there.get_metric_history(run.info.run_id, name)
            values = [(point.step, point.value) for point in expected if point.name == name]
            assert sorted((metric.step, metric.value) for metric in history) == values, name
    assert runs_of(there, server)["study"].data.tags["vezna.headline"]
