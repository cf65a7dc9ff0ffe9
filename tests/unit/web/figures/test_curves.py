"""Curves over training, and the rows that they read."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.comparison.study import StudyComparison
from app.domain.failures import FailureCode
from app.domain.methods import LoraSpec
from app.domain.runs.result import STEP_DTYPE, StepMetrics, Steps, to_array
from app.domain.studies.arms import ArmSpec
from app.settings import Settings
from app.store.runs import steps
from app.store.runs.steps import column, picked
from app.store.tables import EvaluationRow, RunRow
from app.web.figures.curves.axes import QUANTITIES, X_AXES
from app.web.figures.curves.chart import MARKS, POINTS, Curves
from app.web.figures.curves.curves import curves
from app.web.figures.curves.step_rows import step_table
from app.web.figures.drawing import render
from app.web.figures.figure import Figure
from app.web.figures.studies.study import StudyData
from app.web.figures.studies.view import ViewParams
from tests.support.filled import filled
from tests.support.rows.factories import FULL, LORA, seed_study


@dataclass(frozen=True)
class Evidence:
    """What curves are made of, to be changed by a test."""

    comparison: StudyComparison
    steps: Mapping[int, Steps]
    validation: Mapping[int, Sequence[EvaluationRow]]


def evidence(session: Session, **options: Any) -> Evidence:
    """Of a study made for a test."""
    return of_study(session, seed_study(session, **options))


def of_study(session: Session, study_id: int) -> Evidence:
    """Of a study."""
    data = StudyData(session, Settings(), study_id)
    return Evidence(data.comparison, data.steps, data.validation)


def drawn(found: Evidence, **view: Any) -> tuple[Figure, Curves]:
    """Its curves."""
    figure = curves(found.comparison, found.steps, found.validation, ViewParams(**view))
    assert isinstance(figure.data, Curves)
    return figure, figure.data


@pytest.mark.by_day
@pytest.mark.parametrize("curve", QUANTITIES)
@pytest.mark.parametrize("by", X_AXES)
def test_any_quantity_is_drawn_over_any_place(session: Session, curve: str, by: str) -> None:
    figure, data = drawn(evidence(session), curve=curve, by=by)
    assert len(data.curves) == 3
    specification = figure.chart(narrow=True).configure(**render.CONFIG).to_dict(validate=True)
    assert "NaN" not in json.dumps(specification, allow_nan=False)
    assert figure.title
    assert all(len(row) == len(figure.table.columns) for row in figure.table.shown)


def test_smoothing_is_off_and_what_was_measured_stays_behind_it(session: Session) -> None:
    found = evidence(session)
    _figure, plainly = drawn(found)
    figure, calm = drawn(found, smooth=0.9)
    raw = calm.curves[0].raw
    assert plainly.curves[0].raw is None
    assert raw is not None
    assert (plainly.curves[0].mean == raw).all()
    assert (calm.curves[0].mean[0] == raw[0]).all()  # debiased: it starts where the loss starts
    assert np.ptp(calm.curves[0].mean[-40:, 1]) < np.ptp(plainly.curves[0].mean[-40:, 1])
    assert "over about 10 steps (factor 0.9)" in figure.note
    validation = [drawn(found, curve="validation", smooth=factor)[1] for factor in (0.9, 0.0)]
    assert render.content_hash(validation[0]) == render.content_hash(validation[1])


def test_the_mean_is_that_of_all_steps_and_the_table_is_not_thinned(session: Session) -> None:
    found = evidence(session)
    figure, _data = drawn(found, curve="gradient")
    runs = [run.run_id for run in found.comparison.arms[0].succeeded]
    last = np.mean([found.steps[run]["grad_norm"][-1] for run in runs])
    assert figure.table.rows[0][-1] == pytest.approx(last, abs=1e-6)
    assert len(list(figure.numbers.rows)) == 9 * 246


def test_over_time_an_arm_ends_where_its_training_ended(session: Session) -> None:
    _figure, data = drawn(evidence(session), by="time")
    ends = {curve.style.name: curve.mean[-1, 0] for curve in data.curves}
    assert ends == pytest.approx({"full": 54.0, "LoRA r=8": 28.0, "head only": 18.0})
    assert data.across == "Time in training, s →"


def test_where_a_seed_ended_early_it_is_said_how_many_go_on(session: Session) -> None:
    study = seed_study(session)
    run = session.scalars(select(RunRow).where(RunRow.arm == "LoRA r=8")).first()
    assert run is not None
    kept = steps.read(session, run.id)[:100].copy()
    steps.clear(session, run.id)
    steps.append(session, run.id, kept)
    figure, data = drawn(of_study(session, study))
    assert "LoRA r=8: 2 of 3 seeds from step 101 on." in figure.note
    assert data.curves[1].mean[-1, 0] == 246


def test_a_run_that_diverged_ends_in_a_cross_and_flattens_nothing(session: Session) -> None:
    study = seed_study(session, failed={("LoRA r=8", 0): FailureCode.DIVERGED})
    run = session.scalars(select(RunRow).where(RunRow.status == "failed")).one()
    made = filled._steps(run, 40).copy()
    made["loss"] = np.exp(np.arange(40) / 2)
    made["loss"][-1] = np.inf
    steps.append(session, run.id, made)
    figure, data = drawn(of_study(session, study))
    [failed] = data.curves[1].failed
    assert failed[-1, 0] == 39
    assert data.top < 3
    assert "Crosses: where runs failed (LoRA r=8: diverged, 1 run)." in figure.note
    assert '"M-1,-1L1,1M-1,1L1,-1"' in json.dumps(figure.chart().to_dict(validate=False))


def test_an_arm_whose_runs_all_failed_is_in_the_picture(session: Session) -> None:
    study = seed_study(session, arms=(FULL, LORA), failed={("full", s): FailureCode.DIVERGED for s in (0, 1, 2)})
    for run in session.scalars(select(RunRow).where(RunRow.status == "failed")):
        steps.append(session, run.id, filled._steps(run, 40))
    _figure, data = drawn(of_study(session, study))
    assert [curve.style.name for curve in data.curves] == ["full", "LoRA r=8"]
    assert len(data.curves[0].failed) == 3


def marks(found: Evidence) -> int:
    """How many evaluations of the first arm are marked."""
    points = drawn(found)[1].curves[0].marks
    return 0 if points is None else len(points)


def test_evaluations_are_marked_but_not_more_than_can_be_told_apart(session: Session) -> None:
    found = evidence(session)
    assert marks(found) == 3
    for run in found.validation:
        many = [EvaluationRow(run_id=run, step=step, epoch=0.0, n=150, loss=0.4, score=0.8) for step in range(1, 200)]
        found = replace(found, validation=dict(found.validation) | {run: many})
    assert marks(found) == MARKS


def test_a_score_of_nothing_is_a_score(session: Session) -> None:
    found = evidence(session)
    for rows in found.validation.values():
        for row in rows:
            row.score = 0.0
    _figure, data = drawn(found, curve="validation")
    assert data.curves[0].mean[:, 1].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.slow
def test_fifteen_runs_of_a_hundred_thousand_steps_are_thinned_to_what_a_picture_shows(session: Session) -> None:
    arms = (FULL, *(ArmSpec(method=LoraSpec(r=r)) for r in (4, 8, 16, 32)))
    found = evidence(session, arms=arms)
    number = np.arange(1, 100_001)
    long = np.zeros(100_000, dtype=filled.STEP_DTYPE)
    long["step"], long["seconds"] = number, number * 0.1
    long["loss"] = 1 / np.sqrt(number) + np.random.default_rng(0).normal(1, 0.1, 100_000)
    long["loss"][54_321] = 2.0
    found = replace(found, steps=dict.fromkeys(found.steps, long))
    began = time.perf_counter()
    _figure, data = drawn(found, by="time", smooth=0.6)
    print(f"statistics and thinning: {time.perf_counter() - began:.2f} s")
    for curve in data.curves:
        assert len(curve.mean) <= POINTS
        assert curve.band is not None and curve.band[:, 2].max() == pytest.approx(curve.mean[:, 1].max())


def made(first: int, count: int) -> np.ndarray:
    steps = np.zeros(count, STEP_DTYPE)
    steps["step"], steps["loss"] = np.arange(first, first + count), np.arange(first, first + count) / 8
    return steps


@given(st.lists(st.integers(0, 5), max_size=8), st.data())
def test_picking_out_of_pieces_is_picking_out_of_the_whole(sizes: list[int], data: st.DataObject) -> None:
    firsts = np.cumsum([1, *sizes])
    chunks = [made(int(first), size) for first, size in zip(firsts, sizes, strict=False)]
    whole = np.concatenate([np.empty(0, STEP_DTYPE), *chunks])
    places = st.lists(st.integers(0, len(whole) - 1), unique=True) if len(whole) else st.just([])
    at = np.array(sorted(data.draw(places)), np.intp)
    assert (picked(chunks, at) == whole[at]).all()
    assert (column(chunks, "loss", np.float64) == whole["loss"].astype(np.float64)).all()


def test_a_table_of_every_step_says_what_was_measured_and_no_digit_more() -> None:
    step = StepMetrics(
        step=1, epoch=0.001, loss=0.7, learning_rate=2e-5, grad_norm=1.25, tokens=170, seconds=0.1, memory_bytes=2**40
    )
    (row,) = step_table(("arm", "seed"), [(("lora", 0), to_array([step]))]).rows
    assert row == ("lora", 0, 1, 0.001, 0.7, 2e-05, 1.25, 170, 0.1, 2**40)
