"""Every query as another user: none reads a private row, except those that ask about the installation as a whole."""

import hashlib
import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import pytest
from sqlalchemy import delete, text, true, update
from sqlalchemy.orm import Session

from app import features, store
from app.domain.accounts.ownership import Viewer
from app.domain.accounts.policy import Role
from app.domain.errors import NotFound
from app.feature import VARIABLE
from app.features.shipping.tables import ParityCheckRow
from app.main import create_app
from app.settings import Settings
from app.store.database.owned import Asked, Owned
from app.store.database.ownership import EVERY_OWNER, every_table, kinds, unfiltered
from app.store.database.seen import OWNED, UNFILTERED, BelongsTo
from app.store.runs.listing import NEWEST
from app.store.tables import Base, RunRow, StudyRow, UploadRow
from tests.support.rows.external import FULL
from tests.support.rows.owners import COLLECTION, DATASET, MARK, MODEL, RECIPE, PrivateInstallation

ACCOUNTS = {
    "api_tokens", "form_key", "idempotency", "login_failures", "login_sessions", "one_time_links", "users", "clock",
    "audit", "devices", "single_sign_on", "registry", "rows", "second_factor", "page", "columns", "conditions",
    "webhooks", "classes",
}  # fmt: skip
"""Modules without queries of studies, runs, datasets or models. The registry has none that are private."""
WHOLE = {
    ("models", "in_use"): "what is in use is not deleted, by any user",
    ("models", "is_taken"): "names are unique",
    ("collections", "count_runs"): "totals for /metrics",
    ("data", "in_use"): "what is in use is not deleted, by any user",
    ("data", "is_taken"): "names are unique",
    ("data", "is_general_text"): "what is in use is not deleted, by any user",
    ("data", "with_file"): "a file is kept while a version names it",
    ("openai_jobs", "any_on"): "what is in use is not deleted, by any user",
    ("runs", "count_by_status"): "totals for /metrics",
    ("queue", "place_in_queue"): "a position among the runs of the owner, visible or not",
    ("queue", "heads"): "of workers",
    ("queue", "head"): "of workers",
    ("queue", "first_of_each"): "positions count all runs; `queue_view` names those that the viewer sees",
    ("queue", "counts"): "as the positions",
    ("queue", "next_queued"): "a user's quota counts all that the user owns, whoever adds to it",
    ("quotas", "limits"): "of accounts",
    ("usage", "lock_account"): "of accounts",
    ("usage", "running_of"): "a user's quota counts all that the user owns, whoever adds to it",
    ("usage", "running_by_owner"): "of workers",
    ("usage", "running_runs"): "of workers",
    ("usage", "live_runs"): "a user's quota counts all that the user owns, whoever adds to it",
    ("quotas", "reserved_by_studies"): "a user's quota counts all that the user owns, whoever adds to it",
    ("storage", "stored_bytes"): "a user's quota counts all that the user owns, whoever adds to it",
    ("storage", "expected_bytes"): "a user's quota counts all that the user owns, whoever adds to it",
    ("exports", "stored_bytes"): "a user's quota counts all that the user owns, whoever adds to it",
    ("exports", "expected_bytes"): "a user's quota counts all that the user owns, whoever adds to it",
    ("usage", "used_seconds"): "of accounts",
    ("studies", "with_what_they_use"): "who gives a study away requests the baselines of the new owner",
    ("uploads", "named_files"): "a file is kept while an upload names it",
    ("owners", "users_hidden_from"): "what is in use stays visible to its users",
    ("workers", "all_seen"): "of the installation",
    ("workers", "of_device"): "of the installation",
    ("workers", "idle"): "of the installation",
    ("workers", "get"): "of the installation",
    ("workers", "draining"): "of the installation",
    ("estimates", "by_keys"): "a key is a hash of what the caller sees",
    ("estimates", "next_waiting"): "of workers",
    ("estimates", "queued"): "a bound for all users together",
    ("steps", "column"): "no query",
    ("steps", "picked"): "no query",
    ("deletion", "missing_runs"): "of the control node, whose sessions have no viewer",
}
"""Queries whose answer is not empty for another user, and why."""
CHANGES = {
    "add", "add_imported", "add_once", "adopt", "append", "ask_to_cancel", "beat", "begin", "begin_inspection",
    "cancel", "charge", "clear", "delete_row", "delete_runs", "delete_unseen", "drain", "drop_limit", "end", "fill_in",
    "forget", "forget_baselines", "forget_checkpoints", "forget_rings", "give_back", "give_runs", "insert",
    "lock", "measured", "move", "occupy", "queue", "release", "rung", "see", "set_archived", "set_limit", "set_of_run",
    "set_paused", "set_places", "set_precedence",
    "set_of_study", "to_ring", "transfer_all", "write",
}  # fmt: skip
"""Names of functions that change rows."""
AT = datetime(2020, 1, 1, tzinfo=UTC)
LATER = datetime(2099, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory, filled_file: Path) -> Iterator[PrivateInstallation]:
    """An installation in which everything is private to its member."""
    home = tmp_path_factory.mktemp("queried")
    (home / "vezna.sqlite").write_bytes(filled_file.read_bytes())
    found = PrivateInstallation(Settings(home=home, login="required"))
    yield found
    found.database.dispose()


