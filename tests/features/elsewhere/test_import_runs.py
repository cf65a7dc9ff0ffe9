"""Runs that a tracker recorded become runs of a study that is trained elsewhere; what is lacking is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from tensorboardX import SummaryWriter, summary

from tests.integration.tracking.test_trackers import sqlite
from tests.integration.web.test_cli import vezna
from tests.support.rows.external import FULL, LORA, item_scores
from vezna import Client
from vezna.errors import NotImported, Refused, WrongTracker
from vezna.trackers import import_runs
from vezna.trackers.event_files import recorded_below


def record(folder: Path, *, seed: int | None = 0, score: float = 0.75, steps: int = 5) -> Path:
    """Write event files of a run as a training script does; the file."""
    writer = SummaryWriter(str(folder))
    for step in range(steps):
        writer.add_scalar("train/loss", 1 / (step + 1), step, walltime=100.0 + step)
        writer.add_scalar("train/learning_rate", 0.001, step, walltime=100.0 + step)
    writer.add_scalar("eval/accuracy", score, steps, walltime=200.0)
    writer.add_scalar("eval/perplexity", 12.0, steps, walltime=200.0)
    parameters = {"learning_rate": 0.001, "base": "tiny"} | ({} if seed is None else {"args/seed": seed})
    _experiment, begin, _end = summary.hparams(parameters, {"eval/accuracy": 0})
    writer.file_writer.add_summary(begin)
    writer.close()
    [file] = folder.glob("*tfevents*")
    return file


@sqlite
def test_runs_of_event_files_are_imported_once_and_compared_without_a_verdict(
    study_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = tmp_path / "logs"
    record(logs / "full-a", seed=0, score=0.9)
    record(logs / "lora-a", seed=0)
    record(logs / "lora-b", seed=None)
    command = ("import-runs", f"tensorboard:{logs}", "--study", "1", "--metric", "eval/accuracy", "--url", study_server)
    assert vezna(monkeypatch, *command, "--arm", FULL, "--run", "full-*", "--json") == 0
    [full] = json.loads(capsys.readouterr().out)
    assert (full["seed"], full["known"]) == (0, False)
    assert full["lacking"] == ["item_scores", "splits.train", "splits.test", "metric_version"]
    assert vezna(monkeypatch, *command, "--arm", LORA, "--run", "lora-a") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "score 0.7500, from lora-a" in said
    assert "The tracker does not have item_scores, splits.train, splits.test, metric_version" in said
    assert vezna(monkeypatch, *command, "--arm", LORA, "--run", "lora-b", "--seed", "1") == 0
    assert vezna(monkeypatch, *command, "--arm", LORA, "--run", "lora-a") == 0
    assert "was imported before" in capsys.readouterr().out

    with Client(study_server) as client:
        study = client.external_study(1)
        assert [(run.arm, run.seed, run.status) for run in study.runs] == [
            (FULL, 0, "succeeded"), (LORA, 0, "succeeded"), (LORA, 1, "succeeded"),
        ]  # fmt: skip
        run = client.run(full["run_id"])
        stated: dict[str, Any] = (run.model_extra or {})["imported"]
        assert run.score == pytest.approx(0.9)
        assert stated["settings"] == {"learning_rate": 0.001, "base": "tiny", "args/seed": 0}
        assert "full-a" in stated["environment"]["imported_from"]
        comparison = client.compare(collection=1)
    kinds = {confounder.kind for confounder in comparison.confounders if confounder.effect == "verdict"}
    assert kinds == {"no_items", "splits", "metric_unproven"}
    lora = next(arm for arm in comparison.arms if arm.title == LORA)
    assert lora.verdict is not None and lora.verdict.kind == "none"
    assert lora.score is not None and lora.score.mean == pytest.approx(0.75)


@sqlite
def test_what_does_not_suit_is_named_before_anything_is_written(study_server: str, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    record(logs / "a", seed=0)
    broken = record(logs / "b", seed=0)
    record(logs / "c", seed=None)
    record(logs / "d", seed=7)
    with Client(study_server) as client:

        def refusal(kind: type[Exception] = NotImported, **given: Any) -> str:
            options = {"metric": "eval/accuracy", "arm": LORA} | given
            with pytest.raises(kind) as caught:
                import_runs(client, f"tensorboard:{logs}", 1, **options)
            return str(caught.value)

        assert "a and b both have the seed 0" in refusal(names=["a", "b"])
        assert "c cannot be imported: its parameters state no seed" in refusal(names=["c"])
        assert "it has no metric accuracy. Choose from its metrics: eval/accuracy" in refusal(
            metric="accuracy", names=["a"]
        )
        assert "ends at 12, and a score is a fraction" in refusal(metric="eval/perplexity", names=["a"])
        assert "Choose from the runs there: a, b, c, d" in refusal(names=["z*"])
        assert "2 runs cannot have one seed" in refusal(names=["a", "b"], seed=1)
        refusal(Refused, names=["a"], arm="DoRA")  # the server names the arms
        (tmp_path / "empty").mkdir()
        with pytest.raises(NotImported, match="no event files"):
            import_runs(client, f"tensorboard:{tmp_path}/empty", 1, LORA, metric="x")
        with pytest.raises(WrongTracker):
            import_runs(client, "neptune:mine", 1, LORA, metric="x")
        whole = broken.read_bytes()
        broken.write_bytes(whole[:-3])  # its writer was killed
        assert [len(run.series["train/loss"]) for run in recorded_below(logs / "b")] == [5]
        broken.write_bytes(whole[:60] + b"x" + whole[61:])
        assert f"{broken} cannot be imported: it is broken at byte" in refusal(names=["a", "b"])
        assert [run.name for run in recorded_below(logs, ["a"])] == ["a"], "a broken run that is not chosen was read"
        bad = SummaryWriter(str(logs / "e"))
        _experiment, begin, _end = summary.hparams({"seed": 0}, {})
        begin.value[0].metadata.plugin_data.content = b"\xff\xff"
        bad.file_writer.add_summary(begin)
        bad.close()
        assert "e cannot be imported: its hyperparameters are broken. Remove the file" in refusal(names=["e"])
        broken.unlink()
        assert client.external_study(1).runs == []
        refusal(Refused, names=["d"])  # the study does not declare the seed
        assert client.external_study(1).runs == []


@sqlite
@pytest.mark.parametrize(("steps", "score"), [(7, 0.75), (5, 0.5)])
def test_importing_a_run_that_went_on_says_so(
    steps: int, score: float, study_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    logs = tmp_path / "logs"
    record(logs / "a", score=0.75)
    given = ("import-runs", f"tensorboard:{logs}", "--study", "1", "--metric", "eval/accuracy", "--url", study_server)
    for _import in range(2):
        assert vezna(monkeypatch, *given, "--arm", LORA) == 0
    assert "has changed since" not in capsys.readouterr().out
    next((logs / "a").glob("*tfevents*")).unlink()
    record(logs / "a", score=score, steps=steps)
    assert vezna(monkeypatch, *given, "--arm", LORA) == 0
    assert f"a has changed since: its score is now {score:.4f}" in " ".join(capsys.readouterr().out.split())
    with Client(study_server) as client:
        [run] = client.external_study(1).runs
        assert (run.step, run.score) == (5, pytest.approx(0.75))


@sqlite
def test_an_import_that_broke_off_goes_on(study_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path / "logs" / "a", steps=1500)
    with Client(study_server) as client:
        given = {"arm": LORA, "metric": "eval/accuracy"}
        with monkeypatch.context() as patched:
            patched.setattr(Client, "end_run", lambda *_args: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                import_runs(client, f"tensorboard:{tmp_path}/logs", 1, **given)
        [run] = import_runs(client, f"tensorboard:{tmp_path}/logs", 1, **given)
        assert not run.known
        assert client.run(run.run_id).step == 1500
        assert client.run(run.run_id).status == "succeeded"


@sqlite
def test_a_recorded_score_and_scores_of_items_exclude_each_other(study_server: str) -> None:
    with Client(study_server) as client:
        run = client.open_run(1, {"key": "a", "arm": FULL, "seed": 0})
        end = {"attempt": 1, "outcome": "succeeded", "recorded": {"score": 0.5}}
        with pytest.raises(Refused) as refused:
            client.end_run(run.run_id, end | {"item_scores": item_scores(0.5, 0)})
        assert refused.value.fields[0].path == "recorded"
        with pytest.raises(Refused):
            client.end_run(run.run_id, {"attempt": 1, "outcome": "succeeded"})
        client.end_run(run.run_id, end)
        assert client.end_run(run.run_id, end).status == "succeeded"
        with pytest.raises(Refused, match="has already ended"):
            client.end_run(run.run_id, end | {"recorded": {"score": 0.6}})
