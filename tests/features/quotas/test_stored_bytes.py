"""The quota of stored bytes, on SQLite and on PostgreSQL; and what reviews of quotas found."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from app.domain.accounts.ownership import Viewer
from app.domain.accounts.policy import Role
from app.domain.accounts.users import NewUser
from app.domain.data.uploads import Part, SourceRequest
from app.domain.errors import OverQuota
from app.domain.runs.checkpoint import StoredCheckpoint
from app.features.quotas.services import quotas
from app.features.shipping.tables import ModelExportRow
from app.services.data import datasets, ingestion, uploads
from app.services.ownership import ownership
from app.services.runs import runs
from app.services.studies import studies
from app.services.users import users
from app.services.workers import reservations
from app.store.database.session import Database
from app.store.files.files import Files, Stored
from app.store.runs import queries as run_queries
from app.store.tables import ArtifactRow, DatasetRow, EstimateRow, RunRow, StudyRow, UploadRow
from tests.features.quotas.test_quotas import FULL, RUN, Account, doing, member, submit, submit_study
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.attempted import row
from tests.support.rows.estimates import estimate

__all__ = ["member"]
MIB = 2**20


def received(size: int, name: str = "a") -> list[tuple[str, Stored]]:
    return [(f"{name}.csv", Stored(sha256=name * 64, bytes=size, file=f"uploads/{name}"))]


def upload(member: Account, bell: SilentBell, files: Files, size: int, name: str = "a") -> Any:
    return doing(member.db, lambda s: uploads.add_files(s, bell, files, received(size, name)))


def test_what_is_stored_is_counted_by_user_and_a_deletion_makes_room(
    member: Account, registered: Database, bell: SilentBell, files: Files
) -> None:
    upload(member, bell, files, 3 * MIB)
    run_id = submit(member.db, bell)
    with registered.transaction() as session:
        session.add(ArtifactRow(run_id=run_id, name="m", kind="adapter", bytes=5 * MIB, sha256="", file="f"))
        session.add(ModelExportRow(run_id=run_id, format="adapter", status="succeeded", predicted_bytes=1,
                                   stored_bytes=7 * MIB, owner_id=member.id))  # fmt: skip
        session.add(ModelExportRow(run_id=run_id, format="merged-float32", predicted_bytes=11 * MIB,
                                   owner_id=member.id))  # fmt: skip
        session.add(DatasetRow(name="d", owner_id=member.id, stored_bytes=13 * MIB))
        session.add(DatasetRow(name="e", owner_id=member.id + 1, stored_bytes=MIB))
    assert (member.usage.stored_bytes, member.usage.expected_bytes) == (28 * MIB, 11 * MIB)
    with registered.transaction() as session:
        session.query(UploadRow).delete()
    assert member.usage.stored_bytes == 25 * MIB


def test_the_checkpoints_of_a_run_count_while_it_is_paused(
    member: Account, registered: Database, bell: SilentBell
) -> None:
    run_id = submit(member.db, bell)
    kept = [StoredCheckpoint(step=step, prefix=f"c/{step}", files={}, bytes=2 * MIB).model_dump() for step in (1, 2)]
    with registered.transaction() as session:
        session.execute(update(RunRow).values(epoch=1, checkpoints_json=[*kept, {**kept[0], "bytes": 0}]))
    assert member.usage.stored_bytes == 0
    with registered.transaction() as session:
        session.execute(update(RunRow).where(RunRow.id == run_id).values(paused=True))
    assert member.usage.stored_bytes == 4 * MIB


def test_an_upload_above_the_limit_is_refused_with_the_numbers(
    member: Account, registered: Database, bell: SilentBell, files: Files
) -> None:
    member.limit(stored_bytes=10 * MIB)
    upload(member, bell, files, 6 * MIB)
    with pytest.raises(OverQuota) as refused:
        upload(member, bell, files, 5 * MIB, "b")
    for words in ("needs 5 MiB of the 10 MiB", "ada@example.org", "6 MiB are stored"):
        assert words in refused.value.message
    upload(member, bell, files, 6 * MIB)  # the same bytes again are the same upload
    upload(member, bell, files, 4 * MIB, "c")
    source = SourceRequest(source="hub", location="o/d")
    with pytest.raises(OverQuota):
        doing(member.db, lambda s: uploads.add_source(s, bell, source, []))
    doing(registered, lambda s: uploads.add_files(s, bell, files, received(99 * MIB, "d")))


def test_a_source_that_is_fetched_again_counts_once(
    member: Account, registered: Database, bell: SilentBell, files: Files
) -> None:
    member.limit(stored_bytes=10 * MIB)
    source = SourceRequest(source="hub", location="o/d")
    made = doing(member.db, lambda s: uploads.add_source(s, bell, source, [])).id

    def fetch(size: int) -> Any:
        part = Part(name="a.csv", sha256="a" * 64, bytes=size, split="", file="uploads/a")
        claimed = doing(registered, lambda s: ingestion.begin(s, UploadRow, made))
        return doing(registered, lambda s: uploads.fetched(s, files, claimed, [part], "r"))

    assert fetch(6 * MIB)
    doing(registered, lambda s: s.execute(update(UploadRow).values(started_at=None, seen_at=None)))
    assert fetch(6 * MIB) and member.usage.stored_bytes == 6 * MIB
    doing(registered, lambda s: s.execute(update(UploadRow).values(started_at=None, seen_at=None)))
    with pytest.raises(OverQuota, match="needs 5 MiB of the 10 MiB"):
        fetch(11 * MIB)


def test_a_refused_upload_leaves_no_file(member: Account, bell: SilentBell, files: Files, tmp_path: Path) -> None:
    member.limit(stored_bytes=MIB)
    local = tmp_path / "a"
    local.write_bytes(b"a")
    files.put(local, "uploads/a")
    with pytest.raises(OverQuota):
        upload(member, bell, files, 2 * MIB)
    assert not files.exists("uploads/a")


def test_a_version_whose_rows_do_not_fit_is_refused(member: Account, registered: Database) -> None:
    member.limit(stored_bytes=MIB)
    with registered.transaction() as session:
        facts = session.query(DatasetRow).first().facts  # type: ignore[union-attr]
        session.add(DatasetRow(name="d", owner_id=member.id, status="preparing"))
        session.flush()
        made = session.query(DatasetRow).filter_by(name="d").one().id
    claimed = doing(registered, lambda s: ingestion.begin(s, DatasetRow, made))
    with pytest.raises(OverQuota, match="needs 2 MiB of the 1 MiB"):
        doing(registered, lambda s: datasets.prepared(s, claimed, facts, "datasets/d", 2 * MIB, []))
    assert doing(registered, lambda s: datasets.prepared(s, claimed, facts, "datasets/d", MIB, []))


def test_what_a_user_is_given_counts_and_takes_the_exports_along(
    member: Account, registered: Database, bell: SilentBell
) -> None:
    with registered.transaction() as session:
        other = users.create(session, NewUser(email="bob@example.org", role=Role.MEMBER)).id
    run_id = submit(registered.seen_by(Viewer(other)), bell)
    with registered.transaction() as session:
        session.execute(update(RunRow).values(status="succeeded"))
        for form, owner in (("adapter", other), ("merged-float32", member.id)):
            session.add(ModelExportRow(run_id=run_id, format=form, status="succeeded", predicted_bytes=1,
                                       stored_bytes=3 * MIB, owner_id=owner))  # fmt: skip

    def change(**values: Any) -> None:
        wanted = ownership.OwnershipChange.model_validate(values)
        doing(registered, lambda s: ownership.change(s, "runs", str(run_id), wanted))

    def stored() -> tuple[int, int]:
        with registered.reading() as session:
            return tuple(quotas.account_of(session, one).usage.stored_bytes // MIB for one in (member.id, other))  # type: ignore[return-value]

    member.limit(stored_bytes=5 * MIB)
    assert stored() == (3, 3)
    with pytest.raises(OverQuota, match=r"adds 3 MiB to what ada@example\.org stores, and 5 MiB are allowed"):
        change(owner="ada@example.org")
    assert stored() == (3, 3)
    change(visibility="private")
    assert stored() == (0, 6), "who asked for it sees it no longer"
    member.limit(stored_bytes=6 * MIB)
    change(owner="ada@example.org", visibility="team")
    assert stored() == (6, 0)


def test_all_of_a_user_is_given_to_one_who_has_room_for_it(
    member: Account, registered: Database, bell: SilentBell, files: Files
) -> None:
    with registered.transaction() as session:
        other = users.create(session, NewUser(email="bob@example.org", role=Role.MEMBER)).id
    bob = Account(other, registered.seen_by(Viewer(other)))
    upload(member, bell, files, 3 * MIB)
    submit(member.db, bell)

    def transfer() -> Any:
        return doing(registered, lambda s: ownership.transfer_all(s, member.id, other))

    bob.limit(stored_bytes=2 * MIB)
    with pytest.raises(OverQuota, match=r"adds 3 MiB to what bob@example\.org stores"):
        transfer()
    bob.limit(stored_bytes="default", device_seconds=RUN - 1)
    with pytest.raises(OverQuota, match=r"bob@example\.org has not enough device time"):
        transfer()
    assert member.usage.stored_bytes == 3 * MIB and bob.usage.stored_bytes == 0
    bob.limit(device_seconds=RUN)
    assert transfer() == 2 and bob.usage.stored_bytes == 3 * MIB


def test_runs_are_refused_by_the_predicted_size_of_their_weights(
    member: Account, registered: Database, bell: SilentBell
) -> None:
    first = submit(member.db, bell)
    with registered.transaction() as session:
        answer = estimate().model_copy(update={"file_bytes": 4 * MIB}).model_dump(mode="json")
        known = EstimateRow(key="k", kind="run", request_json={}, status="ready", result_json=answer)
        session.add(known)
        session.flush()
        session.execute(update(RunRow).where(RunRow.id == first).values(estimate_id=known.id))
    assert member.usage.expected_bytes == 4 * MIB
    doing(registered, lambda s: s.execute(update(RunRow).values(trial_round=0)))
    assert member.usage.expected_bytes == 0, "a trial saves no weights"
    doing(registered, lambda s: s.execute(update(RunRow).values(trial_round=None)))
    member.limit(stored_bytes=3 * MIB)
    with pytest.raises(OverQuota, match="in progress will add about 4 MiB"):
        submit(member.db, bell)
    doing(member.db, lambda s: runs.cancel(s, bell, first))
    assert member.usage.expected_bytes == 0
    submit(member.db, bell)


def test_a_better_estimate_replaces_what_queued_runs_reserve(
    member: Account, registered: Database, bell: SilentBell, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = submit(member.db, bell)
    assert member.numbers == (0, RUN)
    with registered.transaction() as session:
        known = EstimateRow(key="k", kind="run", request_json={}, status="ready")
        session.add(known)
        session.flush()
        run_queries.get(session, run_id).estimate_id = known.id
        estimate_id = known.id
    monkeypatch.setattr(reservations.Predictor, "_estimated", lambda _self, _spec: (5000.0, 0.0, None))
    doing(registered, lambda s: reservations.revise(s, estimate_id))
    assert row(registered, run_id).reserved_seconds == 5000.0 and member.numbers == (0, 5000)


def test_seeds_of_a_study_that_was_tuned_before_there_were_quotas_are_charged(
    member: Account, registered: Database, bell: SilentBell
) -> None:
    study = submit_study(member.db, bell, tuning="grid", arms=[FULL], seeds=[0])
    doing(registered, lambda s: s.execute(update(StudyRow).values(reserved_json={})))
    doing(registered, lambda s: s.execute(update(RunRow).values(reserved_seconds=0.0)))
    assert member.numbers == (0, 0)
    doing(member.db, lambda s: studies.add_seeds(s, bell, study, 2))
    assert member.numbers == (0, 2 * RUN)


def test_a_study_whose_tuning_fails_again_and_again_can_be_cancelled(
    member: Account, registered: Database, bell: SilentBell
) -> None:
    study = submit_study(member.db, bell, tuning="grid", arms=[FULL], seeds=[0])
    doing(registered, lambda s: s.execute(update(RunRow).values(status="failed")))
    with registered.reading() as session:
        assert session.get_one(StudyRow, study).tuning
    doing(member.db, lambda s: studies.cancel(s, bell, study))
    with registered.reading() as session:
        cancelled = session.get_one(StudyRow, study)
        assert not cancelled.tuning and cancelled.reserved_json == {}
        assert quotas.account_of(session, member.id).usage.reserved_seconds == 0
