"""What the terminal shows of the four arms of `vezna demo` where given scores leave both LoRA arms undecided."""

import pytest

from app import sample
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
