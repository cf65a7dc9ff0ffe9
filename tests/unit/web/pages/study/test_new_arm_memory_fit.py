"""The memory fit beside the form that adds an arm: requested and shown as in the form of a new study."""

import html
import json
import re

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.domain.comparison.statistics.verdict import confidence_after
from app.domain.studies import power as power_analysis
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.tables import EstimateRow
from tests.support.filled import estimates as filled_estimates
from tests.support.rows.factories import plain
from tests.support.rows.tuned_studies import add_tuned_study
from tests.unit.web.conftest import database_of
from tests.unit.web.pages.new_study.test_new_study import ROOM_FOR_ALL, ROOM_FOR_LORA, sign_on

FULL = {"arms.0.method.kind": "full", "arms.0.name": "slow", "arms.0.learning_rate": "5e-5"}


@pytest.fixture
def arms(registered_only: TestClient) -> str:
    """Where arms are added to a study whose rates were looked for."""
    with database_of(registered_only).transaction() as session:
        return f"/studies/{add_tuned_study(session)}/arms"


def planned(client: TestClient, arms: str, **change: str) -> str:
    """The panel, once everything that it asks for has been worked out."""
    text = client.post(f"{arms}/plan", data=FULL | change).text
    while filled_estimates.answer_requests(database_of(client)):
        text = client.post(f"{arms}/plan", data=FULL | change).text
    return plain(html.unescape(text))


def detectable_difference(text: str) -> float:
    """That the panel tells, in points."""
    found = re.search(r"<dt>Detectable difference</dt>\s*<dd>\s*([\d.]+) points", text)
    assert found is not None
    return float(found[1])


def test_the_page_asks_what_its_arm_needs_until_it_is_there(registered_only: TestClient, arms: str) -> None:
    sign_on(registered_only, "cpu-1", ROOM_FOR_ALL)
    text = registered_only.get(f"{arms}/new?method=lora").text
    with database_of(registered_only).reading() as session:
        runs = select(EstimateRow).where(EstimateRow.kind == "run")
        asked = [row.request_json["method"] for row in session.scalars(runs)]
    assert asked and {(method["kind"], method["r"]) for method in asked} == {("lora", 16)}
    assert re.search(r"\d estimates in progress\.", text)
    [poll] = re.findall(rf'<div hx-post="{arms}/plan"[^>]*hx-vals="([^"]*)"', text)
    again = json.loads(html.unescape(poll))
    assert again["arms.0.method.r"] == "16"
    assert registered_only.post(f"{arms}/plan", data=again).status_code == 204
    filled_estimates.answer_requests(database_of(registered_only))
    settled = registered_only.post(f"{arms}/plan", data=again)
    assert settled.status_code == 200
    assert "hx-vals" not in settled.text
    assert re.search(r"<b>\d{3} MiB</b>", plain(settled.text))


def test_the_panel_shows_the_arm_and_the_studys_power_with_it(registered_only: TestClient, arms: str) -> None:
    sign_on(registered_only, "cpu-1", ROOM_FOR_ALL)
    text = planned(registered_only, arms)
    assert "1 arm × 3 seeds" in re.sub(r"\s+", " ", text)
    assert re.search(r"<dt>Tuning trials</dt>\s*<dd>\s*3\s", text)
    assert text.count('class="split"') == 1
    assert "A single arm has no comparison" not in text
    shown = detectable_difference(text)
    study = registered_only.get(arms.removesuffix("/arms").replace("/studies", "/api/v1/studies")).json()["spec"]
    grown = study | {
        "name": "with it",
        "arms": [*study["arms"], {"name": "slow", "method": {"kind": "full"}, "learning_rate": 5e-5}],
    }
    power = registered_only.post("/api/v1/studies", json=grown).json()["plan"]["power"]
    prior = power["prior"]
    known = {name: prior[name] for name in ("graded", "disagreement")}
    plan = (power["items"], power["seeds"], prior["score"])

    def half_width(looks: int) -> float:
        return power_analysis.detectable_difference(*plan, comparisons=3, confidence=confidence_after(looks), **known)

    assert power["detectable_difference"] == pytest.approx(half_width(0))
    assert shown == pytest.approx(100 * half_width(1), abs=0.05), "results are in view: adding an arm is a look"
    with database_of(registered_only).transaction() as session:
        studies.get(session, 1).interim_looks = 1
    assert detectable_difference(planned(registered_only, arms)) > 1.2 * shown, "another look is held to 99 %"


def test_an_arm_that_fits_no_live_worker_is_queued_only_if_one_insists(registered_only: TestClient, arms: str) -> None:
    sign_on(registered_only, "cpu-1", ROOM_FOR_LORA)
    assert "slow: no live worker has enough memory" in planned(registered_only, arms)
    refused = registered_only.post(arms, data=FULL)
    assert refused.status_code == 422
    assert (
        '<a href="#insist">No live worker has enough memory</a>. Apply a memory saving, or tick the box.'
        in refused.text
    )
    api = registered_only.post(
        f"/api/v1{arms}", json={"name": "slow", "method": {"kind": "full"}, "learning_rate": 5e-5}
    )
    assert (api.status_code, [error["path"] for error in api.json()["errors"]]) == (422, ["method"])
    with database_of(registered_only).reading() as session:
        assert runs.count_by_status(session)["queued"] == 0
    ticked = registered_only.post(f"{arms}/plan", data=FULL | {"insist": "true"}).text
    assert re.search(r'<input type="checkbox"\s+id="insist"[^>]*checked', ticked)
    assert registered_only.post(arms, data=FULL | {"insist": "true"}).status_code == 303
    with database_of(registered_only).reading() as session:
        assert runs.count_by_status(session)["queued"] == 3


def test_an_edit_that_is_no_way_out_works_it_out_anew(registered_only: TestClient, arms: str) -> None:
    for action in ("plan", "remove:0", "set:0:nonsense", "set:7:{}", "add:lora"):
        page = registered_only.post(f"{arms}/new", data=FULL | {"do": action})
        assert re.findall(r'<legend class="hidden">Arm (.*)</legend>', page.text) == ["slow"], action
    assert 'id="add-bitfit"' in registered_only.post(f"{arms}/new", data={"do": "plan"}).text
    assert registered_only.post(f"{arms}/plan", data={}).status_code == 204
