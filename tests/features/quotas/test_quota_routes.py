"""Quotas as users and admins meet them: forms, REST, pages and commands."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from app.domain.accounts.policy import Role
from app.features.quotas.rules import LimitChange
from app.features.quotas.services import quotas
from app.store.tables import RunRow, StudyRow
from app.store.users import queries as users
from tests.integration.web.test_cli import vezna
from tests.support.rows.accounts import Installation, installed
from tests.unit.web.pages.new_study.test_new_study import FORM

RUN = {"base_model": "all-MiniLM-L6-v2", "dataset": "bbc-headlines", "method": {"kind": "full"}}
MEMBER = "member@example.org"


@pytest.fixture
def team(tmp_path: Path, filled_file: Path) -> Iterator[Installation]:
    """An installation in which everything is the member's."""
    with installed(tmp_path, filled_file) as found:
        yield found


def runs(team: Installation) -> int:
    with team.database.reading() as session:
        return session.query(RunRow).count()


def limit(team: Installation, **values: int) -> None:
    with team.database.transaction() as session:
        user = users.get(session, team.ids[Role.MEMBER])
        quotas.change_limits(session, user, LimitChange.model_validate(values))


def test_every_way_to_queue_a_run_is_refused_above_the_limit(team: Installation) -> None:
    limit(team, device_seconds=1)
    program, browser, before = team.program(Role.MEMBER), team.browser(Role.MEMBER), runs(team)
    study = program.get("/api/v1/studies/1").json()
    spec = {name: value for name, value in study["spec"].items() if value is not None}
    for answer in (
        program.post("/api/v1/runs", json=RUN),
        program.post("/api/v1/studies?insist=true", json=spec),
        program.post("/api/v1/studies/1/seeds", json={"count": 1}),
        program.post("/api/v1/studies/1/arms?insist=true", json={"method": {"kind": "ia3"}}),
        program.post("/api/v1/runs/1/reproductions?insist=true"),
        browser.post("/runs/1/clone"),
        browser.post("/studies/1/seeds", data={"count": "1"}),
    ):
        assert answer.status_code == 409, answer.text
        assert "of device time" in answer.text and MEMBER in answer.text
    assert runs(team) == before
    page = browser.post("/studies", data=FORM)
    assert page.status_code == 409 and "of device time" in page.text and f'value="{FORM["name"]}"' in page.text
    assert runs(team) == before


def test_a_study_is_not_given_to_a_user_without_room_for_what_waits_of_it(team: Installation) -> None:
    with team.database.transaction() as session:
        admin = users.get(session, team.ids[Role.ADMIN])
        quotas.change_limits(session, admin, LimitChange(device_seconds=1))
        for run in session.query(RunRow).where(RunRow.study_id == 2, RunRow.status.in_(("queued", "running"))):
            run.reserved_seconds = 50.0
    owner = team.program(Role.MEMBER)
    refused = team.program(Role.ADMIN).patch("/api/v1/ownership/studies/2", json={"owner": "admin@example.org"})
    assert refused.status_code == 409 and "not enough device time left" in refused.json()["detail"]
    assert owner.patch("/api/v1/ownership/studies/1", json={"owner": "admin@example.org"}).status_code == 200


def test_a_plain_study_whose_runs_wait_is_not_given_away_by_its_owner(team: Installation) -> None:
    """Its runs would use the new owner's device time, and hub token."""
    with team.database.transaction() as session:
        assert not session.get_one(StudyRow, 2).tuning
        waiting = session.query(RunRow).where(RunRow.study_id == 2, RunRow.status.in_(("queued", "running"))).all()
        assert waiting
    owner = team.program(Role.MEMBER)
    refused = owner.patch("/api/v1/ownership/studies/2", json={"owner": "admin@example.org"})
    assert refused.status_code == 409 and "wait or run" in refused.json()["detail"]
    with team.database.transaction() as session:
        session.execute(update(RunRow).where(RunRow.study_id == 2).values(status="cancelled"))
    assert owner.patch("/api/v1/ownership/studies/2", json={"owner": "admin@example.org"}).status_code == 200


