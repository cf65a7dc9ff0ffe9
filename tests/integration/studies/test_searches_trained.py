"""A study that searches with TPE, trained for real on a tiny model: from the first trials to the verdict."""

from pathlib import Path

import pytest

from app.domain.runs.job import TrainJob
from app.domain.runs.result import RunResult
from app.domain.runs.status import RunStatus
from app.domain.studies.spec import StudySpec
from app.services.data import datasets
from app.services.runs import attempts
from app.services.runs.attempts import Claim
from app.services.studies import studies
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.runs import evaluations
from app.store.runs import queries as runs
from app.store.tables import RunRow, StudyRow
from tests.support.fakes.fakes import SilentBell
from tests.support.tiny import texts as tiny
from worker.engine.loop.attempt import Attempt

TRIALS = 6
RATES = {"low": 1e-5, "high": 3e-2}
SEEDS = [0, 1]


def submitted(db: Database, bell: SilentBell, files: Files) -> int:
    """Full fine-tuning and LoRA on the words, each with a search of its own."""
    body = {
        "name": "Words",
        "base_model": "tiny",
        "dataset": "words",
        "seeds": SEEDS,
        "training": tiny.FAST.model_dump(exclude={"learning_rate", "seed"}),
        "tuning": {"kind": "tpe", "budget": TRIALS},
        "arms": [
            {"method": {"kind": "full"}, "search": {"learning_rate": RATES}},
            {
                "name": "LoRA",
                "method": {"kind": "lora", "r": 4, "target_modules": ["query", "value"]},
                "search": {"learning_rate": RATES, "r": [2, 4, 8]},
            },
        ],
    }
    with db.transaction() as session:
        datasets.register(
            session, files, name="words", title="Words", form="labelled", labels=tiny.LABELS, rows=tiny.rows()
        )
        return studies.submit(session, bell, StudySpec.model_validate(body)).id


def rows(db: Database, study: int) -> list[RunRow]:
    with db.reading() as session:
        return runs.of_study(session, study)


def train(claim: Claim, model: Path, dataset: Path, output: Path) -> tuple[RunResult, tiny.Recorder]:
    """Train a claimed run in this process."""
    output.mkdir()
    recorder = tiny.Recorder()
    job = TrainJob(
        run_id=claim.run_id,
        epoch=claim.epoch,
        spec=claim.spec,
        model_location=str(model),
        dataset_file=str(dataset),
        labels=tiny.LABELS,
        trial=claim.trial,
        output=str(output),
        weight_delta_seconds=0,
        device="cpu",
        threads=1,
        claimed_at=claim.claimed_at.timestamp(),
    )
    return Attempt(job, recorder).run(), recorder


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_search_by_tpe_trains_its_trials_and_then_the_runs_that_count(
    registered: Database, files: Files, bell: SilentBell, tmp_path: Path
) -> None:
    study, model = submitted(registered, bell, files), tiny.save_model(tmp_path / "model")
    dataset = tiny.save_rows(tmp_path / "words.parquet", tiny.rows())
    while queued := [run for run in rows(registered, study) if run.status == RunStatus.QUEUED]:
        for run in queued:
            with registered.transaction() as session:
                claim = attempts.claim(session, run.id, "w1", 600)
            assert claim is not None
            output = tmp_path / f"run-{run.id}"
            result, recorder = train(claim, model, dataset, output)
            tested = {evaluation.split for evaluation, _items, _scores in recorder.evaluations}
            assert ("test" in tested) != claim.trial, "a trial never reads the test split"
            assert not claim.trial or not list(output.rglob("*.safetensors")), "nor does it keep weights"
            with registered.transaction() as session:
                for evaluation, items, scores in recorder.evaluations:
                    evaluations.add(session, run.id, evaluation, items, scores)
                attempts.finish(session, bell, claim, result, {file.name: file.name for file in result.artifacts})
    with registered.reading() as session:
        found = studies.comparison(session, study)
        assert not session.get_one(StudyRow, study).tuning
    assert found.complete and not found.failures
    for arm in found.arms:
        tuning = arm.tuning
        assert tuning and tuning.chosen and (tuning.used, tuning.budget) == (TRIALS, TRIALS)
        configurations = [trial.configuration for trial in tuning.trials]
        assert len(set(configurations)) == TRIALS
        assert all(RATES["low"] <= (one.learning_rate or 0) <= RATES["high"] for one in configurations)
        assert tuning.seconds > 0 and tuning.tokens > 0
        best = max(trial.score or 0.0 for trial in tuning.trials)
        [chosen] = [trial for trial in tuning.trials if trial.configuration == tuning.chosen]
        assert chosen.score == best > 1 / len(tiny.LABELS), "the best on validation, and better than a guess"
        assert [run.seed for run in arm.runs] == SEEDS and arm.score and arm.score.seeds == len(SEEDS)
        finals = [run for run in rows(registered, study) if run.arm == arm.title and run.trial_round is None]
        assert {run.learning_rate for run in finals} == {tuning.chosen.learning_rate}
    ranks = {trial.configuration.r for trial in found.arms[1].trials}
    assert ranks <= {2, 4, 8} and len(ranks) > 1
    assert found.others[0].verdict is not None
