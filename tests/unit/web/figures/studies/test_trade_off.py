"""The trade-off: over any two axes, what is on its front, and what keeps it from being one."""

import json
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.comparison.study import StudyComparison
from app.domain.failures import FailureCode
from app.settings import Settings
from app.store.tables import RunRow
from app.web.figures.drawing import render
from app.web.figures.drawing.axes import AXES, known
from app.web.figures.drawing.placement import clipped, text_width
from app.web.figures.drawing.trade_off import TradeOff
from app.web.figures.figure import Figure
from app.web.figures.studies.study import StudyData
from app.web.figures.studies.trade_off import trade_off
from tests.support.rows.factories import FULL, LORA, MANY, plain, seed_study

SEEDS = (0, 1, 2)


def weighed(session: Session, **options: Any) -> StudyComparison:
    """A study made for a test."""
    return StudyData(session, Settings(), seed_study(session, **options)).comparison


def drawn(found: StudyComparison, x: str = "memory", y: str = "score") -> tuple[Figure, TradeOff]:
    """Its trade-off."""
    figure = trade_off(found, x, y)
    assert isinstance(figure.data, TradeOff)
    return figure, figure.data


def specification(figure: Figure, *, narrow: bool = False) -> str:
    """Checked against Vega-Lite's schema."""
    return json.dumps(figure.chart(narrow=narrow).configure(**render.CONFIG).to_dict(validate=True), allow_nan=False)


@pytest.mark.by_day
@pytest.mark.parametrize("x", AXES)
@pytest.mark.parametrize("y", ["score", "trainable", "speed"])
def test_any_two_axes_are_drawn_or_it_is_said_why_not(session: Session, x: str, y: str) -> None:
    figure, _data = drawn(weighed(session, arms=MANY), x, y)
    if figure.empty:
        assert x == y or x in ("forgetting", "energy")
    else:
        assert "NaN" not in specification(figure, narrow=True)
        assert all(len(row) == len(figure.table.columns) for row in figure.table.shown)


def test_only_axes_that_were_measured_are_offered(session: Session) -> None:
    assert known(weighed(session)) == [name for name in AXES if name not in ("forgetting", "energy")]


def test_the_front_heeds_which_way_is_better_on_each_axis(session: Session) -> None:
    found = weighed(session, accuracy={"full": 0.89, "LoRA r=8": 0.9, "head only": 0.85})
    on = {
        (x, y): [p.style.name for i, p in enumerate(d.points) if i in d.front]
        for x, y in (("memory", "score"), ("speed", "score"), ("score", "memory"), ("speed", "trainable"))
        for _f, d in [drawn(found, x, y)]
    }
    assert on == {
        ("memory", "score"): ["LoRA r=8", "head only"],
        ("speed", "score"): ["LoRA r=8", "head only"],
        ("score", "memory"): ["LoRA r=8", "head only"],
        ("speed", "trainable"): ["head only"],
    }
    assert plain(drawn(found, "speed", "trainable")[0].title) == (
        "Head only is best on both trainable parameters and tokens per second"
    )


def test_best_on_both_is_said_of_a_score_only_where_it_is_told_apart(session: Session) -> None:
    """By its mean alone an arm may lead that the verdict calls undecided, or merely enough."""
    said = {}
    for name, options in {
        "undecided": {"accuracy": {"full": 0.89, "LoRA r=8": 0.90}, "margin": 0.1},
        "enough": {"accuracy": {"full": 0.894, "LoRA r=8": 0.895}, "margin": 3.0},
        "one seed": {"accuracy": {"full": 0.84, "LoRA r=8": 0.90}, "seeds": (0,), "luck": 0.05},
        "better": {"accuracy": {"full": 0.84, "LoRA r=8": 0.90}, "luck": 0.05},
    }.items():
        found = weighed(session, arms=(FULL, LORA), **options)
        said[name] = [plain(drawn(found, *axes)[0].title) for axes in (("memory", "score"), ("memory", "time"))]
    assert [title for title, _costs in said.values()] == [
        "LoRA r=8 needs 150 MiB instead of 403 MiB; whether it loses less than 0.1 points is undecided",
        "LoRA r=8 is enough with 150 MiB instead of 403 MiB",
        "LoRA r=8 needs 150 MiB instead of 403 MiB; whether it loses less than 2 points is undecided",
        "LoRA r=8 is best on both accuracy and peak memory",
    ]
    assert {costs for _title, costs in said.values()} == {"LoRA r=8 is best on both train time and peak memory"}


def test_a_front_of_means_that_chance_may_have_moved_is_called_no_more_than_that(session: Session) -> None:
    """Which of three indistinguishable arms are Pareto-optimal is noise; their costs were measured."""
    failed = {("full", seed): FailureCode.OUT_OF_MEMORY for seed in SEEDS}
    near = {"LoRA r=8": 0.891, "LoRA r=64": 0.893, "head only": 0.8}
    figures = [
        drawn(weighed(session, arms=MANY, failed=failed, accuracy=near), "memory", "score")[0],
        drawn(weighed(session, failed=failed, luck=0.01, seed_sd=0.0003), "memory", "score")[0],
    ]
    assert [plain(figure.title) for figure in figures] == [
        "Of the arms indistinguishable from the best in accuracy, LoRA r=8 has the lowest peak memory: 150 MiB",
        "LoRA r=8 has the best accuracy, significantly; its peak memory: 150 MiB",
    ]
    for figure in figures:
        assert "Dashed: Pareto front of the observed means: " in figure.note
        assert "It ignores sampling error, so it ranks nothing." in figure.note
    costs = drawn(weighed(session), "memory", "time")[0]
    assert "ranks nothing" not in costs.note  # seconds and bytes are what was measured