def _modules() -> Iterator[tuple[str, str]]:
    """Modules with queries, by a short name: `queries` of a noun by the noun, others by their own."""
    for package in (store, features):
        for found in walk_packages(package.__path__, f"{package.__name__}."):
            *above, last = found.name.split(".")[2:]
            of_store = package is store and above and above[0] not in ("files", "database")
            shared = above == ["database"] and last in ("owners", "page", "rows", "deletion")
            if not found.ispkg and "tables" not in found.name and (of_store or shared or "queries" in found.name):
                yield above[-1] if last == "queries" else last, found.name


def _queries() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    for label, name_of_module in _modules():
        if label in ACCOUNTS:
            continue
        loaded = import_module(name_of_module)
        for name, value in vars(loaded).items():
            own = inspect.isfunction(value) and value.__module__ == loaded.__name__ and not name.startswith("_")
            if own and next(iter(inspect.signature(value).parameters), "") == "session" and name not in CHANGES:
                yield label, name, value


def _values(private: PrivateInstallation, module: str, run: RunRow) -> dict[str, Any]:
    names = {"models": MODEL, "collections": COLLECTION}
    return {
        "precedence": 1, "rooms": {}, "parent": "run_id", "parent_ids": [1],
        "after": None, "after_step": 0, "answer_id": 1, "arm": FULL, "seed": 0, "besides": 1,
        "key_hash": hashlib.sha256(MARK.encode()).hexdigest(), "archived": False, "artifact_id": 1, "at": LATER,
        "base_model_id": 1, "bf16": False, "candidates": [1],
        "collection_id": private.collection, "collection_ids": [private.collection],
        "condition": None, "config": "", "content_hash": "", "dataset_id": 1,
        "device_name": "cpu", "due": None, "ended": False, "epoch": 1, "estimate_id": 3, "event_id": 0,
        "export_id": private.export, "external": True,
        "export_ids": [private.export], "fields": ["score", "peak"], "groups": {"a": "g", "b": "g"},
        "first_id": 1, "second_id": 2,
        "file": "datasets/x.parquet", "first": run,
        "heard_since": AT, "live": True, "hashes": set(), "host": "", "ids": [1], "items": ["a", "b"],
        "job_id": private.job, "judgement_id": private.judgement, "keys": [], "kind": "lab",
        "lasting": timedelta(0),
        "learner": "member@example.org", "like": run, "limit": 10, "location": "", "lock": False, "model_id": 1,
        "name": names.get(module, DATASET), "order": NEWEST, "owner_id": private.ids[Role.MEMBER],
        "owner_ids": [private.ids[Role.MEMBER]], "subjects": ["role member"], "user_id": private.ids[Role.MEMBER],
        "user_ids": [private.ids[Role.MEMBER]],
        "questions": ["1.1"], "precision": "fp32", "private_to": 99, "recipe": RECIPE,
        "repository": f"{MARK}/model", "revision": "", "row": run,
        "rows": [], "run": run, "run_id": 1, "run_ids": [1, 2], "rung_before": LATER, "silent_since": LATER,
        "since": AT, "source": "files", "split": "test", "status": "queued",
        "study_id": private.external if module in ("external", "tracker_exports") else 1, "study_ids": {1, 2},
        "tasks": {"sequence-classification"},
        "table": ParityCheckRow if module == "work" else UploadRow, "upload_id": private.upload, "which": true(),
        "until": LATER, "worker": "w1",
        "without": None, "writes": False,
    }  # fmt: skip


def _empty(answer: Any) -> bool:
    if isinstance(answer, tuple) and not hasattr(answer, "rows"):
        return all(map(_empty, answer))
    if isinstance(answer, dict):  # steps of each run that was asked for, for example
        return all(map(_empty, answer.values()))
    inside = getattr(answer, "rows", answer)
    return len(inside) == 0 if hasattr(inside, "__len__") else not inside


def _asked(session: Session, function: Callable[..., Any], values: dict[str, Any]) -> Any:
    given = inspect.signature(function).parameters
    arguments = {name: values[name] for name in given if name != "session" and (name in values)}
    lacking = [
        name for name, p in given.items() if name not in arguments and p.default is p.empty and name != "session"
    ]
    assert lacking == [], f"give the parameters of {function.__module__}.{function.__name__} a value in _values"
    try:
        return function(session, **arguments)
    except NotFound:
        return None


def test_every_owner_is_transferred_with_the_users_other_rows() -> None:
    tables = {mapper.class_ for mapper in Base.registry.mappers if "owner_id" in mapper.columns}
    assert tables == {*kinds(Owned), *kinds(Asked)}


