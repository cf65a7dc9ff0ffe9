"""What `vezna demo` waits for, and what the terminal shows where given scores leave both of its LoRA arms undecided."""

from typing import cast

import pytest

from app import sample
from app.cli import serve
from app.cli.client import Client
from app.cli.studies import show_comparison
from app.domain.comparison.verdict import VerdictKind
from app.main import create_app
from app.services import studies as study_service
from app.settings import Settings
from app.store.queries import runs
from app.store.session import Database
from tests.factories import seed_study
from tests.served import served


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
    monkeypatch.setattr(serve.time, "sleep", lambda _seconds: None)
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
    assert answer["summary"].startswith("Undecided whether LoRA all-linear is within 2 points of full fine-tuning")
    [trap] = [caveat for caveat in answer["caveats"] if "adapts attention layers only" in caveat]
    assert trap.startswith("LoRA query, value adapts attention layers only") and "LoRA all-linear" in trap
    assert f"- {' '.join(trap.split())}" in shown
    assert "would decide" in shown
