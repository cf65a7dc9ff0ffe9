"""The confusion matrix of a run: its finding, its cells and its numbers."""

import pytest

from app.domain.runs.confusion import Confusion
from app.web.figures.drawing.heat import Heat
from app.web.figures.drawing.theme import MarkStyle
from app.web.figures.figure import Figure
from app.web.figures.runs.confusion import MOST_LABELS, confusion_matrix

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
    assert [*table.rows] == [
        ("bad", 3, 2, 1 / 3, 0.5),
        ("good", 1, 3, 1.0, 1 / 3),
        ("so-so", 1, 0, 0.0, None),
    ]
    assert [row[0] for row in table.shown] == LABELS


def test_of_many_labels_the_most_frequent_are_drawn_and_all_are_in_the_files() -> None:
    labels = [label for label in range(30) for _ in range(60 - label)]
    many = figure(labels, labels, [f"label {i}" for i in range(30)])
    heat = many.data
    assert isinstance(heat, Heat)
    assert len(heat.rows) == MOST_LABELS + 1 and heat.rows[-1] == "others"
    assert sum(int(cell.text) for cell in heat.cells) == len(labels)
    assert len([*many.numbers.rows]) == 30
