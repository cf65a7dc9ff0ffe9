"""Figures of a study: the trade-off and the break-even."""

import csv
import io
import json
from itertools import pairwise
from typing import Any

import pytest
from fastapi.testclient import TestClient
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
from app.web.figures.resources.break_even import BreakEven, break_even, money
from app.web.figures.studies.study import StudyData
from app.web.figures.studies.trade_off import trade_off
from app.web.figures.studies.view import PriceParams
from tests.support.rows.factories import FULL, LORA, MANY, plain, seed_study
from tests.unit.web.conftest import database_of

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


def priced(session: Session, study: int | None = None, options: dict[str, Any] | None = None, **words: str) -> Figure:
    """The figure of a study made for a test, at some prices."""
    study = study or seed_study(session, **(options or {}))
    return break_even(StudyData(session, Settings(), study).comparison, PriceParams(**words))


def test_without_prices_bytes_are_held_against_each_other(session: Session) -> None:
    figure = priced(session)
    # ten adapters and a base: 86.7 + 10 · 0.30 MiB; ten whole models: 867 MiB
    assert plain(figure.title) == (
        "LoRA r=8 is smaller on disk from 2 tasks on: 89.6 MiB for 10 tasks, compared with 867 MiB for full fine-tuning"
    )
    assert [row[-1] for row in figure.table.rows] == [None, 2, 2]
    assert [row[4] for row in figure.table.rows] == [909_000_000, 94_000_000, 90_984_000]
    assert isinstance(figure.data, BreakEven)
    assert [arm.cheaper_from for arm in figure.data.arms] == [None, 2, 2]


def test_with_prices_money_is(session: Session) -> None:
    figure = priced(session, hour="3.6", gib_month="0,05", months="6", tasks="100", currency="EUR")
    wall = {str(row[0]): float(row[1] or 0) for row in figure.table.rows}
    assert wall["full"] > 54
    gib, stay = 1024**3, 0.05 * 6
    full = 100 * (wall["full"] * 0.001 + 90_900_000 / gib * stay)
    lora = 90_900_000 / gib * stay + 100 * (wall["LoRA r=8"] * 0.001 + 310_000 / gib * stay)
    costs = {row[0]: row[5] for row in figure.table.rows}
    assert costs["full"] == pytest.approx(full)
    assert costs["LoRA r=8"] == pytest.approx(lora)
    assert plain(figure.title) == (
        f"LoRA r=8 is cheaper from the first task on: {lora:.2f} EUR for 100 tasks, compared with {full:.2f} EUR "
        "for full fine-tuning"
    )
    assert "Price of a device-hour: 3.60 EUR." in plain(figure.note)
    specification = figure.chart(narrow=True).configure(**render.CONFIG).to_dict(validate=True)
    assert "from the first task on" in json.dumps(specification, allow_nan=False)


def test_hours_that_do_not_compare_are_not_priced(session: Session) -> None:
    study = seed_study(session)
    run = session.scalars(select(RunRow).where(RunRow.arm == "full")).first()
    assert run is not None
    run.worker = "cpu-2"
    assert "MiB" in priced(session, study, hour="3").title
    figure = priced(session, study, hour="3", gib_month="0.02")
    assert "hours are not priced" in figure.note
    assert figure.table.rows == priced(session, study, gib_month="0.02").table.rows


def test_energy_is_told_where_the_device_counted_it(session: Session) -> None:
    assert "energy_joules" not in [column.name for column in priced(session).table.columns]
    for run in session.scalars(select(RunRow)):
        run.result_json = (run.result_json or {}) | {"energy_joules": 36_000.0}
    figure = priced(session, 1)
    assert figure.table.columns[2].heading == "energy per task"
    assert plain(figure.table.shown[0][2]) == "36.0 kJ"