def test_the_front_is_stepped_from_the_best_to_the_worst_and_on_to_the_edge(session: Session) -> None:
    for x in ("memory", "speed"):
        _figure, data = drawn(weighed(session), x)
        spec = json.loads(specification(_figure))
        corners = next(iter(spec["datasets"].values())) if "datasets" in spec else spec["layer"][0]["data"]["values"]
        xs, ys = [c["x"] for c in corners], [c["y"] for c in corners]
        assert xs == sorted(xs, reverse=data.x.higher)
        assert ys == sorted(ys)
        assert all(a["x"] == b["x"] or a["y"] == b["y"] for a, b in pairwise(corners))


def test_whiskers_are_the_interval_of_the_metric_and_the_range_of_the_seeds(session: Session) -> None:
    found = weighed(session)
    for run in session.scalars(select(RunRow).where(RunRow.arm == "full")):
        run.result_json = run.result_json | {
            "memory": run.result_json["memory"] | {"peak_bytes": 2**20 * (400 + run.seed)}
        }
    again = StudyData(session, Settings(), 1).comparison
    _figure, data = drawn(again)
    full, score = data.points[0], again.arms[0].score
    assert (full.x.low, full.x.at, full.x.high) == (400, 401, 402)
    assert score is not None
    assert (full.y.low, full.y.high) == (100 * score.low, 100 * score.high)
    assert found.arms[0].title == "full"


def test_a_scale_is_logarithmic_where_values_lie_far_apart(session: Session) -> None:
    found = weighed(session)
    assert drawn(found, "trainable")[1].x.log
    assert not drawn(found, "memory")[1].x.log
    assert not drawn(weighed(session, accuracy={"head only": 0.05}))[1].y.log
    assert '"type": "log"' in specification(drawn(found, "file")[0])


def test_a_failed_arm_stays_at_the_boundary_with_its_marker_and_its_reason(session: Session) -> None:
    failed = {("full", seed): FailureCode.OUT_OF_MEMORY for seed in SEEDS}
    figure, data = drawn(weighed(session, failed=failed))
    assert [(arm.style.name, arm.why) for arm in data.missing] == [("full", "out of memory")]
    text = specification(figure)
    assert "full: out of memory" in text
    assert '"shape": "square"' in text
    assert [row[-1] for row in figure.table.shown] == ["no", "yes", "yes"]


def test_an_arm_without_a_value_on_an_axis_is_named_too(session: Session) -> None:
    weighed(session)
    for run in session.scalars(select(RunRow).where(RunRow.arm != "full")):
        run.result_json = run.result_json | {"energy_joules": 5000.0 + run.seed}
    figure, data = drawn(StudyData(session, Settings(), 1).comparison, "energy")
    assert [(arm.style.name, arm.why) for arm in data.missing] == [("full", "energy not measured")]
    assert "5001 J" in plain(data.points[0].note).replace(",", "")
    assert not figure.empty


def test_where_times_do_not_compare_nothing_wins(session: Session) -> None:
    found = weighed(session)
    run = session.scalars(select(RunRow).where(RunRow.arm == "full")).first()
    assert run is not None
    run.worker = "cpu-2"
    figure, data = drawn(StudyData(session, Settings(), 1).comparison, "time")
    assert data.front == ()
    assert figure.title == "Accuracy by train time: not measured under the same conditions, so no arm wins"
    assert "Dashed" not in figure.note
    assert drawn(found, "memory")[1].front != ()


def test_what_a_third_axis_adds_to_the_front_is_said(session: Session) -> None:
    arms = (FULL, LORA, MANY[2])
    weighed(session, arms=arms, accuracy={"full": 0.9, "LoRA r=8": 0.89, "LoRA r=64": 0.87})
    for run in session.scalars(select(RunRow).where(RunRow.arm == "LoRA r=64")):
        clocks = {name: value / 2 for name, value in run.result_json["clocks"].items()}
        memory = run.result_json["memory"] | {"peak_bytes": 200 * 2**20}
        run.result_json = run.result_json | {"clocks": clocks, "memory": memory}
    figure, _data = drawn(StudyData(session, Settings(), 1).comparison)
    assert "Pareto front of the observed means: full and LoRA r=8." in figure.note
    assert "With train time as a third axis these join: LoRA r=64." in figure.note


def test_a_long_name_is_clipped_and_its_reason_is_not() -> None:
    assert clipped("short", 100) == "short"
    assert clipped("a name that goes on and on", 80).endswith("…")
    assert text_width(clipped("a name that goes on and on", 80)) <= 80
