"""The page on which results are brought in, without JavaScript; and the page of a result."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

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
