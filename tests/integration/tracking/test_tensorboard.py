"""Studies as event files, read back by TensorBoard's own reader."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.main import create_app
from app.settings import Settings
from app.store.database.session import Database
from app.store.tables import RunRow
from tests.integration.tracking.test_trackers import holding, sqlite
from tests.integration.web.test_cli import vezna
from tests.support.filled.filled import fill
from tests.support.rows.external import FACTS, FULL, LORA, SPEC, item_scores
from tests.support.servers.served import served
from vezna import Client
from vezna.errors import Refused, TrackerRefused
from vezna.sending.connection import Request
from vezna.trackers import export_study, tensorboard, writing
from vezna.trackers.study import Point, read_external_study, read_run
from vezna.trackers.writing import Outcome


@pytest.fixture
def server(database: Database, settings: Settings) -> Iterator[str]:
    """A server with studies of every state."""
    with database.transaction() as session:
        fill(session)
    with served(create_app(settings)) as address:
        yield address


def read(folder: Path) -> Any:
    """What TensorBoard reads of a run's folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder), size_guidance={accumulator.SCALARS: 0})
    events.Reload()
    return events


def text(events: Any, tag: str) -> str:
    """A text that TensorBoard shows."""
    return str(events.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val[0].decode())


def hyperparameters(events: Any) -> tuple[dict[str, Any], list[str]]:
    """The parameters of a run by name, and the metrics beside them."""
    plugin = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2")
    content = events.PluginTagToContent("hparams")
    begin = plugin.HParamsPluginData.FromString(content["_hparams_/session_start_info"]).session_start_info
    experiment = plugin.HParamsPluginData.FromString(content["_hparams_/experiment"]).experiment
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in begin.hparams.items()}
    return values, [metric.name.tag for metric in experiment.metric_infos]


