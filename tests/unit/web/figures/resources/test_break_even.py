"""The break-even on a study's page: in bytes, in money, and with words that are no prices."""

import csv
import io
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.settings import Settings
from app.store.tables import RunRow
from app.web.figures.drawing import render
from app.web.figures.figure import Figure
from app.web.figures.resources.break_even import BreakEven, break_even, money
from app.web.figures.studies.study import StudyData
from app.web.figures.studies.view import PriceParams
from tests.support.rows.factories import plain, seed_study
from tests.unit.web.conftest import database_of


def drawn(session: Session, study: int | None = None, options: dict[str, Any] | None = None, **words: str) -> Figure:
    """The figure of a study made for a test, at some prices."""
    study = study or seed_study(session, **(options or {}))
    return break_even(StudyData(session, Settings(), study).comparison, PriceParams(**words))


def test_without_prices_bytes_are_held_against_each_other(session: Session) -> None:
    figure = drawn(session)
    # ten adapters and a base: 86.7 + 10 · 0.30 MiB; ten whole models: 867 MiB
    assert plain(figure.title) == (
        "LoRA r=8 is smaller on disk from 2 tasks on: 89.6 MiB for 10 tasks, compared with 867 MiB for full fine-tuning"
    )
    assert [row[-1] for row in figure.table.rows] == [None, 2, 2]
    assert [row[4] for row in figure.table.rows] == [909_000_000, 94_000_000, 90_984_000]
    assert isinstance(figure.data, BreakEven)
    assert [arm.cheaper_from for arm in figure.data.arms] == [None, 2, 2]


def test_with_prices_money_is(session: Session) -> None:
    figure = drawn(session, hour="3.6", gib_month="0,05", months="6", tasks="100", currency="EUR")
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
    assert "MiB" in drawn(session, study, hour="3").title
    figure = drawn(session, study, hour="3", gib_month="0.02")
    assert "hours are not priced" in figure.note
    assert figure.table.rows == drawn(session, study, gib_month="0.02").table.rows


def test_energy_is_told_where_the_device_counted_it(session: Session) -> None:
    assert "energy_joules" not in [column.name for column in drawn(session).table.columns]
    for run in session.scalars(select(RunRow)):
        run.result_json = (run.result_json or {}) | {"energy_joules": 36_000.0}
    figure = drawn(session, 1)
    assert figure.table.columns[2].heading == "energy per task"
    assert plain(figure.table.shown[0][2]) == "36.0 kJ"


def test_energy_is_priced_where_every_arm_has_it(session: Session) -> None:
    study = seed_study(session)
    assert "Energy was not measured in every arm, so it is not priced." in drawn(session, study, kwh="0.3").note
    assert "MiB" in drawn(session, study, kwh="0.3").title
    joules = {"full": 3.6e6, "LoRA r=8": 1.8e6, "head only": 0.9e6}
    runs = list(session.scalars(select(RunRow)))
    for run in runs:
        run.result_json = (run.result_json or {}) | {"energy_joules": joules[run.arm]}
    figure = drawn(session, study, kwh="0,30", tasks="100", currency="EUR")
    assert {row[0]: row[6] for row in figure.table.rows} == pytest.approx(
        {"full": 30.0, "LoRA r=8": 15.0, "head only": 7.5}
    )
    assert plain(figure.title) == (
        "LoRA r=8 is cheaper from the first task on: 15.00 EUR for 100 tasks, compared with 30.00 EUR for full "
        "fine-tuning"
    )
    assert "Price of a kWh: 0.30 EUR, for the energy of the device alone" in plain(figure.note)
    both = drawn(session, study, kwh="0.3", hour="3.6", tasks="100")
    hours = drawn(session, study, hour="3.6", tasks="100")
    added = [
        float(row[6] or 0) - float(other[6] or 0) for row, other in zip(both.table.rows, hours.table.rows, strict=True)
    ]
    assert added == pytest.approx([30.0, 15.0, 7.5])
    runs[0].worker = "cpu-2"
    apart = drawn(session, study, kwh="0.3")
    assert "Energy was not measured under the same conditions, so it is not priced." in apart.note
    assert "MiB" in apart.title


def test_the_price_of_energy_is_a_field_where_some_was_counted(full: TestClient) -> None:
    assert 'name="kwh"' not in full.get("/studies/1").text
    assert 'name="kwh"' in full.get("/studies/1?kwh=0.3").text
    with database_of(full).transaction() as session:
        for run in session.scalars(select(RunRow).where(RunRow.study_id == 1)):
            run.result_json = (run.result_json or {}) | {"energy_joules": 36_000.0}
    page = full.get("/studies/1?kwh=dear")
    assert page.status_code == 422 and "&#39;dear&#39; is not an amount" in page.text
    assert "kwh=0.3" in full.get("/studies/1?kwh=0.3").text.split('id="break-even-csv"')[1].split(">")[0]


def test_money_has_the_digits_that_it_needs() -> None:
    assert plain(money(3.2, "EUR")) == "3.20 EUR"
    assert plain(money(0.00123, "$")) == "0.0012 $"
    assert money(0, "") == "0.00"


@pytest.mark.slow
def test_a_word_that_is_no_price_is_named_and_the_rest_counts(full: TestClient) -> None:
    answer = full.get("/studies/1?hour=cheap&gib_month=0.02&tasks=0&currency=doubloons")
    assert answer.status_code == 422
    for said in (
        "&#39;cheap&#39; is not an amount",
        "&#39;0&#39; is not a number of tasks",
        "&#39;doubloons&#39; is too long",
    ):
        assert said in answer.text
    assert 'value="cheap"' in answer.text
    assert full.get("/studies/1?hour=cheap", headers={"HX-Request": "true"}).status_code == 200
    for word in ("-1", "nan", "inf", "1e99", "1,000"):
        assert full.get(f"/studies/1?hour={word}").status_code == 422


def test_a_comma_parts_decimals_and_tasks_are_counted_whatever_stands_before_them(full: TestClient) -> None:
    assert PriceParams(hour="0,125").prices.hour == 0.125
    assert PriceParams(hour="1,50").prices.hour == 1.5
    assert PriceParams(hour="12,000,000").prices.hour == 12_000_000
    assert PriceParams(tasks="0000000012").many == 12
    for tasks in ("0000000010000000000", "100001", "1" * 200):
        assert PriceParams(tasks=tasks).errors_of("tasks")
    assert "87.0 MiB for 1 task, compared with 86.7 MiB" in plain(full.get("/studies/1?tasks=1").text)
    assert "for 100,000 tasks" in plain(full.get("/studies/1?tasks=100000").text)


def test_a_currency_is_text_and_the_csv_has_what_was_measured(full: TestClient) -> None:
    page = full.get("/studies/1?hour=2&currency=%3Cb%3E")
    assert page.status_code == 200
    assert "<b></td>" not in page.text
    rows = list(csv.DictReader(io.StringIO(full.get("/studies/1/charts/break-even.csv?gib_month=2&tasks=7").text)))
    assert {"arm", "seconds", "base_bytes", "task_bytes", "bytes_of_7", "cost_of_7", "cheaper_from"} == set(rows[0])
