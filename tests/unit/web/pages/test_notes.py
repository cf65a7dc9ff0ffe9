"""Notes and tags of runs and studies: shown, changed by a form and by PATCH, and refused with a sentence."""

import pytest
from fastapi.testclient import TestClient

PLACES = {"runs": "/runs/2", "studies": "/studies/1"}


@pytest.mark.parametrize("address", PLACES.values(), ids=PLACES)
def test_a_note_and_tags_are_written_shown_and_taken_away(full: TestClient, address: str) -> None:
    assert 'id="no-notes"' in full.get(address).text
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
    assert 'id="no-notes"' in full.get(address).text


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
    assert 'id="no-notes"' in full.get(address).text


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
