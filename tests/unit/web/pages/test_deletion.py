"""Pages that archive and delete: what would go, why it is refused, and what lists show afterwards."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.store.tables import ArtifactRow, BaseModelRow, RunRow, StudyRow
from tests.unit.web.conftest import database_of


def single_run(client: TestClient) -> int:
    """A run that belongs to no study and has ended."""
    with database_of(client).transaction() as session:
        run = session.scalars(
            select(RunRow).where(RunRow.status == "succeeded", RunRow.collection_id.is_(None))
        ).first()
        assert run is not None
        run.study_id = None
        return run.id


def finished_study(client: TestClient) -> int:
    """A study none of whose runs is queued or running."""
    with database_of(client).reading() as session:
        live = select(RunRow.study_id).where(RunRow.status.in_(("queued", "running")), RunRow.study_id.is_not(None))
        found = session.scalars(select(StudyRow.id).where(StudyRow.id.not_in(live), StudyRow.tuning.is_(False))).first()
        assert found is not None
        return found


def test_the_page_of_a_run_leads_to_its_deletion_which_says_what_goes(full: TestClient) -> None:
    run_id = single_run(full)
    assert f'href="/runs/{run_id}/delete"' in full.get(f"/runs/{run_id}").text
    with database_of(full).reading() as session:
        files = len(session.scalars(select(ArtifactRow).where(ArtifactRow.run_id == run_id)).all())

    page = full.get(f"/runs/{run_id}/delete").text

    what = page.split('id="what-goes">')[1].split("<")[0]
    assert what.startswith(f"1 run, {files} file")
    answer = full.post(f"/runs/{run_id}/delete")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs")
    assert full.get(f"/runs/{run_id}").status_code == 404


def test_a_run_of_a_study_leads_to_its_study(full: TestClient) -> None:
    with database_of(full).reading() as session:
        run = session.scalars(select(RunRow).where(RunRow.study_id.is_not(None))).first()
        assert run is not None
    page = full.get(f"/runs/{run.id}/delete").text
    assert f'href="/studies/{run.study_id}/delete"' in page
    assert 'id="delete"' not in page
    assert full.post(f"/runs/{run.id}/delete").status_code == 409


def test_a_study_with_live_runs_is_refused_and_an_ended_one_goes(full: TestClient) -> None:
    with database_of(full).reading() as session:
        live = session.scalars(
            select(RunRow.study_id).where(RunRow.status == "running", RunRow.study_id.is_not(None))
        ).first()
    page = full.get(f"/studies/{live}/delete").text
    assert 'id="refused"' in page
    assert 'id="archive" disabled' in page
    assert full.post(f"/studies/{live}/delete").status_code == 409

    study_id = finished_study(full)
    assert full.post(f"/studies/{study_id}/delete").headers["location"] == "/studies"
    assert full.get(f"/studies/{study_id}").status_code == 404


def test_an_archived_study_and_its_runs_are_hidden_until_one_asks_for_them(full: TestClient) -> None:
    study_id = finished_study(full)
    link = f'href="/studies/{study_id}"'
    assert 'id="show-archived"' not in full.get("/studies").text + full.get("/runs").text

    full.post(f"/studies/{study_id}/archive", data={"archived": "true"})

    listed = full.get("/studies").text
    assert (link in listed, 'id="show-archived"' in listed) == (False, True)
    assert link in full.get("/studies?archived=true").text
    runs = full.get("/runs", params={"filter": f"study = {study_id}"}).text
    assert ("table.runs" in runs, 'id="show-archived"' in runs) == (False, True)
    assert full.get("/runs", params={"filter": f"(study = {study_id}) and archived"}).text.count(link) > 1
    assert 'id="archived"' in full.get(f"/studies/{study_id}").text

    full.post(f"/studies/{study_id}/archive", data={"archived": "false"})
    assert link in full.get("/studies").text


@pytest.mark.parametrize(
    "address",
    ["/runs/9999", "/studies/9999", "/imports/9999", "/models/nothing", "/data/nothing", "/data/uploads/9999"],
)
def test_what_does_not_exist_cannot_be_deleted(full: TestClient, address: str) -> None:
    assert full.get(f"{address}/delete").status_code == 404
    assert full.post(f"{address}/delete").status_code == 404


def test_a_model_goes_when_nothing_uses_it(full: TestClient) -> None:
    with database_of(full).transaction() as session:
        session.add(BaseModelRow(name="someone/unused", source="hub", location="someone/unused", status="failed"))
        used = session.get(BaseModelRow, session.scalars(select(StudyRow.base_model_id)).first())
        assert used is not None
    assert 'id="refused"' in full.get(f"/models/{used.name}/delete").text
    assert full.post(f"/models/{used.name}/delete").status_code == 409

    assert 'href="/models/someone/unused/delete"' in full.get("/models/someone/unused").text
    assert full.post("/models/someone/unused/delete").headers["location"] == "/models"
    assert full.get("/models/someone/unused").status_code == 404
