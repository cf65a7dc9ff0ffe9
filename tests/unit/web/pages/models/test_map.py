"""A model's map: what fits where, with a takeaway for each method; and the question in the address."""

import csv
import html
import io
import json
import re
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.datastructures import QueryParams

from app.domain.models.base_model import SAMPLE_MODEL
from app.domain.resources.memory_map import MapReport, MapSpec
from app.services.resources import memory_maps
from app.settings import Settings
from app.store.tables import EstimateRow, WorkerRow
from app.web.figures.drawing import render
from app.web.figures.drawing.heat import Heat
from app.web.figures.resources.memory_map import map_figures
from app.web.pages.models.map_form import MapForm
from tests.support.filled import estimates as filled_estimates
from tests.support.filled.filled import model_facts
from tests.support.rows.factories import plain
from tests.unit.web.conftest import database_of

MAP = f"/models/{SAMPLE_MODEL}/map"


@pytest.fixture
def small(registered_only: TestClient) -> TestClient:
    """The sample model, and one worker with room for LoRA and some batches."""
    with database_of(registered_only).transaction() as session:
        session.add(WorkerRow(name="cpu-1", device="cpu", device_name="x86", memory_bytes=1150 * 2**20, cores=2))
    return registered_only


def settled(client: TestClient, **query: Any) -> str:
    """The page once its map has been worked out, as one reads it."""
    client.get(MAP, params=query)
    filled_estimates.answer_requests(database_of(client))
    return plain(html.unescape(client.get(MAP, params=query).text))


def report(client: TestClient, **question: Any) -> MapReport:
    """What the page shows."""
    asked = MapSpec(base_model=SAMPLE_MODEL, **question)
    with database_of(client).reading() as session:
        return memory_maps.map_report(session, None, Settings(), asked)


def test_a_map_is_worked_out_before_ones_eyes(small: TestClient) -> None:
    text = small.get(MAP).text
    assert "Map in progress" in text
    assert f'hx-get="{MAP}?task=sequence-classification' in text
    done = settled(small)
    assert 'id="map"' in done
    assert f'hx-get="{MAP}' not in done


def test_each_method_has_a_figure_with_a_takeaway_numbers_and_files(small: TestClient) -> None:
    text = settled(small)
    titles = re.findall(r"<figcaption>(.*)</figcaption>", text)
    assert len(titles) == 2
    assert re.fullmatch(r"Full does not fit cpu-1 in float32: batch size 1 at 64 tokens needs 3\d\d MiB", titles[0])
    assert re.fullmatch(
        r"LoRA r=8 fits up to batch size \d+ at 512 tokens on cpu-1 in float32; it saves .* of the memory of full",
        titles[1],
    )
    for ending in ("csv", "svg", "png"):
        [address] = re.findall(rf'href="({MAP}/lora\.{ending}\?[^"]*)"', text)
        answer = small.get(address)
        assert answer.status_code == 200
        assert answer.content
    rows = list(csv.DictReader(io.StringIO(small.get(f"{MAP}/lora.csv").text)))
    assert len(rows) == 4 * 7
    assert {row["fit"] for row in rows} >= {"fits", "does_not_fit"}
    assert all(float(row["low_bytes"]) < float(row["peak_bytes"]) < float(row["high_bytes"]) for row in rows)


def test_the_question_stands_in_the_address_in_the_words_of_the_api(small: TestClient) -> None:
    text = settled(small, lengths="32, 64", batch_sizes=["2", "4"], methods=["lora", "bitfit"], device="T4")
    assert 'value="32, 64"' in text
    assert "Memory map on T4, 16.0 GiB, in float32" in text
    assert re.search(r'value="bitfit" checked', text)
    address = "device=T4&methods=lora&methods=bitfit&lengths=32&lengths=64&batch_sizes=2&batch_sizes=4"
    assert address in text
    answer = small.get(f"/api/v1{MAP}?task=sequence-classification&{address}")
    assert len(answer.json()["cells"]) == 8


