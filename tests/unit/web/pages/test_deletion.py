"""Pages that archive, delete and annotate."""

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


PLACES = {"runs": "/runs/2", "studies": "/studies/1"}


@pytest.mark.parametrize("address", PLACES.values(), ids=PLACES)
def test_a_note_and_tags_are_written_shown_and_taken_away(full: TestClient, address: str) -> None:
    assert "notes-empty" in full.get(address).text
    answer = full.post(
        f"{address}/notes", data={"note": " First line\r\n<b>second</b> ", "tags": 'paper, a "b", paper'}
    )
    assert (answer.status_code, answer.headers["location"]) == (303, f"{address}#notes")
    text = full.get(address).text
    assert "First line\n&lt;b&gt;second&lt;/b&gt;</p>" in text
    assert text.count('class="chip"') == 2
    form = full.get(f"{address}/notes").text
    assert 'value="a &#34;b&#34;, paper"' in form
    full.post(f"{address}/notes", data={"note": "", "tags": ""})
    assert "notes-empty" in full.get(address).text


@pytest.mark.parametrize("address", PLACES.values(), ids=PLACES)
def test_what_cannot_be_kept_is_told_and_stays_in_the_form(full: TestClient, address: str) -> None:
    answer = full.post(f"{address}/notes", data={"note": "x" * 10_001, "tags": "y" * 41})
    assert answer.status_code == 422
    assert "note has 10,001 characters" in answer.text
    assert f"tag {'y' * 40}… is longer than 40 characters" in answer.text
    assert "x" * 10_001 in answer.text
    for note, tags, what in (
        ("a\0b", "", "invisible character, U+0000, at position 2"),
        ("", ",".join(f"t{n}" for n in range(21)), "21 tags, more than the limit of 20"),
    ):
        assert what in full.post(f"{address}/notes", data={"note": note, "tags": tags}).text
    assert "notes-empty" in full.get(address).text


@pytest.mark.parametrize("address", PLACES.values(), ids=PLACES)
def test_patch_changes_what_it_names_and_leaves_the_rest(full: TestClient, address: str) -> None:
    api = f"/api/v1{address}"
    first = full.patch(api, json={"note": "Mine", "tags": ["b", "a"]}).json()
    assert (first["note"], first["tags"]) == ("Mine", ["a", "b"])
    assert full.patch(api, json={"tags": []}).json()["note"] == "Mine"
    assert full.get(api).json()["tags"] == []
    wrong = full.patch(api, json={"tags": ["fine", "with, comma"]})
    assert wrong.status_code == 422
    (error,) = wrong.json()["errors"]
    assert (error["path"], "with, comma" in error["message"]) == ("tags.1", True)
    assert full.patch(api, json={"notes": "x"}).status_code == 422


def test_what_is_not_there_has_no_notes(full: TestClient) -> None:
    for address in ("/runs/9999", "/studies/9999"):
        assert full.get(f"{address}/notes").status_code == 404
        assert full.post(f"{address}/notes", data={"note": "x"}).status_code == 404
        assert full.patch(f"/api/v1{address}", json={"note": "x"}).status_code == 404
    assert full.get("/workers/1/notes").status_code in (404, 422)


def test_the_list_of_runs_over_http_is_filtered_sorted_and_told_where_it_is_wrong(full: TestClient) -> None:
    found = full.get("/api/v1/runs", params={"filter": "study = 1 and not failed", "sort": "peak", "limit": 4}).json()
    assert [run["peak_bytes"] for run in found["items"]] == sorted(run["peak_bytes"] for run in found["items"])
    assert found["has_more"] and found["next_after"] == found["items"][-1]["id"]
    assert {"status": "succeeded", "method": "head-only", "base_model": "all-MiniLM-L6-v2"}.items() <= found["items"][
        0
    ].items()
    rest = full.get("/api/v1/runs", params={"filter": "study = 1", "sort": "peak", "after": found["next_after"]}).json()
    assert len(rest["items"]) == 5 and not rest["has_more"]
    wrong = full.get("/api/v1/runs", params={"filter": "seed = 1 and acuracy > 1"})
    assert (wrong.status_code, wrong.headers["content-type"]) == (422, "application/problem+json")
    assert wrong.json()["errors"] == [
        {"path": "filter", "message": "`acuracy` is not a field", "remedy": "Did you mean `accuracy`?", "column": 14}
    ]
    order = full.get("/api/v1/runs", params={"sort": "-scor"}).json()
    assert order["errors"][0]["remedy"] == "Did you mean score?"
