"""The figures of studies and runs: drawn from any state, checked against Vega-Lite's schema, without a hole in them."""

import json
from typing import Any

import altair as alt
import numpy as np
import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from app.settings import Settings
from app.web.figures.drawing import render
from app.web.figures.drawing.placement import LINE_HEIGHT, Box, beside
from app.web.figures.drawing.scales import Domain, Reach, Side
from app.web.figures.drawing.theme import FAMILIES, MarkStyle
from app.web.figures.figure import Figure, drawn
from app.web.figures.runs.run import RunData, run_figures
from app.web.figures.studies.study import FIGURES, Differences, Row, StudyData, study_figure
from app.web.figures.studies.study import chart as differences_chart
from app.web.figures.studies.view import USUAL
from tests.support.rows.factories import ARMS, FULL, STATES, plain, seed_study

SETTINGS = Settings()
NAMES = {
    "verdict",
    "scores",
    "trade-off",
    "curves",
    "memory",
    "time",
    "break-even",
    "weight-delta",
    "matrices",
    "tuning",
}
READS = {
    "verdict": {"comparison"},
    "scores": {"comparison"},
    "trade-off": {"comparison"},
    "curves": {"comparison", "steps", "validation"},
    "memory": {"comparison", "estimates"},
    "time": {"comparison", "estimates"},
    "weight-delta": {"comparison", "deltas"},
    "matrices": {"comparison", "deltas"},
    "break-even": {"comparison"},
    "tuning": {"comparison"},
}
"""What each figure of a study reads from the store."""


def figures(session: Session, **options: Any) -> dict[str, Figure]:
    """The figures of a study made for a test."""
    data = StudyData(session, SETTINGS, seed_study(session, **options))
    return {name: study_figure(data, USUAL, name) for name in FIGURES}


def specification(chart: alt.LayerChart) -> dict[str, Any]:
    """Vega-Lite, checked against its schema."""
    found: dict[str, Any] = chart.configure(**render.CONFIG).to_dict(validate=True)
    return found


@pytest.mark.by_day
@pytest.mark.parametrize("state", STATES)
def test_every_figure_is_there_in_every_state_and_draws_or_says_why_not(session: Session, state: str) -> None:
    found = figures(session, **STATES[state])
    assert set(found) == NAMES
    for figure in found.values():
        assert figure.title
        assert figure.label
        for narrow in (False, True) if not figure.empty else ():
            text = json.dumps(specification(figure.chart(narrow=narrow)), allow_nan=False)
            assert "NaN" not in text
        assert all(len(row) == len(figure.table.columns) for row in figure.table.shown)


def test_a_second_arm_of_a_family_is_hollow_and_a_third_half_filled() -> None:
    first, second, third = (MarkStyle(f"LoRA {n}", "lora", n).fields for n in range(3))
    assert first["fill"] == first["colour"] != second["fill"]
    assert second["shape"] == first["shape"] == FAMILIES["lora"].marker
    assert (third["shape"], third["fill"]) == (FAMILIES["lora"].half, third["colour"])
    assert len({tuple(MarkStyle("x", "lora", n).dash) for n in range(4)}) == 4


def test_the_csv_of_a_curve_holds_every_step(session: Session) -> None:
    loss = figures(session)["curves"]
    assert len(list(loss.numbers.rows)) == 9 * 246
    assert [c.name for c in loss.numbers.columns][:4] == ["arm", "seed", "run", "step"]


def test_a_run_has_its_figures_while_it_works_and_more_when_it_has_ended(session: Session) -> None:
    study = StudyData(session, SETTINGS, seed_study(session, running=[("full", 0)])).comparison
    working, ended = (
        {name: build() for name, build in run_figures(RunData(session, SETTINGS, run.run_id)).items()}
        for run in study.runs[:2]
    )
    assert set(working) == {"loss", "memory"}
    assert set(ended) == {"loss", "memory", "owners", "clocks", "confusion", "weight-delta", "matrices"}
    assert "now, step 153" in json.dumps(specification(working["loss"].chart()))
    assert plain(ended["clocks"].title) == "1 min 2 s, of which 54 s training"
    for figure in (*working.values(), *ended.values()):
        json.dumps(specification(figure.chart(narrow=True)), allow_nan=False)


def test_an_inline_drawing_has_one_label_the_pages_font_and_ids_of_its_own(session: Session) -> None:
    found = drawn(figures(session)["verdict"], "/studies/1/charts")
    for drawing in (found.wide, found.narrow):
        assert drawing.startswith("<svg")
        assert drawing.count("aria-label") == drawing.count('role="img"') == 1
        assert "font-family" not in drawing
        assert "var(--m-lora)" in drawing
        assert "NaN" not in drawing
    assert found.file("csv") == "/studies/1/charts/verdict.csv"


