"""The audit log: what is recorded, that it is only added to, and who reads it."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, text, update
from sqlalchemy.exc import DatabaseError
from structlog.testing import capture_logs

from app.domain.accounts.audit import LEAST_DAYS, Action, Actor, AuditFilter
from app.domain.accounts.policy import Role, Scope
from app.domain.accounts.users import NewUser
from app.domain.errors import Conflict, Unauthenticated, Unavailable
from app.services.users import audit, login, passwords, users
from app.services.users.sessions import Visitor
from app.settings import Settings
from app.store.database.session import Database
from app.store.tables import ArtifactRow, AuditEventRow, now
from app.words.users.audit import TITLES
from tests.support.checks.access_table import routes
from tests.support.rows.accounts import OWN_PAGE, PASSWORD, Installation, installed

RUN = {"base_model": "all-MiniLM-L6-v2", "dataset": "bbc-headlines", "method": {"kind": "full"}}
RUNS, STUDIES, DATA = "/api/v1/runs", "/api/v1/studies", "/data/uploads/{upload_id:int}"
RECORDED: dict[Action, list[str]] = {
    Action.LOG_IN: ["/login", "/login/code", "/api/v1/login"],
    Action.LOG_OUT: ["/logout"],
    Action.END_SESSION: ["/account/sessions/others/end", "/account/sessions/{session_id}/end"],
    Action.CHANGE_PASSWORD: ["/account/password", "/password/{secret}"],
    Action.LINK_PASSWORD: ["/users/{user_id}/link"],
    Action.CREATE_USER: ["/first-admin/{secret}", "/users"],
    Action.CHANGE_ROLE: ["/users/{user_id}/role"],
    Action.CHANGE_LIMITS: ["/users/limits", "/api/v1/quotas/{subject}"],
    Action.DISABLE_USER: ["/users/{user_id}/disabled"],
    Action.REMOVE_IDENTITY: ["/users/{user_id}/identity/remove"],
    Action.REVOKE_ACCESS: ["/users/{user_id}/revoke"],
    Action.TURN_FACTOR_ON: ["/account/factor/confirm"],
    Action.TURN_FACTOR_OFF: ["/account/factor/remove", "/users/{user_id}/factor/reset"],
    Action.RENEW_CODES: ["/account/factor/codes"],
    Action.CREATE_TOKEN: ["/account/tokens"],
    Action.REVOKE_TOKEN: ["/account/tokens/{token_id}/revoke", "/api/v1/me/token"],
    Action.SET_HUB_TOKEN: ["/account/hub-token", "/api/v1/hub-token"],
    Action.REMOVE_HUB_TOKEN: ["/account/hub-token/remove", "/api/v1/hub-token"],
    Action.SUBMIT_RUN: [RUNS, "/runs/{run_id:int}/clone", f"{RUNS}/{{run_id}}/reproductions"],
    Action.CANCEL_RUN: ["/runs/{run_id:int}/cancel", f"{RUNS}/{{run_id}}/cancel"],
    Action.QUEUE_RUN: ["/queue/{noun}/{row_id:int}", "/api/v1/queue/{noun}/{row_id}"],
    Action.ANNOTATE_RUN: [f"{RUNS}/{{run_id}}", "/{owner}/{owner_id:int}/notes"],
    Action.ARCHIVE_RUN: ["/{owner}/{owner_id:int}/archive"],
    Action.DELETE_RUN: ["/{noun}/{row_id:int}/delete"],
    Action.SUBMIT_STUDY: [
        "/studies",
        STUDIES,
        "/recipes/{recipe_id}/run",
        "/api/v1/recipes/{recipe_id}/runs",
        "/lab/studies/{plan}",
        "/lab/classes/{code}/seed",
    ],
    Action.ANNOTATE_STUDY: [f"{STUDIES}/{{study_id}}"],
    Action.ADD_SEEDS: [f"{STUDIES}/{{study_id}}/seeds", "/studies/{study_id:int}/seeds"],
    Action.ADD_ARM: [f"{STUDIES}/{{study_id}}/arms", "/studies/{study_id:int}/arms"],
    Action.STOP_ARM: [f"{STUDIES}/{{study_id}}/arms/{{title:path}}/stop", "/studies/{study_id:int}/arms/stop"],
    Action.CANCEL_STUDY: [f"{STUDIES}/{{study_id}}/cancel", "/studies/{study_id:int}/cancel"],
    Action.ADD_UPLOAD: [
        "/v1/files",
        "/api/v1/uploads",
        "/api/v1/uploads/sources",
        "/api/v1/uploads/files/{name:path}",
        "/data/files",
        "/data/sources",
    ],
    Action.READ_UPLOAD: ["/api/v1/uploads/{upload_id}/read", f"{DATA}/read"],
    Action.DELETE_UPLOAD: ["/api/v1/uploads/{upload_id}", f"{DATA}/delete", "/v1/files/{file_id}"],
    Action.CREATE_DATASET: ["/api/v1/datasets", DATA],
    Action.DELETE_DATASET: ["/api/v1/datasets/{name}", "/data/{name}/delete"],
    Action.REGISTER_MODEL: ["/models", "/api/v1/models", "/lab/sample"],
    Action.DELETE_MODEL: ["/models/{name:path}/delete", "/api/v1/models/{name:path}"],
    Action.DECLARE_STUDY: ["/api/v1/external-studies"],
    Action.OPEN_RUN: ["/api/v1/external-studies/{collection_id}/runs"],
    Action.END_RUN: [f"{RUNS}/{{run_id}}/end"],
    Action.IMPORT_RESULTS: ["/imports", "/api/v1/imports"],
    Action.DELETE_COLLECTION: ["/api/v1/collections/{collection_id}"],
    Action.SUBMIT_EXPORT: [f"{RUNS}/{{run_id}}/exports", "/runs/{run_id:int}/exports"],
    Action.CANCEL_EXPORT: ["/api/v1/exports/{export_id}/cancel", "/runs/{run_id:int}/exports/{export_id:int}/cancel"],
    Action.PUSH_EXPORT: ["/api/v1/exports/{export_id}/pushes", "/runs/{run_id:int}/exports/{export_id:int}/hub"],
    Action.CANCEL_PUSH: [
        "/api/v1/pushes/{push_id}/cancel",
        "/runs/{run_id:int}/exports/{export_id:int}/hub/{push_id:int}/cancel",
    ],
    Action.SUBMIT_FINE_TUNING: ["/v1/fine_tuning/jobs"],
    Action.CANCEL_FINE_TUNING: ["/v1/fine_tuning/jobs/{job_id}/cancel"],
    Action.SUBMIT_PARITY_CHECK: [f"{RUNS}/{{run_id}}/parity-checks", "/runs/{run_id:int}/parity"],
    Action.CANCEL_PARITY_CHECK: [
        "/api/v1/parity-checks/{check_id}/cancel",
        "/runs/{run_id:int}/parity/{check_id:int}/cancel",
    ],
    Action.SUBMIT_JUDGEMENT: [f"{STUDIES}/{{study_id}}/judgements", "/studies/{study_id:int}/judge"],
    Action.CANCEL_JUDGEMENT: [
        "/api/v1/judgements/{judgement_id}/cancel",
        "/studies/{study_id:int}/judge/{judgement_id:int}/cancel",
    ],
    Action.REGISTER_VERSION: [
        "/api/v1/registry/{name}/versions",
        "/runs/{run_id:int}/exports/{export_id:int}/register",
    ],
    Action.CHANGE_STAGE: ["/api/v1/registry/{name}/versions/{number}/stage", "/registry/{name}"],
    Action.CREATE_WEBHOOK: ["/webhooks", "/api/v1/webhooks"],
    Action.TEST_WEBHOOK: ["/webhooks/{webhook_id}/test", "/api/v1/webhooks/{webhook_id}/test"],
    Action.ENABLE_WEBHOOK: ["/webhooks/{webhook_id}/enable", "/api/v1/webhooks/{webhook_id}/enable"],
    Action.DELETE_WEBHOOK: ["/webhooks/{webhook_id}/remove", "/api/v1/webhooks/{webhook_id}"],
    Action.CHANGE_OWNERSHIP: ["/ownership/{kind}/{key:path}", "/api/v1/ownership/{kind}/{key:path}"],
    Action.CREATE_CLASS: ["/lab/classes", "/api/v1/classes"],
    Action.DELETE_CLASS: ["/lab/classes/{class_id}/delete", "/api/v1/classes/{class_id}"],
    Action.JOIN_CLASS: ["/lab/join/{code}"],
    Action.CHOOSE_CLASS_STUDY: ["/lab/classes/{class_id}/study", "/api/v1/classes/{class_id}/study"],
    Action.LEAVE_CLASS: ["/lab/join/{code}/leave"],
    Action.DELETE_EXPORT: ["/api/v1/exports/{export_id}", "/runs/{run_id:int}/exports/{export_id:int}/delete"],
}
"""By the act that it records, each route that changes something."""
SILENT = ["/api/v1/estimates", "/api/v1/studies/plan", "/mcp", "/studies/plan", "/studies/new", "/account/factor"]
SILENT += [f"/studies/{{study_id:int}}/arms/{part}" for part in ("plan", "new")]
SILENT += ["/api/v1/runs/{run_id}/predict", "/playground", "/language"]
SILENT += ["/studies/{study_id:int}/blind", "/api/v1/studies/{study_id}/blind/ratings"]
SILENT += ["/api/v1/runs/{run_id}/reports"]
SILENT += ["/lab/questions/{question_id}", "/lab/answers/{answer_id}/rating", "/lab/steps/{step}"]
SILENT += ["/lab/steps/{step}/compute", "/lab/pitfalls/{step}/compute", "/lab/pitfalls/{step}"]
SILENT += ["/lab/join/{code}/switch"]
SILENT += ["/models/{name:path}/inspection"]
"""Routes that only compute, although they are no GET, prepare what another one does, concern a learner alone,
store rows that say who and when themselves, or report how a run goes on, whose opening and end are recorded."""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, filled_file: Path) -> Iterator[Installation]:
    home = tmp_path_factory.mktemp("audited")
    with installed(home, filled_file) as made:
        yield made


def entries(db: Database, after: int = 0) -> list[dict[str, Any]]:
    """What is in the log: action, subject, details, of whom and from where."""
    return [entry.__dict__ for entry in audit.entries(db, AuditFilter(), after)]


def last_id(db: Database) -> int:
    return entries(db)[-1]["id"]


def brief(db: Database, after: int) -> list[tuple[str, str, str, str]]:
    return [(e["action"], e["subject"], e["name"], e["via"]) for e in entries(db, after)]


def add(db: Database, days_ago: float = 0) -> int:
    with db.transaction() as session:
        row = AuditEventRow(action="run.submit", via="server", at=now() - timedelta(days=days_ago))
        session.add(row)
        session.flush()
        return row.id


def test_the_database_refuses_to_change_an_entry(database: Database) -> None:
    add(database, days_ago=100)
    with pytest.raises(DatabaseError, match="never changed"), database.transaction() as session:
        session.execute(update(AuditEventRow).values(name="somebody@example.org"))
    assert [entry["name"] for entry in entries(database)] == [""]


def test_the_database_refuses_to_delete_an_entry_of_the_last_thirty_days(database: Database) -> None:
    old, young = add(database, days_ago=30.1), add(database, days_ago=29.9)
    with pytest.raises(DatabaseError, match="30 days"), database.transaction() as session:
        session.execute(delete(AuditEventRow).where(AuditEventRow.id == young))
    with database.transaction() as session:
        session.execute(delete(AuditEventRow).where(AuditEventRow.id == old))
    assert [entry["id"] for entry in entries(database)] == [young]


def test_the_database_refuses_to_replace_or_empty_the_log(database: Database) -> None:
    first = add(database)
    statement = "TRUNCATE audit_events"
    if database.engine.dialect.name == "sqlite":
        columns = "id, at, action, subject, via, name, address, user_agent, details"
        statement = f"INSERT OR REPLACE INTO audit_events ({columns}) SELECT {columns} FROM audit_events"
    with pytest.raises(DatabaseError, match="never changed"), database.transaction() as session:
        session.execute(text(statement))
    assert [entry["id"] for entry in entries(database)] == [first]


def test_the_sweep_deletes_entries_after_the_days_of_the_setting(database: Database) -> None:
    add(database, days_ago=366.1)
    kept = add(database, days_ago=365.9)
    audit.forget(database, now(), days=365)
    assert [entry["id"] for entry in entries(database)] == [kept]


def test_a_clock_that_differs_from_the_databases_ends_no_sweep(database: Database, tmp_path: Path) -> None:
    """As many days as the database keeps entries, and a clock that is ahead of it."""
    kept = add(database, days_ago=29)
    with capture_logs() as logs:
        audit.forget(database, now() + timedelta(days=3), days=LEAST_DAYS)
    assert [line["event"] for line in logs] == ["no entry of the audit log was deleted"]
    assert [entry["id"] for entry in entries(database)] == [kept]


def test_a_continued_export_misses_no_entry_that_is_committed_late(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "ATTEMPTS", 1)
    first, which = add(database), AuditFilter()
    if database.engine.dialect.name == "sqlite":  # one transaction writes after the other
        assert [entry.id for entry in audit.entries(database, which, 0)] == [first]
        return
    with database.transaction() as late:
        audit.record(late, Action.LOG_OUT)
        late.flush()
        second = add(database)
        with pytest.raises(Unavailable, match="again in a minute"):
            list(audit.entries(database, which, first))
    assert [entry.id for entry in audit.entries(database, which, first)] == [second - 1, second]


def test_an_act_that_is_undone_leaves_no_entry(database: Database) -> None:
    with database.transaction() as session:
        users.create(session, NewUser(email="ada@example.org"))
    before = last_id(database)
    with pytest.raises(Conflict), database.transaction() as session:
        users.create(session, NewUser(email="new@example.org"))
        users.create(session, NewUser(email="ada@example.org"))
    assert entries(database, before) == []


def test_logins_are_recorded_with_their_address_and_failed_ones_without_what_was_typed(database: Database) -> None:
    with database.transaction() as session:
        users.create(session, NewUser(email="ada@example.org"), passwords.accepted(PASSWORD))
    before, here = last_id(database), Visitor("198.51.100.7", "curl/8")
    audit.act_as(Actor("visitor", address=here.address, user_agent=here.user_agent))
    for email, password in (("ada@example.org", "wrong"), ("my secret password", "x")):
        with pytest.raises(Unauthenticated):
            login.verify(database, email, password, here, lambda _session, _user: None)
    login.log_in(database, "ada@example.org", PASSWORD, here)
    found = entries(database, before)
    assert [(e["action"], e["name"]) for e in found] == [
        ("session.login_failed", ""),
        ("session.login_failed", ""),
        ("session.login", "ada@example.org"),
    ]
    assert [e["subject"] for e in found[:2]] == ["ada@example.org", ""]
    assert {e["address"] for e in found} == {"198.51.100.7"}
    assert "secret" not in json.dumps(found, default=str)


def test_a_request_is_recorded_with_its_user_and_credential(installation: Installation) -> None:
    before, db = last_id(installation.database), installation.database
    program = installation.program(Role.MEMBER)
    run = program.post("/api/v1/runs", json=RUN).json()["id"]
    browser = installation.browser(Role.MEMBER)
    assert browser.post(f"/runs/{run}/cancel").status_code == 303
    found = [e for e in entries(db, before) if e["action"].startswith("run.")]
    assert [(e["action"], e["subject"], e["via"]) for e in found] == [
        ("run.submit", str(run), "token"),
        ("run.cancel", str(run), "session"),
    ]
    assert {e["name"] for e in found} == {"member@example.org"} and {e["address"] for e in found} == {"testclient"}
    assert all(e["credential_id"] for e in found)


def test_what_is_refused_leaves_no_entry(installation: Installation) -> None:
    viewer, before = installation.browser(Role.VIEWER), last_id(installation.database)
    assert viewer.post("/api/v1/runs", json=RUN).status_code == 403
    assert viewer.post("/runs/2/cancel").status_code == 403
    member = installation.browser(Role.MEMBER)
    assert member.post("/api/v1/runs/2/cancel").status_code == 409
    assert [action for action, *_ in brief(installation.database, before)] == ["session.login"]


def test_each_kind_of_act_has_its_entry(installation: Installation) -> None:
    admin, db = installation.browser(Role.ADMIN), installation.database
    before = last_id(db)
    acts: list[tuple[str, str, dict[str, Any], str, str]] = [
        ("POST", "/users", {"email": "eve@example.org", "role": "viewer"}, "user.create", "eve@example.org"),
        ("POST", "/account/tokens", {"name": "ci", "scopes": ["read"]}, "token.create", ""),
        ("PATCH", "/api/v1/studies/1", {"note": "why", "archived": True}, "study.archive", "1"),
        ("PATCH", "/api/v1/studies/1", {"archived": False}, "study.unarchive", "1"),
        ("POST", "/runs/2/notes", {"note": "x", "tags": "a"}, "run.annotate", "2"),
        ("DELETE", "/api/v1/studies/1", {}, "study.delete", "1"),
    ]
    for method, path, sent, action, subject in acts:
        options = {"json": sent} if path.startswith("/api") else {"data": sent}
        answer = admin.request(method, path, **(options if sent else {}))
        assert answer.status_code < 400, (path, answer.text)
        newest = [e for e in entries(db, before) if e["action"] == action][-1]
        assert newest["subject"] == subject or not subject, (path, newest)
        assert (newest["name"], newest["via"]) == ("admin@example.org", "session"), path
        assert action in TITLES


def test_every_route_that_changes_something_is_listed_with_its_action(installation: Installation) -> None:
    """A new route records an act (`audit.record` in its service), and is listed here."""
    changing = {path for method, path in routes(installation.app) if method not in ("GET", "HEAD")}
    listed = [path for paths in RECORDED.values() for path in paths]
    assert changing == {*listed, *SILENT}


def test_a_download_of_an_artifact_is_recorded(installation: Installation, tmp_path: Path) -> None:
    viewer, db = installation.program(Role.VIEWER), installation.database
    run = installation.program(Role.MEMBER).post("/api/v1/runs", json=RUN).json()["id"]
    file, file_name = tmp_path / "adapter", f"runs/{run}/1/adapter.safetensors"
    file.write_bytes(b"weights")
    installation.app.state.files.put(file, file_name)
    row = {"kind": "adapter", "bytes": 7, "sha256": "0" * 64, "file": file_name}
    with db.transaction() as session:
        artifact = ArtifactRow(run_id=run, name="adapter.safetensors", **row)
        session.add(artifact)
    before = last_id(db)
    content = viewer.get(f"/api/v1/artifacts/{artifact.id}/content").content
    assert content == b"weights"
    assert brief(db, before) == [("artifact.download", str(artifact.id), "viewer@example.org", "token")]


def test_the_log_is_exported_as_json_lines_for_admins_and_that_is_recorded(installation: Installation) -> None:
    program = installation.program(Role.ADMIN, Scope.ADMIN)
    answer = program.get("/api/v1/audit")
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["id"] for line in lines] == sorted(line["id"] for line in lines)
    assert lines[-1]["action"] == "audit.export" and lines[-1]["name"] == "admin@example.org"
    continued = program.get("/api/v1/audit", params={"after": lines[-1]["id"]}).text.splitlines()
    assert [json.loads(line)["action"] for line in continued] == ["audit.export"]
    created = program.get("/api/v1/audit", params={"action": "user", "limit": 2}).text.splitlines()
    assert [json.loads(line)["action"] for line in created] == ["user.create"] * 2
    wrong = program.get("/api/v1/audit", params={"action": "nothing"})
    assert wrong.status_code == 422 and wrong.json()["errors"][0]["path"] == "action"
    for role in (Role.VIEWER, Role.MEMBER):
        assert installation.program(role).get("/api/v1/audit").status_code == 403
        assert installation.browser(role).get("/audit").status_code == 403


def test_the_page_filters_by_action_user_subject_and_time(installation: Installation) -> None:
    admin = installation.browser(Role.ADMIN)
    everything = admin.get("/audit").text
    assert "User created" in everything and "viewer@example.org" in everything
    only = admin.get("/audit", params={"action": "user.create", "subject": "viewer@example.org"}).text
    assert only.count("<code>user.create</code>") == 1 and "<code>session.login</code>" not in only
    tomorrow = (now() + timedelta(days=1)).date().isoformat()
    assert "No entry matches" in admin.get("/audit", params={"since": tomorrow}).text
    assert "<code>user.create</code>" in admin.get("/audit", params={"until": tomorrow, "since": ""}).text
    assert admin.get("/audit", params={"since": "0001-01-01"}).status_code == 422


def test_a_start_with_other_settings_is_recorded_without_secrets(database: Database, tmp_path: Path) -> None:
    first = Settings(home=tmp_path, files_url="s3://key:hidden@bucket/x", hub_token="hidden")
    audit.record_settings(database, first)
    audit.record_settings(database, first)
    audit.record_settings(database, first.model_copy(update={"requests_per_minute": 7}))
    with database.reading() as session:
        rows = session.scalars(select(AuditEventRow).order_by(AuditEventRow.id)).all()
    assert [row.details["changed"] for row in rows][1:] == [["requests_per_minute"]]
    assert rows[0].details["settings"]["files_url"] == "s3://bucket/x"
    assert rows[0].details["settings"]["hub_token"] == "set"
    assert "hidden" not in json.dumps([row.details for row in rows])


def test_acts_of_a_server_with_a_single_user_are_recorded(tmp_path: Path, filled_file: Path) -> None:
    (tmp_path / "vezna.sqlite").write_bytes(filled_file.read_bytes())
    made = Installation(Settings(home=tmp_path, login="single-user"))
    client, before = made.anonymous(), last_id(made.database)
    client.headers.update(OWN_PAGE)
    assert client.post("/api/v1/runs", json=RUN).status_code == 202
    assert [(action, via) for action, _, _, via in brief(made.database, before)] == [("run.submit", "single user")]
    assert "single user" in client.get("/audit").text
    made.database.dispose()
