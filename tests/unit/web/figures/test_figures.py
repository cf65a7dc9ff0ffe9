"""Figures in every state, their marks, labels and lines of baselines."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any, get_args

import altair as alt
import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from app.domain.data.dataset import DatasetFacts
from app.domain.methods import METHODS, Family
from app.settings import ROOT, Settings
from app.store.tables import RunRow
from app.web.figures.drawing import axes, render
from app.web.figures.drawing.labels import labels
from app.web.figures.drawing.placement import LINE_HEIGHT, Box, beside
from app.web.figures.drawing.reference_rows import references_near
from app.web.figures.drawing.references import DASHES, Reference, near
from app.web.figures.drawing.scales import Domain, Reach, Side
from app.web.figures.drawing.theme import FAMILIES, MarkStyle
from app.web.figures.figure import Figure, drawn
from app.web.figures.runs.run import RunData, run_figures
from app.web.figures.studies.study import FIGURES, Differences, Row, StudyData, study_figure
from app.web.figures.studies.study import chart as differences_chart
from app.web.figures.studies.trade_off import trade_off
from app.web.figures.studies.view import USUAL
from app.words.data.baselines import baseline_remarks
from tests.support.filled import filled
from tests.support.rows.factories import ARMS, FULL, STATES, empty_database, plain, seed_study

SETTINGS = Settings()
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
    assert found.keys() == READS.keys()
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


CSS = ROOT / "static" / "css"
TOKENS = dict(re.findall(r"--([\w-]+): light-dark\((#\w+, #\w+)\)", (CSS / "tokens.css").read_text()))
FAMILY_NAMES = get_args(Family)
THEMES = (0, 1)
SURFACES = ("surface", "sunken", "best")
# Severe protanopia, deuteranopia and tritanopia on linear RGB: Machado, Oliveira & Fernandes 2009, table 1
SEEN = {
    "all": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "no blue": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
# Linear RGB to OKLab: Ottosson 2020
CONES = np.array([[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]])
OKLAB = np.array([[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]])
APART = 0.06
"""A distance in OKLab at which two marks side by side are plainly of two colours."""

Colour = NDArray[np.float64]


def linear(token: str, theme: int) -> Colour:
    """A token's colour in a theme (0 light, 1 dark) as linear RGB."""
    code = TOKENS[token].split(", ")[theme]
    channels = np.array([int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(a: Colour, b: Colour) -> float:
    """Of two colours by WCAG 2."""
    dark, light = sorted(float(c @ [0.2126, 0.7152, 0.0722]) for c in (a, b))
    return (light + 0.05) / (dark + 0.05)


def oklab(colour: Colour) -> Colour:
    """Where equal steps look equal."""
    return OKLAB @ np.cbrt(CONES @ np.clip(colour, 0, 1))


@pytest.mark.parametrize("family", [*FAMILY_NAMES, "base"])
def test_a_family_can_be_read_on_every_surface(family: str) -> None:
    for theme in THEMES:
        for surface in SURFACES:
            assert contrast(linear(f"m-{family}", theme), linear(surface, theme)) >= 4.5


@pytest.mark.parametrize("eyes", SEEN)
@pytest.mark.parametrize("theme", THEMES)
def test_families_differ_in_colour_whatever_one_can_see(theme: int, eyes: str) -> None:
    seen = {family: oklab(SEEN[eyes] @ linear(f"m-{family}", theme)) for family in FAMILY_NAMES}
    close = {pair: float(np.linalg.norm(seen[pair[0]] - seen[pair[1]])) for pair in combinations(seen, 2)}
    assert {pair: round(d, 3) for pair, d in close.items() if d < APART} == {}


def test_families_differ_in_marker_and_dash() -> None:
    assert set(FAMILIES) == {*FAMILY_NAMES, "base"}
    assert len({style.marker for style in FAMILIES.values()}) == len(FAMILIES)
    dashes = [style.dash for family, style in FAMILIES.items() if family not in ("full", "lora")]
    assert len(set(dashes)) == len(dashes)
    assert all(sum(dash) for dash in dashes)


@pytest.mark.parametrize("family", [*FAMILY_NAMES, "base"])
def test_a_family_has_its_marker_and_its_colour_on_pages(family: str) -> None:
    assert f'<symbol id="k-{family}"' in (ROOT / "templates" / "layouts" / "sprite.html").read_text()
    assert f'[data-method="{family}"] {{ --m: var(--m-{family}); }}' in (CSS / "components.css").read_text()


def test_every_method_is_of_a_family() -> None:
    assert {facts.family for facts in METHODS.values()} <= set(FAMILY_NAMES)


def test_the_row_of_the_worked_axis_is_offered_and_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    [row] = re.findall(r'```python\n("reserved": Axis\(.*?\),)\n```', (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    monkeypatch.setitem(axes.AXES, "reserved", eval(f"{{{row}}}", vars(axes))["reserved"])
    with empty_database() as session:
        study = seed_study(session)
        assert "reserved" not in axes.known(StudyData(session, Settings(), study).comparison)
        for run in session.scalars(select(RunRow)):
            result = run.result_json or {}
            memory = result["memory"] | {"reserved_bytes": 2 * result["memory"]["peak_bytes"]}
            run.result_json = result | {"memory": memory}
        found = StudyData(session, Settings(), study).comparison
    assert "reserved" in axes.known(found)
    figure = trade_off(found, "reserved", "score")
    assert plain(figure.title) == "LoRA r=8 is enough with 300 MiB instead of 806 MiB"
    assert "reserved_bytes" in [column.name for column in figure.table.columns]
    assert "Reserved memory, MiB" in json.dumps(figure.chart().configure(**render.CONFIG).to_dict(validate=True))


COUNTS = {"train": 8, "validation": 1, "test": 1}


def test_of_tagged_rows_words_are_counted() -> None:
    facts = DatasetFacts.model_validate(
        {"format": "tagged", "labels": ["B-PER", "O"], "counts": COUNTS, "label_counts": {"B-PER": 10, "O": 90}}
        | {"content_hash": "h"}
    )
    figure = labels(facts)
    assert plain(figure.title) == "O is the most common tag with 90 % of the words, B-PER the rarest with 10 %"
    assert plain(figure.note) == "2 tags, 100 words."
    assert [column.name for column in figure.table.columns] == ["tag", "words", "share"]


def test_of_labelled_rows_rows_are_counted() -> None:
    facts = DatasetFacts.model_validate(
        {"labels": ["a", "b"], "counts": COUNTS, "label_counts": {"a": 9, "b": 1}, "content_hash": "h"}
    )
    figure = labels(facts)
    assert plain(figure.title) == "a is the most common label with 90 % of the rows, b the rarest with 10 %"
    assert plain(figure.note) == "2 labels, 10 rows."


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


def drawn_axis(figure: Figure) -> str:
    return json.dumps([figure.chart(narrow=narrow).to_dict() for narrow in (False, True)])


def test_lines_near_an_axis_are_drawn_and_far_ones_are_left_out() -> None:
    lines = [Reference(name, value, DASHES[0]) for name, value in (("far", 23.0), ("below", 75.0), ("in", 85.0))]
    assert [line.name for line in near(lines, 80, 90)] == ["in", "below"]


def test_scores_show_every_baseline_with_the_dash_of_its_place(data: StudyData) -> None:
    figure = study_figure(data, USUAL, "scores")
    text = drawn_axis(figure)
    assert "most frequent label 23.1" in text and "TF-IDF 78.5" in text and "frozen embeddings" not in text
    assert json.dumps(list(DASHES[0])) in text and json.dumps(list(DASHES[1])) in text
    assert figure.title == "Every arm is above every baseline"
    assert [row[0] for row in figure.table.rows][-2:] == ["most frequent label", "TF-IDF"]


def test_differences_show_the_baselines_near_them_and_name_those_beyond_the_axis(data: StudyData) -> None:
    figure = study_figure(data, USUAL, "verdict")
    text = drawn_axis(figure)
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
    remark = plain(next(baseline_remarks(study)))
    assert remark.startswith("Points above the best baseline, TF-IDF") and "full +11.0 ± 2.3" in remark


def test_the_trade_off_has_lines_only_over_scores_and_only_near_them(data: StudyData) -> None:
    figure = study_figure(data, USUAL, "trade-off")
    assert "TF-IDF 78.5" in drawn_axis(figure) and "most frequent label" not in drawn_axis(figure)
    assert "baselines, on the test items" in figure.note
    other = study_figure(data, USUAL.model_copy(update={"y": "time"}), "trade-off")
    assert "TF-IDF" not in drawn_axis(other) and "baselines" not in other.note


def test_curves_have_lines_beside_the_metric_on_validation_and_not_beside_a_loss(data: StudyData) -> None:
    validation = study_figure(data, USUAL.model_copy(update={"curve": "validation"}), "curves")
    assert "TF-IDF 78.5" in drawn_axis(validation) and "baselines, on the test items" in validation.note
    loss = study_figure(data, USUAL.model_copy(update={"curve": "loss"}), "curves")
    assert "TF-IDF" not in drawn_axis(loss)


def test_a_flat_curve_still_has_room_for_a_line(data: StudyData) -> None:
    flat = [np.full(3, 0.80)]
    assert [line.name for line in references_near(data.comparison, flat)] == ["TF-IDF"]
    assert references_near(data.comparison, [np.full(3, np.nan)]) == ()