@sqlite
@pytest.mark.nightly
def test_a_study_is_written_into_event_files_and_updated(
    server: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "exported"
    command = ("export-study", "1", "--to", f"tensorboard:{place}", "--url", server)
    # It breaks off while a run is read, and is repeated.
    with monkeypatch.context() as patched:
        patched.setattr(writing, "_link", lambda client, file: client.artifacts(10**9))
        assert vezna(monkeypatch, *command) == 1
    assert not list(place.rglob("*tfevents*")), "an incomplete run was written"
    assert vezna(monkeypatch, *command) == 0
    [folder] = place.iterdir()
    assert str(folder) in capsys.readouterr().out.replace("\n", "")
    runs = sorted(place.name for place in folder.iterdir() if place.is_dir())
    assert len(runs) == 10 and "LoRA r=8, seed 0 (run 2)" in runs and runs[-1] == "study"

    lora = read(folder / "LoRA r=8, seed 0 (run 2)")
    with database.reading() as session:
        row = session.get_one(RunRow, 2)
        result = row.result
        assert result is not None and row.started_at is not None
        began = row.started_at.timestamp()
    losses = lora.Scalars("train/loss")
    assert [point.step for point in losses] == list(range(1, 247))
    assert losses[0].wall_time >= began and losses[-1].wall_time > losses[0].wall_time
    assert lora.Scalars("score")[0].value == pytest.approx(row.score)
    assert lora.Scalars("memory/peak_bytes")[0].value == pytest.approx(result.memory.peak_bytes, rel=1e-6)
    parameters, metrics = hyperparameters(lora)
    assert parameters.items() >= {"method": "lora", "r": 8, "learning_rate": 0.002, "seed": 0}.items()
    assert {"score", "memory/peak_bytes", "seconds/wall"} <= set(metrics)
    assert f"{server}/runs/2" in text(lora, "vezna/run")
    assert "predictions.parquet" in text(lora, "vezna/files")

    with Client(server) as client:
        comparison = client.study_comparison(1)
    verdict = read(folder / "study")
    assert comparison.headline in text(verdict, "vezna/verdict")
    assert comparison.summary in text(verdict, "vezna/verdict")
    score = next(arm for arm in comparison.arms if arm.title == "LoRA r=8").score
    assert score is not None and score.low is not None and score.high is not None
    shown = f"| LoRA r=8 | {score.mean:.4f} ({score.low:.4f} to {score.high:.4f}) |"
    assert shown in text(verdict, "vezna/arms")

    # What cannot change stays; what may change follows, and files of others stay.
    outcome = next((folder / "LoRA r=8, seed 0 (run 2)").glob("*.outcome.vezna"))
    (folder / "study" / "mine.txt").write_text("kept")
    with database.transaction() as session:
        row = session.get_one(RunRow, 2)
        row.note, row.worker = "watch this", "host-of-the-team"
    assert vezna(monkeypatch, *command) == 0
    assert list(outcome.parent.glob("*.outcome.vezna")) == [outcome]
    again = read(outcome.parent)
    assert "watch this" in text(again, "vezna/run")
    assert not holding(place, "host-of-the-team")
    assert len(again.Scalars("train/loss")) == 246
    assert len(list((folder / "study").glob("*tfevents*"))) == 1
    assert (folder / "study" / "mine.txt").read_text() == "kept"

    # Neither the password of a server's address nor the token is written anywhere.
    with Client(server.replace("://", "://ann:hidden-word@"), token="hidden-token") as client:
        export_study(client, 2, f"tensorboard:{place}")
    assert len(list(place.iterdir())) == 2
    assert not holding(place, "hidden-word", "hidden-token")


@pytest.mark.slow
@sqlite
def test_a_study_that_is_trained_elsewhere_is_exported(database: Database, settings: Settings, tmp_path: Path) -> None:
    with served(create_app(settings)) as address, Client(address) as client:
        study = client.declare_study(SPEC)
        for arm, seed in ((FULL, 0), (LORA, 0), (LORA, 1)):
            run = client.open_run(study.id, {"key": f"{arm} {seed}", "arm": arm, "seed": seed})
            steps = [{"step": n, "loss": 1 / n, "seconds": n} for n in range(1, 5)]
            client.report(run.run_id, {"attempt": 1, "number": 1, "steps": steps})
            if (arm, seed) != (LORA, 1):
                facts = FACTS | {"settings": {"lora": {"r": 8}}}
                scores = item_scores(0.75, seed)
                client.end_run(
                    run.run_id, {"attempt": 1, "outcome": "succeeded", "item_scores": scores, "facts": facts}
                )
        target = f"tensorboard:{tmp_path}/exported"
        exported = export_study(client, study.id, target, external=True)
        comparison = client.compare(collection=study.id)
        # The folder turns out to be of another study of this name and number, and then the next one too.
        folder = Path(exported.url)
        (folder / "vezna.json").write_text(json.dumps({"study": "1 of another server"}))
        second = Path(export_study(client, study.id, target, external=True).url)
        assert second.name.startswith(folder.name) and second != folder
        (second / "vezna.json").write_text("{")
        with pytest.raises(TrackerRefused, match="is of another study; name another folder"):
            export_study(client, study.id, target, external=True)
        (tmp_path / "file").write_text("no folder")
        with pytest.raises(TrackerRefused, match=f"The tracker at {tmp_path}/file"):
            export_study(client, study.id, f"tensorboard:{tmp_path}/file", external=True)
        # One without runs has nothing to show.
        empty = client.declare_study(SPEC | {"name": "empty"})
        with pytest.raises(Refused, match="No run is given"):
            export_study(client, empty.id, f"tensorboard:{tmp_path}/empty", external=True)
        assert not (tmp_path / "empty").exists()
    assert folder.name == f"MiniLM elsewhere (Vezna external study {study.id})"
    lora = read(next(folder.glob("LoRA r=8, seed 0 (run *)")))
    assert [point.value for point in lora.Scalars("train/loss")] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert lora.Scalars("score")[0].value == pytest.approx(0.75)
    parameters, metrics = hyperparameters(lora)
    expected = {"method": "lora", "lora.r": 8, "base_model": "tiny", "precision": "bf16", "test_sha256": "c" * 64}
    assert parameters.items() >= expected.items()
    assert set(metrics) == {"score", "memory/peak_bytes", "seconds/train"}
    going = read(next(folder.glob("LoRA r=8, seed 1 (run *)")))
    assert "running" in text(going, "vezna/run")
    assert [point.step for point in going.Scalars("train/loss")] == [1, 2, 3, 4] and "score" not in going.Tags()[
        "scalars"
    ]
    verdict = read(folder / "study")
    assert comparison.headline in text(verdict, "vezna/verdict")
    assert "| vezna.trained_elsewhere | true |" in text(verdict, "vezna/study")
    assert "| vezna.verdict/LoRA r=8 |" in text(verdict, "vezna/study")


@sqlite
def test_the_steps_of_a_run_that_goes_on_are_appended(database: Database, settings: Settings, tmp_path: Path) -> None:
    target = f"tensorboard:{tmp_path}/exported"

    def files(folder: Path) -> list[str]:
        return sorted(file.name.split(".")[-2] for file in folder.glob("*tfevents*"))

    with served(create_app(settings)) as address, Client(address) as client:
        study = client.declare_study(SPEC)
        run = client.open_run(study.id, {"key": "mine", "arm": FULL, "seed": 0})
        for number, last in enumerate((3, 5), start=1):
            steps = [{"step": n, "loss": 1 / n, "seconds": n} for n in range(2 * number - 1, last + 1)]
            validated = [{"step": last - 1, "split": "validation", "items": 50, "score": last / 10, "loss": 1 / last}]
            client.report(run.run_id, {"attempt": 1, "number": number, "steps": steps, "evaluations": validated})
            folder = Path(export_study(client, study.id, target, external=True).url)
            place = next(folder.glob(f"{FULL}, seed 0 (run *)"))
            assert [point.step for point in read(place).Scalars("train/loss")] == list(range(1, last + 1))
            accuracy = [(point.step, point.value) for point in read(place).Scalars("validation/accuracy")]
            assert accuracy == [(2, pytest.approx(0.3)), (4, pytest.approx(0.5))][:number]
            assert len(read(place).Scalars("validation/loss")) == number
        assert files(place) == ["about", "steps-0-3", "steps-0-5", "validation-0-2", "validation-0-4"]
        (place / ".steps-0-9.left").write_bytes(b"an export that was killed")
        export_study(client, study.id, target, external=True)  # nothing is new
        assert files(place) == ["about", "steps-0-3", "steps-0-5", "validation-0-2", "validation-0-4"]
        # An evaluation takes a while, so it may come after the steps that follow.
        late = [{"step": 5, "split": "validation", "items": 50, "score": 0.75, "loss": 0.125}]
        client.report(run.run_id, {"attempt": 1, "number": 3, "evaluations": late})
        export_study(client, study.id, target, external=True)
        assert files(place)[3:] == ["validation-0-2", "validation-0-4", "validation-0-5"]
        evaluated = client.request(Request("GET", f"/runs/{run.run_id}/evaluations"))
        assert [(one["step"], one["items"], one["metrics"]) for one in evaluated][-1] == (5, 50, {"accuracy": 0.75})

        # Another attempt has other steps.
        experiment = tensorboard.connect(f"{tmp_path}/exported").open(read_external_study(client, study.id))
        tracked = read_run(client, run.run_id)
        assert tracked is not None and tracked.attempt == 0
        again = replace(tracked, attempt=1)
        experiment.write_steps(again, Outcome(client, again))
        assert files(place) == ["about", "steps-1-5"], "and no evaluations yet"

        client.end_run(run.run_id, {"attempt": 1, "outcome": "succeeded", "item_scores": item_scores(0.75, 0)})
        export_study(client, study.id, target, external=True)
    assert files(place) == ["about", "outcome"] and not list(place.glob(".*"))
    whole = read(place)
    assert [point.step for point in whole.Scalars("train/loss")] == [1, 2, 3, 4, 5]
    assert whole.Scalars("score")[0].value == pytest.approx(0.75)
    assert [point.step for point in whole.Scalars("validation/accuracy")] == [2, 4, 5]


@pytest.mark.parametrize(
    ("last", "total", "every"), [(120, None, 1), (120, 10_000, 1), (120, 25_000, 3), (25_000, None, 3)]
)
def test_of_a_long_run_that_goes_on_every_nth_step_is_exported(
    last: int, total: int | None, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps(_client: object, _run: int, *, after: int = 0, most: int = 0) -> Iterator[Point]:
        points = [Point("train/loss", 0.5, step) for step in range(after + 1, last + 1)]
        thinned = points[:: -(-len(points) // (most or last))]  # as the server keeps some
        return iter(thinned)

    monkeypatch.setattr(writing, "read_steps", steps)
    attempts = [1, 1, 2]
    client = SimpleNamespace(run=lambda run_id: SimpleNamespace(attempt=attempts.pop(0)))
    run = SimpleNamespace(id=1, attempt=1, ended=False, total_steps=total)
    going = Outcome(client, run)  # type: ignore[arg-type]
    assert [point.step for point in going.steps()] == list(range(1, last + 1, every))
    assert [point.step for point in going.steps(after=60)] == list(range(60 + every, last + 1, every))
    assert going.steps() == [], "another attempt has begun meanwhile"
    run.ended = True
    assert len(going.steps()) == last
    ended = [point.step for point in going.steps(after=59)]
    assert ended == sorted({*range(59 + every, last + 1, every), last}), "the last step is there"


@pytest.mark.parametrize("name", ["Д" * 120, "LoRA/" * 50, "", "short"])
def test_names_of_folders_fit_and_keep_their_numbers(name: str) -> None:
    for suffix in (" (run 12)", " (Vezna study 12)"):
        folder = tensorboard._file_name(name, suffix)
        assert folder.endswith(suffix.strip()) and len(folder.encode()) <= 200 and "/" not in folder
        assert name[:30].replace("/", "_") in folder
