"""Studies in Trackio and Weights & Biases, whose packages are too large to install for tests: stubs of their documented
functions take their place. docs/trackers.md says with which versions an export was run by hand."""

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.cli.tracker_errors import tracker_error
from app.main import create_app
from app.settings import Settings
from app.store.database.session import Database
from tests.integration.tracking.test_trackers import holding, sqlite
from tests.support.rows.external import FACTS, FULL, LORA, SPEC, item_scores
from tests.support.servers.served import served
from vezna import Client
from vezna.errors import TrackerMissing, TrackerRefused, TrackioElsewhere
from vezna.trackers import export_study


def report(client: Client, study: int, arm: str, seed: int, *, ended: bool = True) -> None:
    """A run with four steps."""
    run = client.open_run(study, {"key": f"{arm} {seed}", "arm": arm, "seed": seed})
    steps = [{"step": n, "loss": 1 / n, "seconds": n} for n in range(1, 5)]
    if run.step == 0:
        client.report(run.run_id, {"attempt": run.attempt, "number": 1, "steps": steps})
    if ended:
        scores, facts = item_scores(0.75, seed), FACTS | {"settings": {"_name": "tiny"}}
        end = {"attempt": run.attempt, "outcome": "succeeded", "item_scores": scores, "facts": facts}
        client.end_run(run.run_id, end)


@pytest.fixture
def client(database: Database, settings: Settings) -> Iterator[Client]:
    """Of a server with a study whose runs are trained elsewhere: two have ended, and one goes on."""
    with served(create_app(settings)) as address:
        secret = address.replace("://", "://ann:hidden-word@")
        with Client(secret, token="hidden-token") as client:
            study = client.declare_study(SPEC)
            report(client, study.id, FULL, 0)
            report(client, study.id, LORA, 0)
            report(client, study.id, LORA, 1, ended=False)
            yield client


class Trackio:
    """Trackio's documented functions: init, log, finish, Api, Markdown."""

    def __init__(self) -> None:
        self.runs: list[SimpleNamespace] = []
        self.fails = False
        self.warns = ""
        self.breaks_at = ""
        """A loss whose value ends the process."""

    def init(self, **given: Any) -> SimpleNamespace:
        """Begin a run."""
        if self.fails:
            raise RuntimeError("disk is full")
        if self.warns:
            warnings.warn(self.warns, stacklevel=1)
        assert not [name for name in given["config"] if name.startswith("_")], "Trackio refuses such names"
        print("* Trackio project initialized")
        run = SimpleNamespace(**given, rows=[], finished=False)
        run.delete = lambda: self.runs.remove(run)

        def log(values: dict[str, Any], step: int) -> None:
            if self.breaks_at == run.name and step == 3:
                raise KeyboardInterrupt
            run.rows.append((step, values))

        run.log = log
        self.runs.append(run)
        return run

    def finish(self) -> None:
        """End the current run."""
        self.runs[-1].finished = True

    def Api(self) -> Any:
        """What is there."""
        if not self.runs:
            raise ValueError("Project 'mine' does not exist")
        return SimpleNamespace(runs=lambda project: [run for run in self.runs if run.project == project])

    def Markdown(self, text: str) -> str:
        """A text."""
        return f"markdown: {text}"


