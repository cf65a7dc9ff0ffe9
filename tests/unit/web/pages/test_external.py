"""The pages of a study whose runs are trained elsewhere."""

from typing import Any

from fastapi.testclient import TestClient

from tests.support.rows.external import FULL, LORA, declare
from tests.support.rows.factories import plain

API = "/api/v1"


def test_a_study_shows_where_its_runs_stand_and_then_its_verdict(empty: TestClient) -> None:
    script = declare(empty, API)
    page = f"/external-studies/{script.study}"
    text = plain(empty.get(page).text)
    assert "0 of 4 declared runs have a result." in text
    assert "not opened" in text and "Compare the arms" not in text
    assert f'href="{page}"' in empty.get("/studies").text
    for arm, accuracy in ((FULL, 0.9), (LORA, 0.5)):
        for seed in (0, 1):
            script.train(arm, seed, accuracy)
    text = plain(empty.get(page).text)
    assert "points worse than full fine-tuning" in text
    assert "Report a run" not in text
    assert "trained elsewhere" in empty.get("/runs").text
    assert "imported" not in plain(empty.get("/runs").text)


def test_a_run_shows_what_its_script_reported(empty: TestClient) -> None:
    script = declare(empty, API)
    run: dict[str, Any] = script.open(total_steps=4, facts={"settings": {"peft": {"r": 8}}}).json()
    address = f"/runs/{run['run_id']}"
    assert "The curves start at the first step." in empty.get(address).text
    steps = [{"step": n, "loss": 1 / n} for n in range(1, 4)]
    script.report(run, 1, steps=steps, evaluations=[{"step": 3, "items": 8, "score": 0.5}], message="<b>begun</b>")
    text = empty.get(address).text
    assert "step 3 of 4" in plain(text)
    assert "&lt;b&gt;begun&lt;/b&gt;" in text
    assert "peft.r" in text
    assert empty.get(f"{address}/charts/loss.svg").status_code == 200
    empty.post(f"{address}/cancel")
    assert "The script learns of it with its next report" in empty.get(address).text
    script.end(run, None, outcome="failed", message="CUDA error")
    assert "CUDA error" in empty.get(address).text
