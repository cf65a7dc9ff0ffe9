"""What exports, pushes, parity checks and judgements have in common, on SQLite and on PostgreSQL."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text

from app.domain.accounts.ownership import Viewer
from app.domain.errors import Conflict, Forbidden, NotFound
from app.features.judging.services.judgements import JUDGEMENTS
from app.features.judging.tables import JudgementRow
from app.features.shipping.services.work import CHECKS, EXPORTS, PUSHES
from app.features.shipping.tables import HubPushRow, ModelExportRow, ParityCheckRow
from app.main import create_app
from app.services.workers.sweep import sweep
from app.services.workers.work import Claimed, WorkKind
from app.settings import Settings
from app.store.database.session import Database
from app.store.tables import AuditEventRow, StudyRow, UserRow, WorkRow, now
from tests.support.fakes.fakes import SilentBell
from tests.support.filled.filled import add_study, register, three_arms

ASKER, OWNER, OTHER = 1, 2, 3


class Kind(NamedTuple):
    """A kind of work, by the REST path of one and of the list."""

    work: WorkKind[Any]
    make: Callable[[int, int, int], WorkRow]
    """Of a study, a run and an export."""
    path: str
    listed: str
    audited: dict[str, Any]


SERVER = {"url": "http://127.0.0.1:1/v1", "model": "m", "owner_id": ASKER, "api_key": "encrypted"}
KINDS = {
    "export": Kind(
        EXPORTS,
        lambda _study, run, _export: ModelExportRow(run_id=run, format="adapter", predicted_bytes=1, owner_id=ASKER),
        "/exports",
        "/runs/1/exports",
        {"run": 1},
    ),
    "push": Kind(
        PUSHES,
        lambda _study, _run, export: HubPushRow(export_id=export, repository="a/b", user_id=ASKER, card=""),
        "/pushes",
        "/exports/1/pushes",
        {"repository": "a/b"},
    ),
    "parity check": Kind(
        CHECKS,
        lambda _study, run, _export: ParityCheckRow(run_id=run, **SERVER),
        "/parity-checks",
        "/runs/1/parity-checks",
        {"run": 1},
    ),
    "judgement": Kind(
        JUDGEMENTS,
        lambda study, _run, _export: JudgementRow(study_id=study, rubric="r", sample=2, **SERVER),
        "/judgements",
        "/studies/1/judgements",
        {"study": 1},
    ),
}


class Queued(NamedTuple):
    kind: Kind
    database: Database
    bell: SilentBell
    settings: Settings
    id: int

    @property
    def row(self) -> Any:
        with self.database.reading() as session:
            return self.kind.work.get(session, self.id)

    def claim(self) -> Claimed:
        with self.database.transaction() as session:
            row = self.kind.work.claim(session, self.id)
            assert row is not None
            assert self.kind.work.claim(session, self.id) is None, "a live worker has it"
            return Claimed(row.id, row.epoch)

    def silence(self) -> None:
        """Have its worker be lost for long."""
        with self.database.transaction() as session:
            row = session.get_one(self.kind.work.table, self.id)
            row.seen_at = row.rung_at = now() - timedelta(days=1)

    def sweep(self) -> None:
        with self.database.transaction() as session:
            sweep(session, self.bell, self.settings)


@pytest.fixture(params=KINDS)
def queued(request: pytest.FixtureRequest, database: Database, bell: SilentBell, settings: Settings) -> Queued:
    """Work that user 1 has requested of what is user 2's."""
    kind = KINDS[request.param]
    with database.transaction() as session:
        register(session)
        users = [UserRow(id=n, email=f"{n}@example.org", role_name="member") for n in (ASKER, OWNER, OTHER)]
        session.add_all(users)
        first, *others = add_study(session, three_arms(), hours_ago=1)
        assert first.study_id is not None
        for owned in (first, *others, session.get_one(StudyRow, first.study_id)):
            owned.owner_id, owned.status = OWNER, "succeeded"
        export = 0
        if kind.work is PUSHES:
            exported = ModelExportRow(run_id=first.id, format="adapter", predicted_bytes=1, owner_id=OWNER)
            exported.status = "succeeded"
            session.add(exported)
            session.flush()
            export = exported.id
        row = kind.make(first.study_id, first.id, export)
        kind.work.submit(session, bell, row)
    return Queued(kind, database, bell, settings, row.id)


