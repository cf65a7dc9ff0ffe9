"""What is measured here is told from runs trained here: results from elsewhere change nothing of it, however alike."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.methods import METHODS
from app.features.elsewhere.services import imports
from app.samples import samples as sample
from app.services.models.compatibility import check
from app.services.resources import calibration
from app.services.runs import attempts
from app.services.studies import studies as study_service
from app.services.studies.plan import plan_of
from app.services.workers import sweep
from app.settings import Settings
from app.store.database.session import Database
from app.store.resources import past_estimates, past_runs
from app.store.runs import listing as run_list
from app.store.runs import queries as runs
from app.store.tables import RunRow, StudyRow, WorkerRow
from app.web.api.studies.comparison import StudyComparisonOut
from tests.support.fakes.fakes import SilentBell
from tests.support.filled.estimates import attach_estimates
from tests.support.filled.filled import fill
from tests.support.rows.imported_results import as_file, result


@pytest.fixture
def filled(database: Database) -> Database:
    """Studies with runs, predictions and a verdict."""
    with database.transaction() as session:
        fill(session)
        attach_estimates(session)
    return database


def bring_the_like_of_all(database: Database) -> list[int]:
    """A result from elsewhere for every run: the same names, device, precision and seed, and quite other numbers."""
    with database.reading() as session:
        like = [
            result(
                label=run.arm,
                method=run.method_kind,
                seed=run.seed,
                score=0.01,
                items=None,
                item_scores={f"item-{n}": 0.01 for n in range(200)},
                base_model=sample.study().base_model,
                dataset=sample.study().dataset,
                learning_rate=run.learning_rate,
                device="x86, 2 cores",
                precision="fp32",
                versions={"torch": "2.9.0", "transformers": "5.1.0"},
                steps=246,
                tokens=10**9,
                train_seconds=1e6,
                peak_bytes=2**50,
                source=f"run {run.id}",
            )
            for run in session.scalars(select(RunRow).order_by(RunRow.id))
        ]
    with database.transaction() as session:
        found = imports.add_results(session, imports.read_files([as_file(*like)]), "as ours")
    assert len(found.added) == len(like)
    return found.added


def told(session: Session) -> dict[str, Any]:
    """All that pages and estimates say from past runs."""
    studies = list(session.scalars(select(StudyRow.id)))
    spec = sample.study()
    plan = plan_of(session, spec, check(session, spec))
    return {
        "devices": past_estimates.devices(session),
        "needs": past_estimates.on_device(session, "x86, 2 cores", "fp32"),
        "accuracy": calibration.accuracy(session),
        "past": past_runs.succeeded(session, 1, 1),
        "plan": (plan.arms, plan.power, plan.train_seconds),
        "verdicts": [
            StudyComparisonOut.of(study, study_service.comparison(session, study)).model_dump(mode="json")
            for study in studies
        ],
        "progress": [[run.id for run in study_service.progress(session, study).runs] for study in studies],
        "beside": [run.id for run in runs.beside(session, 1, limit=100)],
        "states": runs.count_by_status(session),
        "rates": list(session.scalars(select(WorkerRow.matmul_flops).order_by(WorkerRow.name))),
    }


def test_no_calibration_no_plan_no_verdict_and_no_count_changes_by_them(filled: Database) -> None:
    with filled.reading() as session:
        before = told(session)
    assert all(before.values())
    bring_the_like_of_all(filled)
    with filled.reading() as session:
        after = told(session)
        assert run_list.count(session, None) == 2 * sum(before["states"].values())
    for name, value in before.items():
        assert after[name] == value, name


def test_nothing_of_the_queue_touches_them(filled: Database, settings: Settings, bell: SilentBell) -> None:
    added = bring_the_like_of_all(filled)
    with filled.transaction() as session:
        assert [attempts.claim(session, run_id, "w1", 45) for run_id in added[:3]] == [None] * 3
        sweep.sweep(session, bell, settings)
    with filled.reading() as session:
        rows = runs.some(session, added)
        assert {(run.status, run.worker, run.epoch) for run in rows} == {("succeeded", None, 0)}
        assert not {run.id for run in rows} & {run_id for _task, run_id in bell.rung}


def test_a_foreign_method_calibrates_no_method_of_vezna(filled: Database) -> None:
    with filled.transaction() as session:
        odd = result(method="odd", family="lora", device="x86, 2 cores", precision="fp32")
        imports.add_results(session, imports.read_files([as_file(odd)]), "others")
    with filled.reading() as session:
        assert {row.method for row in calibration.accuracy(session)} <= set(METHODS)


def test_metrics_count_them_apart(api: TestClient) -> None:
    api.post("imports", json={"results": [result(), result(seed=1)]})
    metrics = api.get("http://127.0.0.1/metrics").text
    assert 'vezna_runs{status="succeeded"} 0.0' in metrics
    assert "vezna_imported_runs 2.0" in metrics