def test_limits_and_usage_over_rest(team: Installation) -> None:
    admin, program = team.program(Role.ADMIN), team.program(Role.MEMBER)
    changed = admin.patch("/api/v1/quotas/member", json={"concurrent_runs": 2, "device_seconds": 3600})
    assert changed.status_code == 200
    assert changed.json()["roles"]["member"] == {"concurrent_runs": 2, "device_seconds": 3600, "stored_bytes": None}
    admin.patch(f"/api/v1/quotas/{MEMBER}", json={"device_seconds": "unlimited"})
    own = program.get("/api/v1/me/usage").json()
    assert own["limits"] == {"concurrent_runs": 2, "device_seconds": None, "stored_bytes": None}
    assert own["usage"]["used_seconds"] == own["usage"]["expected_bytes"] == 0 < own["usage"]["stored_bytes"]
    by_email = {user["email"]: user for user in admin.get("/api/v1/quotas").json()["users"]}
    assert by_email[MEMBER] == own
    assert admin.patch("/api/v1/quotas/nobody@example.org", json={"concurrent_runs": 1}).status_code == 404
    assert admin.patch("/api/v1/quotas/member", json={"concurrent_runs": -1}).status_code == 422
    assert program.patch("/api/v1/quotas/member", json={"concurrent_runs": "unlimited"}).status_code == 403


def test_an_admin_sets_limits_on_their_page_and_users_see_their_own(team: Installation) -> None:
    admin, member = team.browser(Role.ADMIN), team.browser(Role.MEMBER)
    sent = {"subject": MEMBER, "concurrent_runs": "2", "device_hours": "1,5", "stored_gib": "0,5"}
    assert admin.post("/users/limits", data=sent).status_code == 303
    page = admin.get("/users/limits").text
    assert 'value="2"' in page and 'value="1.5"' in page and "of 1.5 h" in page.replace("\N{NO-BREAK SPACE}", " ")
    assert "of 0.5 GiB" in page.replace("\N{NO-BREAK SPACE}", " ")
    assert "of 1.5 h" in member.get("/account").text.replace("\N{NO-BREAK SPACE}", " ")
    refused = admin.post("/users/limits", data=sent | {"device_hours": "much"})
    assert refused.status_code == 422 and "much is not a limit" in refused.text and 'value="much"' in refused.text
    assert admin.post("/users/limits", data={"subject": MEMBER}).status_code == 303
    assert "of 1.5 h" not in member.get("/account").text.replace("\N{NO-BREAK SPACE}", " ")


def test_limits_by_command(
    team: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VEZNA_DATABASE_URL", team.settings.database)
    assert vezna(monkeypatch, "user", "limit", "member", "--concurrent-runs", "3", "--device-hours", "0.5") == 0
    assert vezna(monkeypatch, "user", "limit", "member", "--stored-gib", "2") == 0
    assert vezna(monkeypatch, "user", "limit", MEMBER, "--device-hours", "unlimited") == 0
    capsys.readouterr()
    assert vezna(monkeypatch, "user", "limits", "--json") == 0
    listed = {line["subject"]: line for line in json.loads(capsys.readouterr().out)}
    assert (listed["member"]["concurrent_runs"], listed["member"]["device_seconds"]) == (3, 1800)
    assert listed["member"]["stored_limit"] == listed[MEMBER]["stored_limit"] == 2 * 2**30
    assert (listed[MEMBER]["concurrent_runs"], listed[MEMBER]["device_seconds"]) == (3, None)
    assert vezna(monkeypatch, "user", "limits") == 0 and "∞" in capsys.readouterr().out
    assert vezna(monkeypatch, "user", "limit", MEMBER) == 1
    assert vezna(monkeypatch, "user", "limit", MEMBER, "--device-hours", "much") == 1
