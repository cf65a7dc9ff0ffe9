"""Results from elsewhere: the form that imports them, and pages of studies trained elsewhere."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.support.rows.external import FULL, LORA, declare
from tests.support.rows.factories import plain
from tests.support.rows.imported_results import as_file, peft_files, result


def send(client: TestClient, *files: tuple[str, str | bytes], collection: str = "") -> Any:
    """Send files by the form."""
    parts = [("files", (name, text, "application/json")) for name, text in files]
    return client.post("/imports", data={"collection": collection}, files=parts)


def test_files_are_taken_and_what_became_of_each_is_said(empty: TestClient) -> None:
    answer = send(
        empty, *((f.name, f.text) for f in peft_files()), ("../bad<b>.json", '{"score": NaN}'), collection="PEFT"
    )
    assert answer.status_code == 200
    text = plain(answer.text)
    assert "5 results were imported into PEFT" in text
    assert "1 file was not imported" in text
    assert "bad&lt;b&gt;.json" in text
    assert "NaN is not a number in JSON. Write the number, or leave the field out." in text
    again = plain(send(empty, *((f.name, f.text) for f in peft_files()), collection="PEFT").text)
    assert "0 results were imported into PEFT" in again
    assert "5 were already imported." in again


@pytest.mark.parametrize(
    ("files", "collection", "says"),
    [
        ([("", b"")], "", "No file was sent"),
        ([("a.json", as_file(result()).text)], "a\x07b", "cannot be printed"),
        ([("a.json", as_file(result()).text)], "x" * 121, "at most 120"),
        ([("a.json", b"")], "", "The file is empty"),
    ],
)
def test_what_cannot_be_taken_is_said_at_the_form(
    empty: TestClient, files: list[tuple[str, str | bytes]], collection: str, says: str
) -> None:
    answer = send(empty, *files, collection=collection)
    assert answer.status_code == 422
    assert says in answer.text


def test_ten_thousand_files_are_too_many_for_a_form(empty: TestClient) -> None:
    answer = send(empty, *[("a.json", b"{}")] * 10_000)
    assert answer.status_code == 400
    assert "Maximum number of files is 1000" in answer.text


API = "/api/v1"


def test_a_study_shows_where_its_runs_stand_and_then_its_verdict(empty: TestClient) -> None:
    script = declare(empty, API)
    page = f"/external-studies/{script.study}"
    text = plain(empty.get(page).text)
    assert "0 of 4 declared runs have a result." in text
    assert "not opened" in text and "Compare the arms" not in text
    assert f'href="{page}"' in empty.get("/studies").text
    for arm, accuracy in ((FULL, 0.9), (LORA, 0.5)):
        for seed in (0, 1):
            script.train(arm, seed, accuracy)
    text = plain(empty.get(page).text)
    assert "points worse than full fine-tuning" in text
    assert "Report a run" not in text
    assert "trained elsewhere" in empty.get("/runs").text
    assert "imported" not in plain(empty.get("/runs").text)


def test_a_run_shows_what_its_script_reported(empty: TestClient) -> None:
    script = declare(empty, API)
    run: dict[str, Any] = script.open(total_steps=4, facts={"settings": {"peft": {"r": 8}}}).json()
    address = f"/runs/{run['run_id']}"
    assert "The curves start at the first step." in empty.get(address).text
    steps = [{"step": n, "loss": 1 / n} for n in range(1, 4)]
    script.report(run, 1, steps=steps, evaluations=[{"step": 3, "items": 8, "score": 0.5}], message="<b>begun</b>")
    text = empty.get(address).text
    assert "step 3 of 4" in plain(text)
    assert "&lt;b&gt;begun&lt;/b&gt;" in text
    assert "peft.r" in text
    assert empty.get(f"{address}/charts/loss.svg").status_code == 200
    empty.post(f"{address}/cancel")
    assert "The script learns of it with its next report" in empty.get(address).text
    script.end(run, None, outcome="failed", message="CUDA error")
    assert "CUDA error" in empty.get(address).text