def test_an_arms_name_is_words_whatever_it_looks_like(session: Session) -> None:
    arms = [
        arm.model_copy(update={"name": n}) for arm, n in zip(ARMS[1:], ("var(--nope)", 'clip1 role=""'), strict=True)
    ]
    figure = figures(session, arms=(FULL, *arms))["verdict"]
    for drawing in (render.svg_file(figure.chart(), "dark"), drawn(figure, "/studies/1/charts").wide):
        assert ">var(--nope)</text>" in drawing
        assert '>clip1 role=""</text>' in drawing
    assert render.png(figure.chart(), "light").startswith(b"\x89PNG")


def test_a_drawing_of_the_same_numbers_is_made_once(session: Session) -> None:
    study_id = seed_study(session)
    first, second = (drawn(study_figure(StudyData(session, SETTINGS, study_id), USUAL, "time"), "") for _ in range(2))
    assert first.wide is second.wide


def test_the_oldest_drawing_goes_first() -> None:
    kept, made = render.Drawings(most_characters=2), []

    def draw(name: str) -> str:
        return kept.get(name, lambda: made.append(name) or name)  # type: ignore[func-returns-value]

    for name in ("a", "b", "a", "c", "a", "b"):
        draw(name)
    assert made == ["a", "b", "c", "b"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_file_carries_the_colours_of_its_theme(session: Session, theme: render.Theme) -> None:
    chart = figures(session)["verdict"].chart()
    text = render.svg_file(chart, theme)
    assert "var(--" not in text
    assert render.tokens()["m-lora"][theme] in text
    assert render.png(chart, theme).startswith(b"\x89PNG")


def test_a_token_that_the_stylesheet_lacks_is_an_error() -> None:
    with pytest.raises(KeyError):
        render.resolve('<path fill="var(--no-such-token)"/>', "light")


def test_a_hostile_name_stays_text() -> None:
    style = MarkStyle('<script>alert("x")</script>', "lora")
    data = Differences((Row(style, "worse", -1.0, -2.0, -0.5),), 1.0, "full")
    drawing = render.svg(differences_chart(data, 440), 'a "label" <b>', "verdict-wide")
    assert "<script>" not in drawing
    assert 'aria-label="a &quot;label&quot; &lt;b&gt;"' in drawing


def test_an_interval_without_an_end_stays_within_the_picture() -> None:
    data = Differences((Row(MarkStyle("one item", "lora"), "undecided", 0.0, -np.inf, np.inf),), 1.0, "full")
    json.dumps(specification(differences_chart(data, 440)), allow_nan=False)


def test_a_name_stands_where_nothing_else_is() -> None:
    wall = Box(0, 0, 200, 95)  # everything above the point is taken
    [place] = beside([(50, 100)], [[(60, 1)]], [wall], Box(0, 0, 200, 200))
    assert place is not None
    assert place.y - LINE_HEIGHT / 2 >= 95


def test_a_name_without_room_is_left_out_rather_than_printed_over_others() -> None:
    assert beside([(50, 50)], [[(60, 1)]], [Box(-500, -500, 500, 500)], Box(0, 0, 100, 100)) == [None]


@pytest.mark.parametrize(
    ("values", "side", "within"),
    [
        ([81.2, 89.5], Side("", higher=True, zero=False), (75, 95)),
        ([0.5, 0.5], Side("", higher=True, zero=False, span=6.0), (-5, 6)),
        ([], Side("", higher=True, zero=False), (-1, 2)),
        ([0.0, 1e9], Side("", higher=False, zero=True), (0, 1.2e9)),
        ([96.0, 99.0], Side("", higher=True, zero=False, least=0.0, most=100.5), (90, 100.5)),
    ],
)
def test_a_domain_holds_its_values(values: list[float], side: Side, within: tuple[float, float]) -> None:
    domain = Domain.of(side, [Reach(value, value, value) for value in values])
    assert within[0] <= domain.low < domain.high <= within[1]


def test_a_logarithmic_domain_places_values_by_their_ratio() -> None:
    domain = Domain.of(Side("", higher=False, zero=True, log=True), [Reach(1_925, 1_925, 22_715_141)])
    assert domain.low < 1_925 < 22_715_141 < domain.high
    assert domain.share((domain.low * domain.high) ** 0.5) == pytest.approx(0.5)


@pytest.mark.parametrize("name", READS)
def test_a_figure_reads_only_its_own_inputs(session: Session, name: str) -> None:
    data = StudyData(session, SETTINGS, seed_study(session))
    study_figure(data, USUAL, name)
    assert set(vars(data)) - {"session", "settings", "study_id"} == READS[name]


def test_the_file_of_a_figure_asks_the_database_for_no_steps_but_those_of_a_curve(session: Session) -> None:
    study = seed_study(session)
    session.commit()
    asked: list[str] = []
    event.listen(session.get_bind(), "before_cursor_execute", lambda *call: asked.append(call[2]))

    def tables(name: str) -> set[str]:
        asked.clear()
        study_figure(StudyData(session, SETTINGS, study), USUAL, name)
        return {table for table in ("step_chunks", "weight_deltas") for sql in asked if table in sql}

    assert tables("verdict") == tables("trade-off") == tables("break-even") == set()
    assert tables("curves") == {"step_chunks"}
    assert tables("matrices") == {"weight_deltas"}