@pytest.mark.slow
def test_no_query_reads_private_rows_of_another_user(private: PrivateInstallation) -> None:
    """A query about the whole installation is listed above, with its reason. For its owner most are not empty."""
    other, member = private.other, private.ids[Role.MEMBER]
    with private.database.reading() as session:
        run = session.get_one(RunRow, 1)
    told, found, walked = {}, 0, 0
    for module, name, function in _queries():
        if (module, name) in WHOLE or name in ("uninspected",):
            continue
        values, walked = _values(private, module, run), walked + 1
        with private.database.seen_by(Viewer(other)).reading() as session:
            answer = _asked(session, function, values)
        with private.database.seen_by(Viewer(member)).reading() as session:
            own = _asked(session, function, values)
        if not _empty(answer):
            told[module, name] = answer
        found += not _empty(own)
    assert told == {}
    assert walked > 60 and found > 40


def test_queries_of_the_whole_installation_say_so_and_are_not_refused(private: PrivateInstallation) -> None:
    with private.database.reading() as session:
        run = session.get_one(RunRow, 1)
    known = {(module, name): function for module, name, function in _queries()}
    assert not set(WHOLE) - set(known) - {("steps", "column"), ("steps", "picked")}
    for (module, name), function in known.items():
        if (module, name) in WHOLE and module not in ("steps", "deletion"):
            with private.database.seen_by(Viewer(private.other)).reading() as session:
                _asked(session, function, _values(private, module, run))


def test_another_user_changes_no_private_row_by_any_statement(private: PrivateInstallation) -> None:

    with private.database.seen_by(Viewer(private.other)).transaction() as session:
        for table in kinds(Owned):
            assert session.execute(update(table).values(owner_id=private.other)).rowcount == 0, table
        for table in [row for row in every_table().values() if isinstance(row.seen, BelongsTo)]:
            assert session.execute(delete(table)).rowcount == 0, table


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("SELECT runs.id FROM runs WHERE runs.id = 1", "runs"),
        ("SELECT count(*) FROM artifacts JOIN runs ON runs.id = artifacts.run_id", "artifacts"),
        ("SELECT 1 FROM studies, runs WHERE (studies.private_to IS NULL OR studies.private_to = 2)", "runs"),
        ("SELECT a.id FROM runs AS a WHERE (a.private_to IS NULL OR a.private_to = ?)", ""),
        ("SELECT 1 FROM (SELECT runs.id FROM runs) AS x, users WHERE runs.private_to IS NULL", "runs"),
        ("DELETE FROM runs WHERE runs.id = 1", ""),
        ("SELECT users.id FROM users", ""),
    ],
)
def test_a_statement_without_its_condition_is_refused(statement: str, table: str) -> None:
    assert unfiltered(statement) == table


def test_the_filter_knows_the_tables_of_features_that_are_off(
    private: PrivateInstallation, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from app.store.database.ownership import every_table; print(*every_table())"
    known = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {VARIABLE: ""}, capture_output=True, text=True
    )
    assert known.stdout.split() == list(every_table()), known.stderr
    monkeypatch.setenv(VARIABLE, "")
    private.app = create_app(private.settings)
    paths = ("/api/v1/studies/1", "/api/v1/runs/1")
    assert [private.program(Role.MEMBER).get(path).status_code for path in paths] == [200, 200]
    assert [private.of_other().get(path).status_code for path in paths] == [404, 404]


def test_raw_sql_of_a_request_is_refused(private: PrivateInstallation) -> None:

    with private.database.seen_by(Viewer(private.other)).reading() as session:
        with pytest.raises(AssertionError, match="reads runs without regard"):
            session.execute(text("SELECT id FROM runs"))
        assert session.scalar(text("SELECT count(*) FROM runs").execution_options(**EVERY_OWNER))


NOT_FILTERED = {
    "api_tokens", "audit_events", "clock", "device_usage", "devices", "ended_runs", "estimates", "external_identities",
    "fine_tuning_jobs", "form_keys", "hub_tokens", "idempotency_keys", "lab_answers", "lab_cards", "lab_class_seeds",
    "lab_class_studies", "lab_classes", "lab_members", "lab_progress", "login_failures", "login_sessions",
    "model_versions", "one_time_links", "openid_logins", "pending_logins", "quota_limits", "recovery_codes",
    "registered_models", "second_factors", "stage_changes", "users", "webhook_deliveries", "webhooks", "workers",
}  # fmt: skip


def test_every_table_says_who_sees_it() -> None:
    """A new table gets a condition, or is listed here."""

    assert set(every_table()) == set(Base.metadata.tables)
    assert {name for name, row in every_table().items() if row.seen == UNFILTERED} == NOT_FILTERED
    assert {row for row in every_table().values() if row.seen == OWNED} == {*kinds(Owned)}


def test_what_a_session_loads_stays_filtered_by_identity(private: PrivateInstallation) -> None:
    with private.database.seen_by(Viewer(private.other)).reading() as session:
        assert session.get(StudyRow, 1) is None
        assert session.get(RunRow, 1, with_for_update=True) is None
    with private.database.seen_by(Viewer(private.ids[Role.MEMBER])).reading() as session:
        row = session.get_one(StudyRow, 1)
        session.refresh(row)
        assert row.id == 1 and timedelta(0) < datetime.now(UTC) - row.created_at