@sqlite
def test_a_study_is_written_into_trackio_and_updated(
    client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trackio = Trackio()
    monkeypatch.setitem(sys.modules, "trackio", trackio)  # type: ignore[arg-type]
    assert export_study(client, 1, "trackio:mine", external=True).url == "trackio show --project mine"
    assert capsys.readouterr().out == "", "Trackio prints on standard output"
    first = {run.config["vezna.run"]: run for run in trackio.runs}
    assert [run.name for run in trackio.runs] == [f"{FULL}, seed 0", f"{LORA}, seed 0", f"{LORA}, seed 1", SPEC["name"]]
    assert all(run.finished and run.group == "MiniLM elsewhere (Vezna external study 1)" for run in trackio.runs)
    lora = trackio.runs[1]
    losses = [(step, values["train/loss"]) for step, values in lora.rows]
    assert losses == [(1, 1), (2, 1 / 2), (3, pytest.approx(1 / 3)), (4, 1 / 4)]
    assert lora.rows[-1][1]["score"] == pytest.approx(0.75)
    assert {"method": "lora", "seed": 0, "setting_name": "tiny"}.items() <= lora.config.items()
    assert "score" not in trackio.runs[2].rows[0][1]
    assert trackio.runs[3].config["vezna.done"] == ["1", "2"]
    [(_step, verdict)] = trackio.runs[3].rows
    assert verdict["verdict"].startswith("markdown: **") and "| LoRA r=8 |" in verdict["verdict"]
    assert verdict[f"arm/{FULL}/score"] == pytest.approx(0.75)
    assert "hidden-" not in repr(trackio.runs)

    # The run that went on ends; the others stay as they are.
    report(client, 1, LORA, 1)
    export_study(client, 1, "trackio:mine", external=True)
    again = {run.config["vezna.run"]: run for run in trackio.runs}
    assert len(trackio.runs) == 4
    assert [name for name in again if again[name] is not first[name]] == ["3", "study"]
    assert again["3"].rows[-1][1]["score"] == pytest.approx(0.75)
    assert again["study"].config["vezna.done"] == ["1", "2", "3"]
    trackio.warns = "failed to flush metric logs: disk I/O error. This batch could not be persisted."
    with pytest.raises(TrackerRefused, match="could not be persisted"):
        export_study(client, 1, "trackio:mine", external=True)
    trackio.fails = True
    with pytest.raises(TrackerRefused, match=r"trackio:mine refused \("):
        export_study(client, 1, "trackio:mine", external=True)


@sqlite
def test_an_export_to_trackio_that_broke_off_is_repaired(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    trackio = Trackio()
    monkeypatch.setitem(sys.modules, "trackio", trackio)  # type: ignore[arg-type]
    trackio.breaks_at = f"{LORA}, seed 0"
    for _export in range(2):
        trackio.runs += [SimpleNamespace(**vars(run)) for run in trackio.runs]  # as if two had run at once
        for run in trackio.runs:
            run.delete = lambda run=run: trackio.runs.remove(run)
        with pytest.raises(KeyboardInterrupt):
            export_study(client, 1, "trackio:mine", external=True)
        assert len(trackio.runs[-1].rows) == 2, "a part of the run is there"
    trackio.breaks_at = ""
    export_study(client, 1, "trackio:mine", external=True)
    assert sorted(run.config["vezna.run"] for run in trackio.runs) == ["1", "2", "3", "study"]
    assert all(len(run.rows) == 4 for run in trackio.runs if run.config["vezna.run"] in ("1", "2"))


@pytest.mark.parametrize("variable", ["TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"])
def test_trackio_on_another_machine_is_refused(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "ann/headlines")
    with Client("http://127.0.0.1:9") as client, pytest.raises(TrackioElsewhere, match=f"{variable} is set") as caught:
        export_study(client, 1, "trackio:mine")
    assert str(tracker_error(caught.value)) == str(caught.value)


class Wandb:
    """W&B's documented functions: init, log, save, finish; a run is a folder with what it was given."""

    class Error(Exception):
        """Base of its errors."""

    Settings = dict

    def __init__(self) -> None:
        self.number = 0
        self.fails = False

    def init(self, **given: Any) -> Any:
        """Begin a run."""
        if self.fails:
            raise self.Error("no wandb-core")
        assert given["mode"] == "offline"
        self.number += 1
        folder = Path(given["dir"]) / "wandb" / f"offline-run-{self.number}-{given['id']}"
        (folder / "files").mkdir(parents=True)
        rows: list[Any] = []

        def finish(exit_code: int) -> None:
            whole = {**given, "rows": rows, "exit_code": exit_code}
            (folder / "run.json").write_text(json.dumps(whole))

        return SimpleNamespace(
            dir=str(folder / "files"),
            log=lambda values, step: rows.append([step, values]),
            save=lambda path, base_path, policy: rows.append(path),
            finish=finish,
        )


@sqlite
def test_a_study_is_written_for_wandb_and_updated(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)  # type: ignore[arg-type]
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "w"))
    place = Path(export_study(client, 1, "wandb:mine", external=True).url)

    def runs() -> dict[str, dict[str, Any]]:
        found = {folder: json.loads((folder / "run.json").read_text()) for folder in place.iterdir()}
        assert all((folder / "vezna.json").is_file() for folder in found)
        named = {run["name"]: run | {"folder": folder} for folder, run in found.items()}
        assert len(named) == len(found), "a run was written twice"
        return named

    first = runs()
    assert set(first) == {f"{FULL}, seed 0", f"{LORA}, seed 0", f"{LORA}, seed 1", SPEC["name"]}
    lora = first[f"{LORA}, seed 0"]
    assert (lora["project"], lora["job_type"], lora["exit_code"]) == ("mine", LORA, 0)
    assert [step for step, _values in lora["rows"]] == [1, 2, 3, 4]
    stamps = [values["_timestamp"] for _step, values in lora["rows"]]
    assert [stamp - stamps[0] for stamp in stamps] == pytest.approx([0, 1, 2, 3], abs=1e-3)
    assert lora["rows"][-1][1]["score"] == pytest.approx(0.75)
    assert lora["settings"]["x_disable_meta"] and lora["settings"]["disable_git"]
    assert first[f"{LORA}, seed 1"]["rows"] == []
    assert first[SPEC["name"]]["config"]["vezna.headline"]
    assert not holding(place, "hidden-word", "hidden-token")

    report(client, 1, LORA, 1)
    (first[SPEC["name"]]["folder"] / "vezna.json").unlink()  # as of an export that broke off
    export_study(client, 1, "wandb:mine", external=True)
    again = runs()
    assert {name for name in again if again[name]["folder"] != first[name]["folder"]} == {
        f"{LORA}, seed 1",
        SPEC["name"],
    }
    assert {run["id"] for run in again.values()} == {run["id"] for run in first.values()}
    assert again[f"{LORA}, seed 1"]["rows"][-1][1]["score"] == pytest.approx(0.75)
    wandb.fails = True
    with pytest.raises(TrackerRefused, match=r"wandb:mine refused \("):
        export_study(client, 1, "wandb:mine", external=True)


@pytest.mark.parametrize("package", ["trackio", "wandb"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with Client("http://127.0.0.1:9") as client, pytest.raises(TrackerMissing, match=f"pip install {package}"):
        export_study(client, 1, f"{package}:mine")
