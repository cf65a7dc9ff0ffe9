"""Deleting and archiving runs, studies, collections and base models, on SQLite and on PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from app.domain.errors import Conflict, NotFound
from app.domain.failures import Failure, FailureCode
from app.domain.runs.job import EvaluationReport, StepsReport
from app.domain.runs.listing.annotations import Annotation
from app.domain.runs.result import ArtifactFile
from app.domain.runs.spec import RunSpec
from app.domain.runs.status import RunStatus
from app.services.ownership import deletion
from app.services.runs import annotations, archive, attempts
from app.services.runs import runs as run_service
from app.store.database.session import Database
from app.store.files.files import Files, run_folder
from app.store.models import queries as base_models
from app.store.runs import queries as runs
from app.store.tables import Base, RunRow
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.results import evaluation, result, step

FULL = {"kind": "full"}
RUN = {"base_model": "tiny", "dataset": "small", "method": FULL}
STUDY = {"name": "S", "base_model": "tiny", "dataset": "small", "arms": [{"method": FULL}], "seeds": [0, 1]}
OF_RUNS = ("artifacts", "evaluations", "step_chunks", "run_events", "run_tags", "weight_deltas")
"""Tables whose rows belong to a run."""


def submitted(api: TestClient, path: str = "/runs") -> int:
    """The id of a new run, or of a study of two."""
    answer = api.post(path, json=RUN if path == "/runs" else STUDY)
    assert answer.status_code == 202, answer.text
    return int(answer.json()["id"])


def finish(db: Database, files: Files, run_id: int, folder: Path) -> None:
    """Take a run to success, with steps, scores, a tag, and a file of five bytes."""
    left = folder / "adapter.bin"
    left.write_bytes(b"12345")
    name = f"{run_folder(run_id)}/1/adapter.bin"
    files.put(left, name)
    with db.transaction() as session:
        mine = attempts.claim(session, run_id, "w1", 45)
        assert mine is not None
        reports = [
            StepsReport(steps=[step(n, 1 / n) for n in range(1, 4)]),
            EvaluationReport(evaluation=evaluation(accuracy=0.5), items=["a", "b"], scores=[1, 0]),
        ]
        attempts.report(session, mine, 1, reports, 45)
        kept = [ArtifactFile(name="adapter.bin", kind="adapter", bytes=5, sha256="0" * 64)]
        found = result(0.5).model_copy(update={"artifacts": kept})
        attempts.finish(session, SilentBell(), mine, found, {"adapter.bin": name})
        annotations.annotate_run(session, run_id, Annotation(tags=["paper"]))


def rows_of_runs(db: Database) -> dict[str, int]:
    """How many rows each table has that belong to a run."""
    with db.reading() as session:
        counts = {
            name: session.scalar(select(func.count()).select_from(Base.metadata.tables[name])) for name in OF_RUNS
        }
    return {name: n for name, n in counts.items() if n}


def test_a_run_goes_with_its_rows_and_its_files(
    api: TestClient, registered: Database, files: Files, tmp_path: Path
) -> None:
    run_id = submitted(api)
    finish(registered, files, run_id, tmp_path)

    preview = api.get(f"/runs/{run_id}/deletion").json()
    assert preview == {"runs": 1, "files": 1, "bytes": 5, "refused": ""}
    assert api.delete(f"/runs/{run_id}").status_code == 204

    assert api.get(f"/runs/{run_id}").status_code == 404
    assert rows_of_runs(registered) == {}
    assert not files.exists(run_folder(run_id))
    assert api.delete(f"/runs/{run_id}").status_code == 404


def test_an_id_is_never_given_twice(api: TestClient) -> None:
    first = submitted(api)
    api.post(f"/runs/{first}/cancel")
    api.delete(f"/runs/{first}")

    assert submitted(api) > first


def test_a_queued_run_must_be_cancelled_first(api: TestClient) -> None:
    run_id = submitted(api)

    refused = api.delete(f"/runs/{run_id}")
    assert (refused.status_code, "cancel it first" in refused.json()["detail"]) == (409, True)
    assert api.get(f"/runs/{run_id}/deletion").json()["refused"] == refused.json()["detail"]

    api.post(f"/runs/{run_id}/cancel")
    assert api.delete(f"/runs/{run_id}").status_code == 204


def test_a_study_goes_with_its_runs_and_they_do_not_go_alone(
    api: TestClient, registered: Database, files: Files, tmp_path: Path
) -> None:
    study_id = submitted(api, "/studies")
    first, second = api.get(f"/studies/{study_id}").json()["runs"]
    assert api.delete(f"/studies/{study_id}").status_code == 409
    for run_id in (first, second):
        finish(registered, files, run_id, tmp_path)

    alone = api.delete(f"/runs/{first}")
    assert (alone.status_code, f"belongs to study {study_id}" in alone.json()["detail"]) == (409, True)
    assert api.get(f"/studies/{study_id}/deletion").json() == {"runs": 2, "files": 2, "bytes": 10, "refused": ""}
    assert api.delete(f"/studies/{study_id}").status_code == 204

    assert api.get(f"/studies/{study_id}").status_code == 404
    assert api.get("/runs").json()["items"] == []
    assert rows_of_runs(registered) == {}
    assert files.names("runs") == set()


def test_an_imported_run_goes_alone_or_with_its_collection(api: TestClient) -> None:
    paper = {"method": "lora", "metric": "accuracy", "score": 0.5, "seed": 0, "source": "a paper"}
    results = [{"label": name, **paper} for name in ("one", "two")]
    brought = api.post("/imports", json={"collection": "paper", "results": results}).json()
    first, second = brought["added"]

    assert api.delete(f"/runs/{first}").status_code == 204
    assert api.get(f"/collections/{brought['collection_id']}/deletion").json()["runs"] == 1
    assert api.delete(f"/collections/{brought['collection_id']}").status_code == 204

    assert api.get("/collections").json() == []
    assert api.get(f"/runs/{second}").status_code == 404


def test_a_base_model_goes_only_when_it_is_not_in_use(api: TestClient) -> None:
    run_id = submitted(api)
    api.post(f"/runs/{run_id}/cancel")
    refused = api.delete("/models/tiny")
    assert (refused.status_code, "runs: 1" in refused.json()["detail"]) == (409, True)

    api.delete(f"/runs/{run_id}")

    assert api.get("/models/tiny/deletion").json()["refused"] == ""
    assert api.delete("/models/tiny").status_code == 204
    assert api.get("/models/tiny").status_code == 404


@pytest.mark.parametrize("attempt", range(5))
def test_of_a_cancel_with_deletion_and_a_claim_at_the_same_moment_exactly_one_wins(
    registered: Database, files: Files, bell: SilentBell, attempt: int
) -> None:
    with registered.transaction() as session:
        run_id = run_service.submit(session, bell, RunSpec.model_validate(RUN)).id

    def claim() -> bool:
        with registered.transaction() as session:
            return attempts.claim(session, run_id, "w1", 45) is not None

    def delete() -> bool:
        try:
            with registered.transaction() as session:
                run_service.cancel(session, bell, run_id)
                deletion.delete_run(session, files, run_id)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        claimed, deleted = (future.result() for future in (pool.submit(claim), pool.submit(delete)))

    assert claimed != deleted
    with registered.reading() as session:
        assert (runs.find(session, run_id) is None) == deleted


def test_a_lost_worker_that_reports_on_a_deleted_run_is_fenced(
    registered: Database, files: Files, bell: SilentBell
) -> None:
    with registered.transaction() as session:
        run_id = run_service.submit(session, bell, RunSpec.model_validate(RUN)).id
        mine = attempts.claim(session, run_id, "w1", 45)
        assert mine is not None
        attempts.fail(session, bell, mine, Failure(code=FailureCode.LOST, message="lost"))
        deletion.delete_run(session, files, run_id)

    for late in (
        lambda s: attempts.report(s, mine, 1, [], 45),
        lambda s: attempts.finish(s, bell, mine, result(0.5), {}),
        lambda s: attempts.retry(s, bell, mine, Failure(code=FailureCode.KILLED, message="killed"), 3),
        lambda s: attempts.hand_back(s, bell, mine, "its worker stops"),
    ):
        with pytest.raises(attempts.Fenced), registered.transaction() as session:
            late(session)


def test_folders_of_deleted_runs_are_orphans_and_those_of_unknown_newer_runs_are_not(
    api: TestClient, registered: Database
) -> None:
    first, second = submitted(api), submitted(api)
    api.post(f"/runs/{first}/cancel")
    api.delete(f"/runs/{first}")

    with registered.reading() as session:
        found = deletion.orphaned_folders(session, [run_folder(n) for n in (first, second, second + 7)])

    assert found == [run_folder(first)]


def test_files_of_attempts_are_strays_once_the_run_ended_unless_they_are_its_result(
    registered: Database, bell: SilentBell
) -> None:
    done, failed, running = (
        registered.write(lambda session: run_service.submit(session, bell, RunSpec.model_validate(RUN)).id)
        for _ in range(3)
    )
    second: dict[int, attempts.Claim] = {}
    for run_id in (done, failed, running):
        first = registered.write(lambda session, run_id=run_id: attempts.claim(session, run_id, "w1", 45))
        registered.write(lambda session, mine=first: attempts.hand_back(session, bell, mine, "its worker stops"))
        second[run_id] = registered.write(lambda session, run_id=run_id: attempts.claim(session, run_id, "w1", 45))
    lost = Failure(code=FailureCode.LOST, message="lost")
    registered.write(lambda session: attempts.finish(session, bell, second[done], result(0.5), {}))
    registered.write(lambda session: attempts.fail(session, bell, second[failed], lost))
    names = [
        f"{run_folder(run_id)}/{place}"
        for run_id in (done, failed, running, running + 7)
        for place in ("1/a.npz", "2/adapter/b.json", "checkpoints/2-10/c.json")
    ]
    with registered.reading() as session:
        strays = deletion.stray_files(session, names)

    expected = [f"{run_folder(done)}/1", f"{run_folder(done)}/checkpoints"]
    expected += [f"{run_folder(failed)}/{folder}" for folder in ("1", "2", "checkpoints")]
    assert sorted(strays) == sorted(expected)
    assert strays[f"{run_folder(done)}/1"] == [f"{run_folder(done)}/1/a.npz"]


def test_a_base_model_that_a_new_run_refers_to_is_a_conflict(registered: Database, bell: SilentBell) -> None:
    with registered.transaction() as session:
        run_service.submit(session, bell, RunSpec.model_validate(RUN))
    with pytest.raises(Conflict), registered.transaction() as session:
        deletion.delete_model(session, "tiny")
    with registered.reading() as session:
        assert base_models.by_name(session, "tiny") is not None
    with pytest.raises(NotFound), registered.transaction() as session:
        deletion.delete_model(session, "nothing")


def test_an_archived_run_is_hidden_from_lists_unless_asked_for(api: TestClient) -> None:
    first, second = submitted(api), submitted(api)
    assert api.patch(f"/runs/{first}", json={"archived": True}).status_code == 409
    api.post(f"/runs/{first}/cancel")

    assert api.patch(f"/runs/{first}", json={"archived": True}).json()["archived"] is True

    assert _listed(api) == [second]
    assert _listed(api, sort="-score") == [second]
    assert _listed(api, filter="archived") == [first]
    assert _listed(api, filter="archived or not archived") == [second, first]
    assert _listed(api, filter="cancelled") == []
    assert api.get(f"/runs/{first}").status_code == 200

    api.patch(f"/runs/{first}", json={"archived": False})
    assert _listed(api) == [second, first]


def test_a_study_is_archived_with_its_runs(api: TestClient, registered: Database) -> None:
    study_id = submitted(api, "/studies")
    run_id = api.get(f"/studies/{study_id}").json()["runs"][0]
    assert api.patch(f"/studies/{study_id}", json={"archived": True}).status_code == 409
    api.post(f"/studies/{study_id}/cancel")
    assert api.patch(f"/runs/{run_id}", json={"archived": True}).status_code == 409

    assert api.patch(f"/studies/{study_id}", json={"archived": True}).json()["archived"] is True

    assert _listed(api) == []
    assert api.get("/studies").json()["items"] == []
    assert [study["id"] for study in api.get("/studies", params={"archived": True}).json()["items"]] == [study_id]
    assert api.get(f"/studies/{study_id}/comparison").status_code == 200
    assert api.post(f"/studies/{study_id}/seeds", json={"count": 1}).status_code == 409

    api.patch(f"/studies/{study_id}", json={"archived": False})
    assert len(_listed(api)) == 2


def test_only_what_has_ended_is_archived_with_a_study(registered: Database, api: TestClient) -> None:
    study_id = submitted(api, "/studies")
    with pytest.raises(Conflict), registered.transaction() as session:
        archive.archive_study(session, study_id, archived=True)
    with registered.reading() as session:
        assert not session.scalars(select(RunRow.id).where(RunRow.archived)).all()
        assert {RunStatus(row.status) for row in runs.of_study(session, study_id)} == {RunStatus.QUEUED}


def _listed(api: TestClient, **query: str) -> list[int]:
    return [run["id"] for run in api.get("/runs", params=query).json()["items"]]
