"""`vezna demo` as users run it, trained on a cut of its data; what it waits for; and what the terminal shows where both
of its LoRA arms are undecided."""

import re
from pathlib import Path
from typing import cast

import pytest
import typer

from app.cli import serve
from app.cli.client import Client
from app.cli.studies.studies import show_comparison
from app.domain.comparison.statistics.verdict import VerdictKind
from app.domain.studies.spec import StudySpec
from app.domain.tasks import Task
from app.main import create_app
from app.samples import samples as sample
from app.services.studies import studies as study_service
from app.settings import Settings
from app.store.database.session import Database
from app.store.runs import queries as runs
from tests.support.rows.factories import seed_study
from tests.support.servers.running_stack import free_port
from tests.support.servers.served import served

ROWS: dict[Task, dict[str, int]] = {
    "sequence-classification": {"train": 64, "validation": 16, "test": 32},
    "causal-lm": {"train": 8, "validation": 2, "test": 4},  # of eight, four may stand in a few-shot prompt
}


def cut(part: sample.Sample, rows: dict[str, int]) -> sample.Sample:
    """The same model, arms and budget on the first rows of each split, with one seed and answers of three tokens."""

    def study(dataset: str, base_model: str) -> StudySpec:
        whole = part.study(dataset, base_model)
        training = whole.training.model_copy(update={"max_new_tokens": 3})
        return whole.model_copy(update={"seeds": [0], "training": training})

    kept = [row for split, many in rows.items() for row in [row for row in part.rows if row.split == split][:many]]
    return part._replace(rows=kept, study=study)


def demo(task: Task, home: Path, monkeypatch: pytest.MonkeyPatch) -> StudySpec:
    """Run `vezna demo --exit` on a cut; the spec that was submitted. Every run must succeed."""
    part = cut(sample.of_task(task), ROWS[task])
    monkeypatch.setattr(sample, "of_task", lambda _task: part)
    monkeypatch.setenv("VEZNA_HOME", str(home))
    for limit in ("INSPECTION_SECONDS", "BASELINE_SECONDS"):  # processes that yield to any other, also to other tests
        monkeypatch.setattr(serve, limit, 400.0)
    with pytest.raises(typer.Exit) as ended:
        serve.demo(port=free_port(), task=task, exit_after=True)  # type: ignore[arg-type]
    assert ended.value.exit_code == 0
    return part.study(part.dataset, part.model)


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("task", "rates", "baselines"),
    [
        ("sequence-classification", [1.8e-4, 1.8e-3, 1.8e-3, 0.027], {"most-frequent", "tfidf", "embeddings"}),
        pytest.param(
            "causal-lm", [1.3e-4, 1.3e-3], {"zero-shot", "few-shot", "first-sentence"}, marks=pytest.mark.nightly
        ),
    ],
)
def test_the_demo_goes_from_the_packaged_model_to_a_verdict_with_baselines(
    task: Task,
    rates: list[float],
    baselines: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = demo(task, tmp_path, monkeypatch)
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    database = Database(Settings(home=tmp_path).database)
    with database.reading() as session:
        trained = {run.arm: (run.status, run.spec.learning_rate) for run in runs.of_study(session, 1)}
        comparison = study_service.comparison(session, 1)
    database.dispose()
    assert trained == dict(zip((arm.title for arm in spec.arms), (("succeeded", rate) for rate in rates), strict=True))
    assert {known.stored.kind for known in comparison.baselines} == baselines
    assert all(str(known.title) in shown for known in comparison.baselines)
    ready = [known for known in comparison.baselines if known.stored.status == "ready"]
    assert all(known.score and known.difference for known in ready), "on the items of the runs"
    for known in [known for known in comparison.baselines if known not in ready]:  # on a busy machine, for want of time
        assert "took longer" in known.stored.message or "Not computed yet" in shown
    if len(ready) == len(baselines):
        assert comparison.learning.helps in ("yes", "no") and "Does fine-tuning help?" in shown
    if task == "causal-lm":  # once in float32, and where the device computes in it once in bfloat16
        assert len(list((tmp_path / "cache" / "base").iterdir())) in (1, 2)


class Answering:
    """A client of a server whose frozen embeddings have these states, one after the other; the last one stays."""

    def __init__(self, *states: str) -> None:
        self.states = list(states)

    def get(self, path: str) -> dict[str, list[dict[str, str]]]:
        assert path == "/studies/7/comparison"
        status = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return {"baselines": [{"title": "TF-IDF", "status": "ready"}, {"title": "embeddings", "status": status}]}


def test_the_demo_waits_until_no_baseline_is_being_computed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("app.cli.serve.time.sleep", lambda _seconds: None)
    server, checks = Answering("working", "working", "failed"), []
    serve.await_baselines(cast(Client, server), 7, lambda: checks.append("alive"))
    assert (server.states, checks) == (["failed"], ["alive"] * 2)
    assert capsys.readouterr().out == ""


def test_the_demo_says_which_baselines_it_does_not_wait_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "BASELINE_SECONDS", -1.0)
    serve.await_baselines(cast(Client, Answering("working")), 7, lambda: None)
    assert capsys.readouterr().out == "Not computed yet: embeddings. Baselines are computed while Vezna runs.\n"


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_where_both_lora_arms_are_undecided_the_demo_leads_with_all_linear_and_names_the_trap(
    database: Database, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = sample.study()
    accuracy = {"full": 0.89, "LoRA all-linear": 0.885, "LoRA query, value": 0.88, "head only": 0.78}
    with database.transaction() as session:
        study = seed_study(session, arms=spec.arms, seeds=spec.seeds, accuracy=accuracy, seed_sd=0.012)
        for run in runs.of_study(session, study):
            if run.arm == "LoRA query, value" and (result := run.result):  # cheaper: its cost would put it first
                memory = result.memory.model_copy(update={"peak_bytes": result.memory.peak_bytes // 2})
                run.result_json = result.model_copy(update={"memory": memory}).model_dump(mode="json")
        comparison = study_service.comparison(session, study)
    kinds = {arm.title: arm.verdict_kind for arm in comparison.others}
    assert kinds["LoRA all-linear"] == kinds["LoRA query, value"] == VerdictKind.UNDECIDED
    arms = {arm.title: arm for arm in comparison.arms}
    assert comparison.cost(arms["LoRA query, value"]) < comparison.cost(arms["LoRA all-linear"])
    assert comparison.focus is arms["LoRA all-linear"]
    with served(create_app(settings)) as url:
        answer = Client(url).get(f"/studies/{study}/comparison")
        assert show_comparison(Client(url), study)
    shown = " ".join(capsys.readouterr().out.split())
    assert answer["summary"].startswith("Undecided whether LoRA all-linear loses less than 2 points against full")
    [trap] = [caveat for caveat in answer["caveats"] if "adapts attention layers only" in caveat]
    assert trap.startswith("LoRA query, value adapts attention layers only") and "LoRA all-linear" in trap
    assert f"- {' '.join(trap.split())}" in shown
    assert "would decide" in shown
