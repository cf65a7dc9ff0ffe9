"""Figures of a run: its confusion matrix and its weight delta."""

import csv
import html
import io
import json

import pytest
from fastapi.testclient import TestClient

from app.domain.models.weight_delta import UNCHANGED
from app.domain.runs.confusion import Confusion
from app.settings import Settings
from app.store.runs import weight_deltas
from app.web.figures.drawing import render
from app.web.figures.drawing.heat import Heat
from app.web.figures.drawing.theme import MarkStyle
from app.web.figures.figure import Figure
from app.web.figures.runs.confusion import MOST_LABELS, confusion_matrix
from app.web.figures.studies.study import StudyData, study_figure
from app.web.figures.studies.view import ViewParams
from app.words.runs import weight_delta as words
from tests.support.rows.factories import plain
from tests.unit.web.conftest import database_of

STYLE = MarkStyle("", "full")
LABELS = ["bad", "good", "so-so"]


def figure(labels: list[int], predicted: list[int], names: list[str] = LABELS) -> Figure:
    return confusion_matrix(Confusion.of(labels, predicted), names, STYLE)


def test_a_row_is_shaded_by_its_shares() -> None:
    heat = figure([0, 0, 0, 1], [0, 0, 1, 1]).data
    assert isinstance(heat, Heat)
    opacities = {(cell.row, cell.column): cell.opacity for cell in heat.cells}
    assert opacities[0, 0] == pytest.approx(2 * opacities[0, 1])
    assert opacities[1, 1] == pytest.approx(0.42)


def test_only_the_errors_of_pale_cells_are_muted() -> None:
    heat = figure([0, 0, 0, 1], [0, 0, 1, 0]).data
    assert isinstance(heat, Heat)
    assert {(cell.row, cell.column): cell.muted for cell in heat.cells} == {
        (0, 0): False, (0, 1): True, (1, 0): False,
    }  # fmt: skip


def test_recall_and_precision_and_a_label_never_predicted() -> None:
    table = figure([0, 0, 0, 1, 2], [0, 1, 1, 1, 0]).table
    assert [*table.rows] == [("bad", 3, 2, 1 / 3, 0.5), ("good", 1, 3, 1.0, 1 / 3), ("so-so", 1, 0, 0.0, None)]
    assert [row[0] for row in table.shown] == LABELS


def test_of_many_labels_the_most_frequent_are_drawn_and_all_are_in_the_files() -> None:
    labels = [label for label in range(30) for _ in range(60 - label)]
    many = figure(labels, labels, [f"label {i}" for i in range(30)])
    heat = many.data
    assert isinstance(heat, Heat)
    assert len(heat.rows) == MOST_LABELS + 1 and heat.rows[-1] == "others"
    assert sum(int(cell.text) for cell in heat.cells) == len(labels)
    assert len([*many.numbers.rows]) == 30


FULL, LORA, PROBE = 1, 2, 3
"""Runs of the first study with seed 0."""


def shown(client: TestClient, address: str) -> str:
    """The section of a page as one reads it."""
    page = plain(html.unescape(client.get(address).text))
    return page.split('id="weights"' if "/studies/" in address else 'id="weight-delta"')[1].split("</section>")[0]


def table(client: TestClient, address: str) -> list[dict[str, str]]:
    """A CSV file's rows."""
    return list(csv.DictReader(io.StringIO(client.get(address).text)))


def test_its_curves_are_of_one_seed_and_end_at_the_whole(full: TestClient) -> None:
    rows = table(full, "/studies/1/charts/weight-delta.csv")
    assert {row["of"] for row in rows} == {"full", "LoRA r=8", "W"}
    for name, last in (("full", 384), ("LoRA r=8", 384), ("W", 384)):
        curve = [row for row in rows if row["of"] == name]
        means = [float(row["energy_median"]) for row in curve]
        assert means == sorted(means)
        assert (int(curve[-1]["rank"]), means[-1]) == (last if name != "LoRA r=8" else 8, pytest.approx(1))
        for mean, row in zip(means, curve, strict=True):
            assert float(row["energy_low"]) - 1e-9 <= mean <= float(row["energy_high"]) + 1e-9
    assert "seed 0. Bands: 10th to 90th percentile." in shown(full, "/studies/1/weights")


def test_its_drawings_are_whole_at_both_widths(full: TestClient) -> None:
    with database_of(full).reading() as session:
        data = StudyData(session, Settings(), 1)
        views = [ViewParams(matrices=measure) for measure in words.MEASURES]
        figures = [study_figure(data, view, name) for view in views for name in ("weight-delta", "matrices")]
    for figure in figures:
        for narrow in (False, True):
            drawn = figure.chart(narrow=narrow).configure(**render.CONFIG).to_dict(validate=True)
            assert "NaN" not in json.dumps(drawn, allow_nan=False)


def test_its_file_has_every_matrix_of_every_arm_with_every_number(full: TestClient) -> None:
    rows = table(full, "/studies/1/charts/matrices.csv?matrices=intruders")
    assert len(rows) == 34 + 12
    with database_of(full).reading() as session:
        found = weight_deltas.of_runs(session, [FULL])[FULL].matrices
    for row, m in zip(rows, found, strict=False):
        assert (row["arm"], row["name"], int(row["rows"])) == ("full", m.name, m.rows)
        assert float(row["delta_effective_rank"]) == m.delta.effective_rank
        assert float(row["weight_energy_8"]) == m.weight.energy_at(8)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("matrices=colour", "matrices: there is no 'colour'; choose from effective-rank, rank-90"),
        ("matrices_arm=head+only", "matrices_arm: there is no 'head only'; choose from full, LoRA r=8"),
    ],
)
def test_what_there_is_not_is_refused_with_the_choices(full: TestClient, query: str, said: str) -> None:
    for address in (f"/studies/1/weights?{query}", f"/studies/1/charts/matrices.csv?{query}"):
        answer = full.get(address)
        assert answer.status_code == 422
        assert said in html.unescape(answer.text)


def test_a_run_that_has_not_ended_has_no_such_section(full: TestClient) -> None:
    assert 'id="weight-delta"' not in full.get("/runs/16").text


def test_the_api_gives_the_same_numbers_or_the_reason(full: TestClient) -> None:
    found = full.get(f"/api/v1/runs/{LORA}/weight-deltas").json()
    with database_of(full).reading() as session:
        stored = weight_deltas.of_runs(session, [LORA])[LORA]
    assert stored.summary is not None
    assert found["summary"] == stored.summary.model_dump()
    assert found["matrices"] == [m.model_dump() for m in stored.matrices]
    probe = full.get(f"/api/v1/runs/{PROBE}/weight-deltas").json()
    assert (probe["unchanged"], probe["reason"], probe["matrices"]) == ("head", UNCHANGED["head"], [])
    missing = full.get("/api/v1/runs/16/weight-deltas")
    assert missing.status_code == 404
    assert "Run 16 has no analysis of its weight updates" in missing.json()["detail"]
    assert full.get("/api/v1/runs/99999/weight-deltas").status_code == 404