def test_energy_is_priced_where_every_arm_has_it(session: Session) -> None:
    study = seed_study(session)
    assert "Energy was not measured in every arm, so it is not priced." in priced(session, study, kwh="0.3").note
    assert "MiB" in priced(session, study, kwh="0.3").title
    joules = {"full": 3.6e6, "LoRA r=8": 1.8e6, "head only": 0.9e6}
    runs = list(session.scalars(select(RunRow)))
    for run in runs:
        run.result_json = (run.result_json or {}) | {"energy_joules": joules[run.arm]}
    figure = priced(session, study, kwh="0,30", tasks="100", currency="EUR")
    assert {row[0]: row[6] for row in figure.table.rows} == pytest.approx(
        {"full": 30.0, "LoRA r=8": 15.0, "head only": 7.5}
    )
    assert plain(figure.title) == (
        "LoRA r=8 is cheaper from the first task on: 15.00 EUR for 100 tasks, compared with 30.00 EUR for full "
        "fine-tuning"
    )
    assert "Price of a kWh: 0.30 EUR, for the energy of the device alone" in plain(figure.note)
    both = priced(session, study, kwh="0.3", hour="3.6", tasks="100")
    hours = priced(session, study, hour="3.6", tasks="100")
    added = [
        float(row[6] or 0) - float(other[6] or 0) for row, other in zip(both.table.rows, hours.table.rows, strict=True)
    ]
    assert added == pytest.approx([30.0, 15.0, 7.5])
    runs[0].worker = "cpu-2"
    apart = priced(session, study, kwh="0.3")
    assert "Energy was not measured under the same conditions, so it is not priced." in apart.note
    assert "MiB" in apart.title


def test_the_price_of_energy_is_a_field_where_some_was_counted(full: TestClient) -> None:
    assert 'name="kwh"' not in full.get("/studies/1/costs").text
    assert 'name="kwh"' in full.get("/studies/1/costs?kwh=0.3").text
    with database_of(full).transaction() as session:
        for run in session.scalars(select(RunRow).where(RunRow.study_id == 1)):
            run.result_json = (run.result_json or {}) | {"energy_joules": 36_000.0}
    page = full.get("/studies/1/costs?kwh=dear")
    assert page.status_code == 422 and "&#39;dear&#39; is not an amount" in page.text
    assert "kwh=0.3" in full.get("/studies/1/costs?kwh=0.3").text.split('id="break-even-csv"')[1].split(">")[0]


def test_money_has_the_digits_that_it_needs() -> None:
    assert plain(money(3.2, "EUR")) == "3.20 EUR"
    assert plain(money(0.00123, "$")) == "0.0012 $"
    assert money(0, "") == "0.00"


@pytest.mark.slow
def test_a_word_that_is_no_price_is_named_and_the_rest_counts(full: TestClient) -> None:
    answer = full.get("/studies/1/costs?hour=cheap&gib_month=0.02&tasks=0&currency=doubloons")
    assert answer.status_code == 422
    for said in (
        "&#39;cheap&#39; is not an amount",
        "&#39;0&#39; is not a number of tasks",
        "&#39;doubloons&#39; is too long",
    ):
        assert said in answer.text
    assert 'value="cheap"' in answer.text
    assert full.get("/studies/1/costs?hour=cheap", headers={"HX-Request": "true"}).status_code == 200
    for word in ("-1", "nan", "inf", "1e99", "1,000"):
        assert full.get(f"/studies/1/costs?hour={word}").status_code == 422


def test_a_comma_parts_decimals_and_tasks_are_counted_whatever_stands_before_them(full: TestClient) -> None:
    assert PriceParams(hour="0,125").prices.hour == 0.125
    assert PriceParams(hour="1,50").prices.hour == 1.5
    assert PriceParams(hour="12,000,000").prices.hour == 12_000_000
    assert PriceParams(tasks="0000000012").many == 12
    for tasks in ("0000000010000000000", "100001", "1" * 200):
        assert PriceParams(tasks=tasks).errors_of("tasks")
    assert "87.0 MiB for 1 task, compared with 86.7 MiB" in plain(full.get("/studies/1/costs?tasks=1").text)
    assert "for 100,000 tasks" in plain(full.get("/studies/1/costs?tasks=100000").text)


def test_a_currency_is_text_and_the_csv_has_what_was_measured(full: TestClient) -> None:
    page = full.get("/studies/1/costs?hour=2&currency=%3Cb%3E")
    assert page.status_code == 200
    assert "<b></td>" not in page.text
    rows = list(csv.DictReader(io.StringIO(full.get("/studies/1/charts/break-even.csv?gib_month=2&tasks=7").text)))
    assert {"arm", "seconds", "base_bytes", "task_bytes", "bytes_of_7", "cost_of_7", "cheaper_from"} == set(rows[0])
