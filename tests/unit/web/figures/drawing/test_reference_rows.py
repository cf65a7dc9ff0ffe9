"""Baselines as lines in figures: which are drawn, where, and what stands beside them."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from sqlalchemy.orm import Session

from app.settings import Settings
from app.web.figures.drawing.reference_rows import references_near
from app.web.figures.drawing.references import DASHES, Reference, near
from app.web.figures.figure import Figure
from app.web.figures.studies.study import StudyData, study_figure
from app.web.figures.studies.view import USUAL
from app.words.data.baselines import above_baseline_text, baseline_remarks
from tests.support.filled import filled
from tests.support.rows.factories import empty_database, plain, seed_study


@pytest.fixture
def data() -> Iterator[StudyData]:
    """A study that learned, with the most frequent label at 23.1 % and TF-IDF at 78.5 %."""
    with empty_database() as session:
        yield _study(session)


def _study(session: Session) -> StudyData:
    number = seed_study(session)
    filled.add_baselines(session, filled.three_arms())
    session.flush()
    return StudyData(session, Settings(), number)


def drawn(figure: Figure) -> str:
    return json.dumps([figure.chart(narrow=narrow).to_dict() for narrow in (False, True)])


def test_lines_near_an_axis_are_drawn_and_far_ones_are_left_out() -> None:
    lines = [Reference(name, value, DASHES[0]) for name, value in (("far", 23.0), ("below", 75.0), ("in", 85.0))]
    assert [line.name for line in near(lines, 80, 90)] == ["in", "below"]


def test_scores_show_every_baseline_with_the_dash_of_its_place(data: StudyData) -> None:
    figure = study_figure(data, USUAL, "scores")
    text = drawn(figure)
    assert "most frequent label 23.1" in text and "TF-IDF 78.5" in text and "frozen embeddings" not in text
    assert json.dumps(list(DASHES[0])) in text and json.dumps(list(DASHES[1])) in text
    assert figure.title == "Every arm is above every baseline"
    assert [row[0] for row in figure.table.rows][-2:] == ["most frequent label", "TF-IDF"]


def test_differences_show_the_baselines_near_them_and_name_those_beyond_the_axis(data: StudyData) -> None:
    figure = study_figure(data, USUAL, "verdict")
    text = drawn(figure)
    assert "TF-IDF \\u221211.0" in text and "most frequent label" not in text
    assert json.dumps(list(DASHES[1])) in text
    assert plain(figure.note).endswith("Beyond the axis, points from full: most frequent label −66.4.")
    rows = {row[0]: row for row in figure.table.rows}
    reference = data.comparison.baselines[1].difference
    assert reference and rows["TF-IDF"][1:4] == (reference.mean, reference.low, reference.high)


def test_an_arm_is_compared_with_the_best_baseline(data: StudyData) -> None:
    study = data.comparison
    for arm in study.arms:
        assert arm.above_baseline and arm.score and study.baselines[1].score
        assert arm.above_baseline.mean == pytest.approx(arm.score.mean - study.baselines[1].score.mean)
    gate = study.baselines[1].difference
    assert gate and study.reference.above_baseline
    assert study.reference.above_baseline.low == pytest.approx(-gate.high), "the interval of the gate"
    assert plain(above_baseline_text(study, study.arms[0])) == "+11.0 ± 2.3 vs. TF\N{NON-BREAKING HYPHEN}IDF"
    assert next(baseline_remarks(study)).startswith("Below a score: its difference from the best baseline (TF-IDF)")


def test_the_trade_off_has_lines_only_over_scores_and_only_near_them(data: StudyData) -> None:
    figure = study_figure(data, USUAL, "trade-off")
    assert "TF-IDF 78.5" in drawn(figure) and "most frequent label" not in drawn(figure)
    assert "baselines, on the test items" in figure.note
    other = study_figure(data, USUAL.model_copy(update={"y": "time"}), "trade-off")
    assert "TF-IDF" not in drawn(other) and "baselines" not in other.note


def test_curves_have_lines_beside_the_metric_on_validation_and_not_beside_a_loss(data: StudyData) -> None:
    validation = study_figure(data, USUAL.model_copy(update={"curve": "validation"}), "curves")
    assert "TF-IDF 78.5" in drawn(validation) and "baselines, on the test items" in validation.note
    loss = study_figure(data, USUAL.model_copy(update={"curve": "loss"}), "curves")
    assert "TF-IDF" not in drawn(loss)


def test_a_flat_curve_still_has_room_for_a_line(data: StudyData) -> None:
    flat = [np.full(3, 0.80)]
    assert [line.name for line in references_near(data.comparison, flat)] == ["TF-IDF"]
    assert references_near(data.comparison, [np.full(3, np.nan)]) == ()
