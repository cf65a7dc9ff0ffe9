"""The pages of data without JavaScript: add, read, map, look, delete, and what each refuses."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.broker.queue import PREPARE, READ
from app.domain.data.findings import Details, Finding
from app.domain.models.base_model import SAMPLE_MODEL
from app.main import create_app
from app.settings import Settings
from app.store.data import queries as datasets
from app.store.models import queries as base_models
from app.store.tables import EstimateRow
from tests.support.fakes.fakes import SilentBell
from tests.support.filled import estimates as filled_estimates
from tests.support.ingested import context
from tests.support.rows.factories import plain
from tests.support.servers.forms import form_headers
from tests.unit.web.conftest import database_of
from worker.ingest import tasks

CSV = b"review,stars\n" + b"".join(b"good thing %d,1\nbad thing %d,0\n" % (i, i) for i in range(60))
MAPPED = {
    "name": "reviews",
    "mapping.format": "labelled",
    "mapping.columns.text": "review",
    "mapping.columns.label": "stars",
    "splitting.by": "random",
    "splitting.validation": "0.1",
    "splitting.test": "0,2",
    "splitting.seed": "0",
    "splitting.duplicates": "keep",
}


class Worker(SilentBell):
    """A bell that is heard at once."""

    here: Any = None

    def ring(self, task: str, *args: Any) -> bool:
        """Read or prepare at once, before the request continues."""
        {READ: tasks.read, PREPARE: tasks.prepare}.get(task, lambda *_: None)(self.here, *args)
        return super().ring(task, *args)


@pytest.fixture
def data(tmp_path: Path, filled_file: Path) -> Iterator[TestClient]:
    """A client of a filled application, whose worker reads and prepares at once; it takes a megabyte."""
    settings = Settings(home=tmp_path, allowed_hosts=["testserver"], upload_bytes=1 << 20)
    shutil.copy(filled_file, tmp_path / "vezna.sqlite")
    app = create_app(settings)
    bell = Worker()
    bell.here = context(settings, app.state.database, app.state.files)
    app.state.doorbell = bell
    yield TestClient(app, headers=form_headers(app), follow_redirects=False)
    app.state.database.dispose()


def upload(client: TestClient, *files: tuple[str, bytes], **fields: str) -> Any:
    """Files by the form."""
    return client.post("/data/files", files=[("file", file) for file in files] or {"file": ("", b"")}, data=fields)


def made(client: TestClient, **change: str) -> str:
    """The address of a dataset that was made by the forms."""
    at = upload(client, ("reviews.csv", CSV)).headers["location"]
    answer = client.post(at, data=MAPPED | change)
    assert answer.status_code == 303, plain(answer.text)
    return str(answer.headers["location"])


def test_files_are_read_and_their_mapping_is_guessed(data: TestClient) -> None:
    answer = upload(data, ("reviews.csv", CSV.replace(b"review,stars", b"text,label")))
    assert answer.status_code == 303
    text = data.get(answer.headers["location"]).text
    said = plain(text)
    assert "Assigned by the names of the columns: text, label." in said
    assert "CSV, utf-8, comma-separated, with header" in said
    assert 'name="name" value="reviews"' in re.sub(r"\s+", " ", text)
    assert re.search(r'<option value="text" selected>', text)
    assert "good thing 0" in said


def test_the_mapping_makes_a_dataset_with_a_page_of_its_own(data: TestClient) -> None:
    at = made(data, **{"label-value.1": "1", "label-name.1": "good", "label-value.2": "0", "label-name.2": ""})
    assert at == "/data/reviews%401"
    text = plain(data.get(at).text)
    assert "84 rows" in text
    assert "column review" in text
    assert "10 % validation, 20 % test, seed 0" in text
    assert "The 2 labels are about equally common" in text
    with database_of(data).reading() as session:
        row = datasets.by_name(session, "reviews")
        assert row is not None
        assert row.facts.labels == ["0", "good"]


def test_of_many_labels_the_form_names_the_commonest_and_the_others_keep_their_names(data: TestClient) -> None:
    rows = [f"text {i} {copy},label {i:02}" for i in range(60) for copy in range(20 - i // 6)]
    at = upload(data, ("many.csv", "\n".join(["text,label", *rows]).encode())).headers["location"]
    assert "10 more values keep their names" in plain(data.get(at).text)
    mapping = {"format": "labelled", "columns": {"text": "text", "label": "label"}}
    named = {"label 00": "first", "label 59": "last"}
    wanted = {"name": "many", "upload_id": int(at.rpartition("/")[2]), "mapping": mapping | {"label_names": named}}
    assert data.post("/api/v1/datasets", json=wanted).status_code == 202
    typed = {"name": "again", "label-value.1": "label 00", "label-name.1": "the first"}
    columns = {"mapping.columns.text": "text", "mapping.columns.label": "label"}
    assert data.post(at, data=MAPPED | columns | typed).status_code == 303
    with database_of(data).reading() as session:
        rows_made = [datasets.by_name(session, name) for name in ("many", "again")]
        found = [row.facts.labels for row in rows_made if row]
    assert [(labels[0], labels[-1], len(labels)) for labels in found] == [
        ("first", "last", 60), ("label 01", "the first", 60)
    ]  # fmt: skip
    assert "last" in found[1] and "label 59" not in found[1]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "../up"}, "name"),
        ({"mapping.format": ""}, "mapping-format"),
        ({"mapping.columns.label": "review"}, "mapping-columns-label"),
        ({"splitting.test": "half"}, "splitting-test"),
    ],
)
def test_a_wrong_mapping_is_said_at_its_field(data: TestClient, change: dict[str, str], field: str) -> None:
    at = upload(data, ("reviews.csv", CSV)).headers["location"]
    answer = data.post(at, data=MAPPED | change)
    assert answer.status_code == 422
    assert f'href="#{field}"' in answer.text
    assert f'id="{field}-error-1"' in answer.text
    assert "reviews@1" not in data.get("/data").text


def test_the_form_follows_what_is_chosen_in_it(data: TestClient) -> None:
    at = upload(data, ("reviews.csv", CSV)).headers["location"]
    text = data.post(at, data=MAPPED | {"mapping.format": "prompt-completion", "do": "show"}).text
    assert 'name="mapping.columns.completion"' in text
    assert 'name="mapping.columns.label"' not in text
    sent = {name: value for name, value in MAPPED.items() if name != "splitting.test"}  # it was not shown
    back = data.post(at, data=sent | {"do": "show"}).text
    assert re.search(r'name="splitting.test"\s+value="0.1"', back)


def test_splits_of_the_source_are_offered_and_may_be_changed(data: TestClient) -> None:
    other = CSV.replace(b"thing", b"item")
    at = upload(data, ("a-train.csv", CSV), ("a-test.csv", other)).headers["location"]
    text = data.get(at).text
    assert 'value="predefined" selected' in text
    assert 'name="splitting.validation"' in text
    assert 'name="splitting.test"' not in text
    swapped = {"split-value.1": "test", "split-as.1": "train", "split-value.2": "train", "split-as.2": ""}
    answer = data.post(at, data=MAPPED | {"splitting.by": "predefined"} | swapped)
    assert answer.status_code == 303
    assert "84 rows" in plain(data.get(answer.headers["location"]).text)
    nothing = data.post(at, data=MAPPED | {"splitting.by": "predefined"} | swapped | {"split-as.1": ""})
    assert nothing.status_code == 422
    assert 'href="#splitting-names"' in nothing.text


@pytest.mark.parametrize(
    ("files", "fields", "says"),
    [
        ((), {}, 'href="#file"'),
        ((("a.csv", b""),), {}, "a.csv is empty"),
        ((("a.csv", b"x" * (2 << 20)),), {}, "1 MiB"),
        ((("a.csv", CSV),), {"encoding": "utf-99"}, "utf-99"),
    ],
)
def test_files_that_cannot_be_taken_are_refused_at_the_form(
    data: TestClient, files: tuple[tuple[str, bytes], ...], fields: dict[str, str], says: str
) -> None:
    answer = upload(data, *files, **fields)
    assert answer.status_code == 422
    assert says in answer.text
    assert 'id="errors"' in answer.text
    assert "/data/uploads/" not in answer.text


def test_a_file_that_cannot_be_read_says_why_and_can_be_read_otherwise(data: TestClient) -> None:
    at = upload(data, ("a<b>.csv", b"text,label\na,b\nc\n")).headers["location"]
    text = data.get(at).text
    assert "has 1 of the 2 fields" in plain(text)
    assert "<b>" not in text
    again = data.post(f"{at}/read", data={"delimiter": ";", "encoding": "", "header": "false"})
    assert (again.status_code, again.headers["location"]) == (303, at)
    assert "contains no semicolon, but contains a comma. Read it with that delimiter" in plain(data.get(at).text)
    bad = data.post(f"{at}/read", data={"encoding": "klingon"})
    assert (bad.status_code, 'id="encoding-error-1"' in bad.text) == (422, True)
    assert f'href="{at}/delete"' in data.get(at).text
    assert 'id="delete"' in data.get(f"{at}/delete").text
    assert data.post(f"{at}/delete").headers["location"] == "/data"
    assert data.get(at).status_code == 404


@pytest.mark.parametrize("location", ["", "../x", "a b"])
def test_a_source_that_is_none_is_refused_at_its_field(data: TestClient, location: str) -> None:
    answer = data.post("/data/sources", data={"location": location})
    assert answer.status_code == 422
    assert 'id="location-error-1"' in answer.text


def test_what_blocks_is_said_with_a_way_back(data: TestClient) -> None:
    at = upload(data, ("few.csv", b"text,label\na,x\nb,y\n")).headers["location"]
    answer = data.post(at, data=MAPPED | {"mapping.columns.text": "text", "mapping.columns.label": "label"})
    text = data.get(answer.headers["location"]).text
    assert 'data-code="too-few-rows"' in text
    assert 'data-state="failed"><svg aria-hidden="true">' in text.split('data-code="too-few-rows"')[1]
    assert f'href="{at}"' in text


def test_a_version_is_deleted_unless_it_is_used(data: TestClient) -> None:
    at = made(data)
    assert f'href="{at}/delete"' in data.get(at).text
    assert 'id="delete"' in data.get(f"{at}/delete").text
    assert data.post(f"{at}/delete").headers["location"] == "/data"
    assert data.get(at).status_code == 404
    refused = data.get("/data/bbc-headlines@1/delete").text
    assert "bbc-headlines@1 is in use" in refused.split('id="refused"')[1]
    assert 'id="delete"' not in refused
    assert data.post("/data/bbc-headlines@1/delete").status_code == 409


def test_rows_are_shown_as_the_model_sees_them(data: TestClient) -> None:
    at = made(data)
    waiting = data.get(at).text
    assert 'hx-trigger="every 2s"' in waiting
    assert filled_estimates.answer_requests(database_of(data)) == 1
    text = data.get(at).text
    assert "<b>[CLS]</b><span>good</span><span> thing</span><span> 1</span><b>[SEP]</b>" in text
    assert "the loss is on the label" in text
    said = plain(text)
    assert "5 tokens beyond max_length are cut" in said
    assert "max_length 128 truncates 6.2 % of the rows; the longest has 205 tokens" in said
    csv = data.get(f"{at}/charts/lengths.csv?max_length=128").text
    assert csv.splitlines() == ["split,tokens,rows", "train,5,70", "train,60,20", "train,205,6"]
    for name in ("labels", "lengths"):
        assert data.get(f"{at}/charts/{name}.svg").text.startswith("<svg")
        assert data.get(f"{at}/charts/{name}.png?theme=dark").content[:4] == b"\x89PNG"


def test_tokens_in_the_loss_are_marked_counted_and_warned_of(data: TestClient) -> None:
    found = Finding(code="empty-thought-learnt", severity="warns", count=2, details=Details(of_rows=96))
    at = made(data)
    data.get(at)
    filled_estimates.answer_requests(database_of(data))
    with database_of(data).transaction() as session:
        row = session.scalars(select(EstimateRow).where(EstimateRow.kind == "preview")).one()
        seen = filled_estimates.preview(learnt=True).model_copy(update={"findings": [found]})
        row.result_json = seen.model_dump(mode="json")
    text = data.get(at).text
    learnt = text.split("<mark>")[2].split("</mark>")[0]
    assert learnt == '<i class="hidden">in the loss:</i><span> thing</span><span> 1</span>'
    assert "133 tokens, 2 in the loss" in plain(text)
    warned = plain(text.split('data-code="empty-thought-learnt"')[1])
    assert "Empty reasoning in the loss" in warned
    assert "2 of 96 rows have an empty &lt;think&gt;&lt;/think&gt; in the loss" in warned
    query = {"model": SAMPLE_MODEL, "max_length": row.request_json["max_length"]}
    answer = data.get("/api/v1/datasets/reviews/preview", params=query).json()
    kept = data.get(f"/api/v1/estimates/{answer['estimate_id']}", headers={"Accept-Language": "bg"}).json()
    for preview, sentence in ((answer["preview"], "2 of 96"), (kept["preview"], "В 2 от 96")):
        [one] = preview["findings"]
        assert (one["code"], one["count"], one["details"]) == ("empty-thought-learnt", 2, {"of_rows": 96})
        assert one["message"].replace("\N{NO-BREAK SPACE}", " ").startswith(sentence)
        assert one["remedy"]


def test_a_preview_reads_the_commit_that_was_inspected(data: TestClient) -> None:
    commit = "c" * 40
    with database_of(data).transaction() as session:
        model = base_models.by_name(session, SAMPLE_MODEL)
        assert model is not None
        model.source, model.location, model.revision = "hub", "org/model", "main"
        model.facts_json = {**(model.facts_json or {}), "revision": commit}
    data.get("/data/bbc-headlines")
    with database_of(data).reading() as session:
        request = session.scalars(select(EstimateRow).where(EstimateRow.kind == "preview")).one().request_json
    assert (request["revision"], request["fingerprint"]) == (commit, commit)


@pytest.mark.parametrize("length", ["0", "1", "many", "1.5", "999999999"])
def test_a_length_that_is_none_is_said_at_its_field(data: TestClient, length: str) -> None:
    answer = data.get("/data/bbc-headlines", params={"max_length": length})
    assert answer.status_code == 422
    assert "Write a whole number from 2 to" in answer.text
    assert 'id="max_length-error-1"' in answer.text


@pytest.mark.parametrize(
    "path", ["/data/none", "/data/bbc-headlines@9", "/data/uploads/99", "/data/x/charts/labels.svg"]
)
def test_what_is_not_there_is_not_found(data: TestClient, path: str) -> None:
    assert data.get(path).status_code == 404


def test_a_new_study_begins_on_the_data_or_on_an_older_version_of_it(data: TestClient) -> None:
    old = made(data)
    at = upload(data, ("more.csv", CSV + b"one more,1\n")).headers["location"]
    new = data.post(at, data=MAPPED).headers["location"]
    assert new == "/data/reviews%402"
    assert 'href="/studies/new?dataset=reviews"' in data.get(new).text
    assert 'href="/studies/new?dataset=reviews%401"' in data.get(old).text
    newest = re.sub(r"\s+", " ", data.get("/studies/new?dataset=reviews").text)
    assert 'value="reviews" checked' in newest
    assert 'value="reviews@1"' not in newest
    older = re.sub(r"\s+", " ", data.get("/studies/new?dataset=reviews%401").text)
    assert 'value="reviews@1" checked' in older
    assert "reviews, version 1" in older


def test_a_column_whose_name_has_spaces_around_it_can_be_chosen(data: TestClient) -> None:
    rows = b"".join(b'{" review ": "thing %d", "stars": %d}\n' % (i, i % 2) for i in range(60))
    at = upload(data, ("odd.jsonl", rows)).headers["location"]
    assert 'value=" review "' in data.get(at).text
    answer = data.post(at, data=MAPPED | {"mapping.columns.text": " review "})
    assert answer.status_code == 303


def test_columns_of_words_and_tags_are_chosen_by_any_name_and_numbers_of_tags_get_names(data: TestClient) -> None:
    rows = b"".join(b'{"pieces": ["Ada", "slept", "w%d"], "marks": [1, 0, 0]}\n' % i for i in range(60))
    at = upload(data, ("tagged.jsonl", rows)).headers["location"]
    columns = {"mapping.format": "tagged", "mapping.columns.tokens": "pieces", "mapping.columns.tags": "marks"}
    shown = data.post(at, data=MAPPED | columns | {"do": "show"})
    assert 'name="mapping.label_names"' in shown.text and "Tag names" in shown.text
    answer = data.post(at, data=MAPPED | columns | {"name": "tagged", "mapping.label_names": "O, B-PER"})
    assert answer.status_code == 303, plain(answer.text)
    with database_of(data).reading() as session:
        row = datasets.by_name(session, "tagged")
        assert row is not None and sorted(row.facts.labels) == ["B-PER", "O"]
    assert 'value="O, B-PER"' in data.get(at).text
