"""The queue as users meet it: page, forms, REST and commands."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.domain.accounts.policy import Role
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.tables import RunRow
from tests.features.quotas.test_quota_routes import RUN
from tests.integration.web.test_cli import vezna
from tests.support.rows.accounts import Installation, installed


@pytest.fixture
def team(tmp_path: Path, filled_file: Path) -> Iterator[Installation]:
    """An installation without waiting runs."""
    with installed(tmp_path, filled_file) as found:
        with found.database.transaction() as session:
            session.query(RunRow).filter(RunRow.status == "queued").update({"status": "cancelled"})
        yield found


def submitted(team: Installation, role: Role = Role.MEMBER, query: str = "") -> int:
    return int(team.program(role).post(f"/api/v1/runs{query}", json=RUN).json()["id"])


def order(team: Installation, role: Role = Role.MEMBER) -> list[tuple[int | None, int | None, str]]:
    answer = team.program(role).get("/api/v1/queue").json()
    return [(entry["position"], entry["run_id"], entry["turn"]) for entry in answer["entries"]]


def test_a_user_orders_pauses_and_lowers_own_runs_over_rest(team: Installation) -> None:
    first, second = submitted(team), submitted(team)
    member, admin = team.program(Role.MEMBER), team.program(Role.ADMIN)
    assert order(team) == [(1, first, "first"), (2, second, "later")]
    answer = member.patch(f"/api/v1/queue/runs/{second}", json={"move": "first"})
    assert answer.status_code == 200 and answer.json()["entries"][0]["run_id"] == second
    assert member.patch(f"/api/v1/queue/runs/{second}", json={"paused": True}).json()["paused"] == 1
    assert order(team) == [(1, first, "first"), (None, second, "paused")]
    assert member.get(f"/api/v1/runs/{second}").json()["paused"] is True
    refused = member.patch(f"/api/v1/queue/runs/{first}", json={"priority": "high"})
    assert refused.status_code == 403 and "Only an admin" in refused.json()["detail"]
    others = submitted(team, Role.ADMIN)
    assert member.patch(f"/api/v1/queue/runs/{others}", json={"paused": True}).status_code == 403
    assert member.patch("/api/v1/queue/runs/999", json={"paused": True}).status_code == 404
    assert member.patch("/api/v1/queue/runs/1", json={"paused": True}).status_code in (403, 409)
    assert member.patch(f"/api/v1/queue/runs/{first}", json={}).status_code == 422
    assert admin.patch(f"/api/v1/queue/runs/{first}", json={"priority": "high"}).status_code == 200
    assert order(team)[:2] == [(1, first, "raised"), (2, others, "later")]
    log = team.program(Role.ADMIN).get("/api/v1/audit?action=run.queue").text.splitlines()
    assert [json.loads(line)["details"] for line in log] == [
        {"move": "first"}, {"paused": True}, {"priority": "high"}
    ]  # fmt: skip


def test_a_private_run_of_another_user_has_no_name_in_the_queue(team: Installation) -> None:
    hidden, mine = submitted(team, Role.ADMIN, "?visibility=private"), submitted(team)
    assert [run for _position, run, _turn in order(team)] == [None, mine]
    page = team.browser(Role.MEMBER).get("/workers").text
    assert "a run of another user" in page and f'/runs/{hidden}"' not in page
    assert "since its owner used the least device time of the last 7 days" in page
    assert f'action="/queue/runs/{mine}"' in page
    assert 'action="/queue/' not in team.browser(Role.VIEWER).get("/workers").text


@pytest.mark.slow
def test_the_forms_of_the_pages_change_the_queue(team: Installation) -> None:
    first, second = submitted(team), submitted(team)
    browser = team.browser(Role.MEMBER)
    answer = browser.post(f"/queue/runs/{second}", data={"move": "first", "on": "workers"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/workers#queue")
    assert [run for _position, run, _turn in order(team)] == [second, first]
    answer = browser.post(f"/queue/runs/{first}", data={"paused": "true"})
    assert answer.headers["location"] == f"/runs/{first}"
    page = browser.get(f"/runs/{first}").text
    assert "No worker takes it until it is resumed" in page and "Resume" in page
    assert browser.post(f"/queue/runs/{first}", data={"paused": "false"}).status_code == 303
    assert browser.post(f"/queue/runs/{first}", data={"priority": "high"}).status_code == 403
    spec = {**team.program(Role.MEMBER).get("/api/v1/studies/1").json()["spec"], "name": "waits"}
    spec = {name: value for name, value in spec.items() if value is not None}
    study = team.program(Role.MEMBER).post("/api/v1/studies?insist=true", json=spec).json()["id"]
    assert browser.post(f"/queue/studies/{study}", data={"paused": "true"}).status_code == 303
    page = browser.get(f"/studies/{study}").text
    assert "Runs of this study are paused" in page and f'action="/queue/studies/{study}"' in page
    with team.database.reading() as session:
        assert studies.get(session, study).paused
        assert all(run.paused for run in runs.of_study(session, study))
    assert team.program(Role.MEMBER).get(f"/api/v1/studies/{study}").json()["paused"] is True
    assert browser.post(f"/queue/studies/{study}", data={"paused": "false"}).status_code == 303
    with team.database.reading() as session:
        one = runs.of_study(session, study)[0].id
    assert browser.post(f"/queue/runs/{one}", data={"paused": "true"}).status_code == 303
    page = browser.get(f"/studies/{study}").text
    assert "Runs of this study are paused" not in page and 'id="pause"' in page, "the others are not paused"
    assert browser.post(f"/queue/studies/{study}", data={"paused": "true"}).status_code == 303
    with team.database.transaction() as session:
        session.query(RunRow).filter(RunRow.study_id == study).update({"status": "cancelled"})
    assert "Runs that are added wait until the study is resumed." in browser.get(f"/studies/{study}").text
    assert browser.post(f"/queue/studies/{study}", data={"paused": "false"}).status_code == 303
    assert "Runs of this study are paused" not in browser.get(f"/studies/{study}").text


@pytest.mark.slow
def test_an_upload_by_put_says_that_it_can_be_above_a_limit(team: Installation) -> None:
    paths = team.program(Role.MEMBER).get("/api/v1/openapi.json").json()["paths"]
    [put] = [path["put"] for name, path in paths.items() if name.endswith("/uploads/files/{name}")]
    assert "409" in put["responses"]


def test_the_commands_change_the_queue(
    team: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = submitted(team), submitted(team)
    client = team.program(Role.MEMBER)
    client.base_url = "http://127.0.0.1/api/v1/"
    monkeypatch.setattr("vezna.client.httpx2.Client", lambda **_options: client)
    assert vezna(monkeypatch, "queue", "move", str(second), "--run", "--first") == 0
    assert vezna(monkeypatch, "queue", "pause", str(first), "--run") == 0
    assert vezna(monkeypatch, "queue", "priority", str(second), "low", "--run") == 0
    assert f"Paused: run {first}." in capsys.readouterr().out
    assert vezna(monkeypatch, "queue", "list") == 0
    table = capsys.readouterr().out
    assert "low priority" in table and "paused" in table and table.index(str(second)) < table.index("paused")
    assert vezna(monkeypatch, "queue", "resume", str(first), "--run") == 0
    assert vezna(monkeypatch, "queue", "move", str(second), "--run", "--before", str(first)) == 1
    assert "does not wait in this queue" in capsys.readouterr().err
    assert vezna(monkeypatch, "queue", "move", str(second), "--run") == 1
    assert vezna(monkeypatch, "queue", "priority", str(second), "high", "--run") == 1
    assert "Only an admin" in capsys.readouterr().err