def test_a_lost_worker_is_noticed_and_what_it_writes_later_has_no_effect(queued: Queued) -> None:
    work, claim = queued.kind.work, queued.claim()
    queued.silence()
    queued.bell.rung.clear()
    queued.sweep()
    assert (work.task, queued.id) in queued.bell.rung
    newer = queued.claim()
    with queued.database.transaction() as session:
        assert not work.progress(session, claim, 0.7) and not work.complete(session, claim)
        assert not work.failed(session, claim, "late")
        assert work.progress(session, newer, 0.5) and work.complete(session, newer)
    assert (queued.row.status, queued.row.epoch, queued.row.progress) == ("succeeded", 2, 1.0)


def test_work_that_always_loses_its_worker_fails(queued: Queued) -> None:
    for _attempt in range(queued.settings.max_attempts):
        queued.claim()
        queued.silence()
    queued.sweep()
    assert queued.row.status == "failed" and "lost in 3 attempts" in queued.row.message
    assert getattr(queued.row, "api_key", "") == ""


def test_work_that_ends_while_the_sweep_looks_at_it_keeps_its_result(queued: Queued) -> None:
    if queued.database.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    with queued.database.transaction() as session:
        session.get_one(queued.kind.work.table, queued.id).attempts = queued.settings.max_attempts
    queued.silence()
    with queued.database.transaction() as ending:
        queued.kind.work.cancel(ending, queued.id)
        with queued.database.transaction() as session:
            session.execute(text("SET LOCAL lock_timeout = '5s'"))
            sweep(session, queued.bell, queued.settings)
    assert (queued.row.status, queued.row.message) == ("cancelled", "")


def test_a_worker_that_shuts_down_hands_it_back(queued: Queued) -> None:
    claim = queued.claim()
    with queued.database.transaction() as session:
        queued.kind.work.give_back(session, queued.bell, claim)
    assert (queued.row.status, queued.row.attempts) == ("queued", 0), "the attempt does not count"


def test_its_user_and_the_owner_of_what_it_is_for_cancel_it_once(queued: Queued) -> None:
    work, claim = queued.kind.work, queued.claim()
    with queued.database.seen_by(Viewer(OTHER)).transaction() as session, pytest.raises(Forbidden):
        work.cancel(session, queued.id)
    with queued.database.seen_by(Viewer(OWNER)).transaction() as session:
        work.cancel(session, queued.id)
        event = session.scalars(select(AuditEventRow).order_by(AuditEventRow.id.desc())).first()
        assert event is not None
        assert (event.action, event.details) == (work.cancelled.value, queued.kind.audited)
    assert queued.row.status == "cancelled" and getattr(queued.row, "api_key", "") == ""
    with queued.database.transaction() as session:
        assert not work.progress(session, claim, 0.5), "its worker stops"
    with queued.database.seen_by(Viewer(ASKER)).transaction() as session, pytest.raises(Conflict, match="has already"):
        work.cancel(session, queued.id)


def test_what_is_private_to_another_user_has_no_work(queued: Queued) -> None:
    with queued.database.transaction() as session:
        for table in ("runs", "studies"):
            session.execute(text(f"UPDATE {table} SET private_to = {OWNER}"))
    with queued.database.seen_by(Viewer(OTHER)).reading() as session, pytest.raises(NotFound):
        queued.kind.work.get(session, queued.id)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_over_rest(queued: Queued) -> None:
    one = f"/api/v1{queued.kind.path}/{queued.id}"
    app = create_app(queued.settings)
    app.state.doorbell = queued.bell
    with TestClient(app, base_url="http://127.0.0.1") as client:
        found = client.get(one).json()
        assert (found["id"], found["status"], found["progress"]) == (queued.id, "queued", 0.0)
        assert "api_key" not in found
        assert client.get(f"/api/v1{queued.kind.listed}").json() == [found]
        for missing in (f"/api/v1{queued.kind.path}/99", f"/api/v1{queued.kind.listed.replace('1', '99')}"):
            assert client.get(missing).status_code == 404
        cancelled = client.post(f"{one}/cancel")
        assert (cancelled.status_code, cancelled.json()["status"]) == (202, "cancelled")
        assert client.get(one, params={"wait": 5}).json() == cancelled.json(), "nothing to wait for"
        assert client.post(f"{one}/cancel").status_code == 409
        assert client.post(f"/api/v1{queued.kind.path}/99/cancel").status_code == 404