@pytest.mark.slow
def test_the_number_format_is_chosen_in_the_address_and_said_wherever_the_numbers_are(small: TestClient) -> None:
    peaks = {}
    for bf16, name, precision in (("", "bfloat16", "bf16"), ("true", "bfloat16", "bf16"), ("false", "float32", "fp32")):
        text = settled(small, device="H200", bf16=bf16)
        assert f"Memory map on H200, 141.0 GiB, in {name}" in text
        assert f'<option value="{bf16}" selected>' in text
        assert f"LoRA r=8 fits H200 in {name} throughout" in text
        assert f"Estimated peak memory of LoRA r=8 in {name} by length and batch size" in text
        [address] = set(re.findall(rf'href="({MAP}/lora\.csv\?[^"]*)"', text))
        assert (f"bf16={bf16}" in address) is bool(bf16)
        rows = list(csv.DictReader(io.StringIO(small.get(address).text)))
        assert {row["precision"] for row in rows} == {precision}
        peaks[bf16] = [float(row["peak_bytes"]) for row in rows]
        answer = small.get(f"/api/v1{MAP}", params={"device": "H200"} | ({"bf16": bf16} if bf16 else {})).json()
        assert answer["bf16"] is (precision == "bf16")
    assert peaks[""] == peaks["true"]
    assert all(half < whole for half, whole in zip(peaks["true"], peaks["false"], strict=True))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"lengths": "1024"}, "has 512 positions, so it cannot read 1024 tokens"),
        ({"methods": ["nope"]}, "There is no method 'nope'"),
        ({"device": "moon"}, "There is no live worker and no known GPU 'moon'"),
        ({"bf16": "half"}, "'half' is not a precision. Choose from: true (bfloat16), false (float32)."),
    ],
)
def test_what_cannot_be_asked_is_said_and_what_was_typed_stays(small: TestClient, query: Any, words: str) -> None:
    answer = small.get(MAP, params=query)
    assert answer.status_code == 422
    assert words in html.unescape(answer.text)
    assert "Correct these fields" in answer.text


def test_a_model_that_is_not_inspected_has_no_map_yet(small: TestClient) -> None:
    answer = small.get("/models/distilbert-base/map")
    assert (answer.status_code, answer.headers["location"]) == (303, "/models/distilbert-base")
    assert small.get("/models/nothing/map").status_code == 404


def test_a_map_that_failed_says_why(small: TestClient) -> None:
    small.get(MAP)
    with database_of(small).transaction() as session:
        row = session.query(EstimateRow).one()
        row.status, row.message, row.started_at = "failed", "the model needs code of its own", row.created_at
    text = small.get(MAP).text
    assert "The map failed" in text
    assert "the model needs code of its own" in text


def test_the_usual_lengths_are_those_that_the_model_can_read() -> None:
    assert MapForm.of(model_facts(), QueryParams()).lengths == "64, 128, 256, 512"
    short = model_facts().model_copy(update={"max_positions": 32})
    assert MapForm.of(short, QueryParams()).lengths == "32"


def test_the_line_is_drawn_along_what_fits_and_the_drawing_is_valid(small: TestClient) -> None:
    settled(small)
    found = report(small, lengths=(64, 128, 256, 512))
    figure = map_figures(found)["lora"]
    boundaries = {b.length: b.rows for b in found.boundaries if b.method == 1}
    sizes = found.batch_sizes
    assert isinstance(figure.data, Heat)
    assert figure.data.rows == tuple(map(str, reversed(sizes)))
    assert figure.data.boundary == tuple(
        sum(size > (boundaries[length] or 0) for size in sizes) for length in found.lengths
    )
    for narrow in (False, True):
        drawn = figure.chart(narrow=narrow).configure(**render.CONFIG).to_dict(validate=True)
        assert "NaN" not in json.dumps(drawn, allow_nan=False)


def test_the_page_of_the_model_says_what_each_method_takes_once_its_map_is_there(small: TestClient) -> None:
    page = f"/models/{SAMPLE_MODEL}"
    before = plain(html.unescape(small.get(page).text))
    [address] = re.findall(rf'href="({MAP}\?[^"]*)">Estimate it', before)
    assert "Peak memory</th>" not in before
    small.get(address)
    filled_estimates.answer_requests(database_of(small))
    after = plain(html.unescape(small.get(page).text))
    assert "Peak memory is estimated for 16 rows of 128 tokens on cpu-1" in after
    shown = re.findall(r'<td class="num" data-label="Peak memory">(.*?)</td>', after, re.DOTALL)
    told = [
        (float(size), fit)
        for cell in shown
        for size, fit in re.findall(r"(?s)([\d.]+).MiB.*<span>([^<]+)</span>", cell)
    ]
    cells = small.get(f"/api/v1{address}").json()["cells"]
    expected = [(round(cell["peak"]["value"] / 2**20), cell["fit"].replace("_", " ")) for cell in cells]
    assert sorted(told) == sorted(expected)
    assert {fit for _size, fit in told} == {"fits", "does not fit"}
