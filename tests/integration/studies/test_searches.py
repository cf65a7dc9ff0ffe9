"""Searches of several hyperparameters while a study is under way, on SQLite and on PostgreSQL."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from app.domain.comparison.fairness.confounders import ConfounderKind
from app.domain.errors import Invalid
from app.domain.methods import LoraSpec
from app.domain.runs.result import RunResult
from app.domain.runs.status import RunStatus
from app.domain.studies.next_step import RANDOM_FIRST
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.search_space import Configuration
from app.services.comparison import compare
from app.services.runs import attempts
from app.services.studies import studies, tuning
from app.store.database.session import Database
from app.store.runs import queries as run_queries
from app.store.tables import RunRow, StudyRow
from app.words.studies.tuning import tuning_remark
from tests.support.fakes.fakes import SilentBell
from tests.support.filled import filled
from tests.support.rows.results import evaluation, result

FULL = {"method": {"kind": "full"}}
SPACE = {
    "learning_rate": {"low": 1e-4, "high": 1e-1},
    "batch_size": [4, 8, 32],
    "r": [2, 4],
    "num_train_epochs": [1, 2],
    "weight_decay": {"low": 0, "high": 0.1},
}
LORA = {"method": {"kind": "lora", "r": 4, "lora_alpha": 8}, "search": SPACE}


def submitted(db: Database, bell: SilentBell, tuning: Any, *arms: Any) -> int:
    body = {"name": "s", "base_model": "tiny", "dataset": "small", "seeds": [0, 1], "tuning": tuning}
    spec = StudySpec.model_validate(body | {"arms": arms or (FULL, LORA)})
    with db.transaction() as session:
        return studies.submit(session, bell, spec).id


def rows(db: Database, study_id: int, arm: str = "") -> list[RunRow]:
    with db.reading() as session:
        query = select(RunRow).where(RunRow.study_id == study_id).order_by(RunRow.id)
        return [run for run in session.scalars(query) if not arm or run.arm == arm]


def scored(score: float, tokens: int = 1000) -> RunResult:
    validation = evaluation("adapted", "validation", score)
    return result().model_copy(update={"evaluations": [validation], "tokens": tokens})


def play(db: Database, bell: SilentBell, study_id: int, score: Callable[[RunRow], float], tokens: int = 1000) -> None:
    """End everything that is queued until nothing is."""
    while queued := [run for run in rows(db, study_id) if run.status == RunStatus.QUEUED]:
        for run in queued:
            with db.transaction() as session:
                mine = attempts.claim(session, run.id, "w1", 45)
                assert mine is not None
                assert mine.trial == (run.trial_round is not None)
            with db.transaction() as session:
                attempts.finish(session, bell, mine, scored(score(run), tokens), {})


def small_steps(run: RunRow) -> float:
    return 0.9 if (run.learning_rate or 0) < 1e-3 else 0.5


@pytest.mark.slow
def test_tpe_begins_at_random_and_then_suggests_one_after_the_other(registered: Database, bell: SilentBell) -> None:
    study = submitted(registered, bell, {"kind": "tpe", "budget": 12})
    first = rows(registered, study)
    assert [run.arm for run in first] == ["full", "LoRA r tuned"] * RANDOM_FIRST
    play(registered, bell, study, small_steps)
    by_arm = {arm: rows(registered, study, arm) for arm in ("full", "LoRA r tuned")}
    for runs in by_arm.values():
        trials = [run for run in runs if run.trial_round is not None]
        assert len({run.configuration for run in trials}) == len(trials) == 12
        assert [run.seed for run in runs if run.trial_round is None] == [0, 1]
    trial = by_arm["LoRA r tuned"][7]
    assert set(trial.configuration.values) == set(SPACE)
    method, training = trial.spec.method, trial.spec.training
    assert isinstance(method, LoraSpec)
    assert (method.r, method.lora_alpha) == (trial.configuration.r, 2 * method.r)
    size = training.per_device_train_batch_size * training.gradient_accumulation_steps
    assert (size, training.per_device_train_batch_size) == (trial.configuration.batch_size, min(size, 16))
    assert trial.spec.general_text is None
    with registered.reading() as session:
        found = studies.comparison(session, study)
        assert not session.get_one(StudyRow, study).tuning
    lora = found.arms[1]
    assert lora.tuning and lora.configuration == lora.tuning.chosen
    assert (lora.tuning.used, lora.tuning.budget, lora.tuning.tokens) == (12, 12, 12_000)
    final = [run for run in by_arm["LoRA r tuned"] if run.trial_round is None]
    assert {run.learning_rate for run in final} == {lora.configuration.learning_rate}
    assert {run.spec.training.num_train_epochs for run in final} == {lora.configuration.num_train_epochs}


@pytest.mark.slow
def test_the_same_trials_are_suggested_in_another_study(registered: Database, bell: SilentBell) -> None:
    configurations = []
    for seed in (0, 0, 1):
        study = submitted(registered, bell, {"kind": "tpe", "budget": 8, "seed": seed}, LORA)
        play(registered, bell, study, small_steps)
        configurations.append([run.configuration for run in rows(registered, study) if run.trial_round is not None])
    assert configurations[0] == configurations[1] != configurations[2]


def test_arms_with_a_budget_of_tokens_use_as_many(registered: Database, bell: SilentBell) -> None:
    study = submitted(registered, bell, {"kind": "random", "budget": 10_000, "unit": "tokens"})
    play(registered, bell, study, small_steps)
    with registered.reading() as session:
        found = studies.comparison(session, study)
    assert [arm.tuning and arm.tuning.used for arm in found.arms] == [10_000, 10_000]
    assert [len(arm.trials) for arm in found.arms] == [10, 10]
    assert found.complete


def test_what_the_searches_chose_differently_is_a_confounder(registered: Database, bell: SilentBell) -> None:
    full = {**FULL, "search": {"batch_size": [4, 8]}}
    lora = {**LORA, "search": {"batch_size": [16, 32]}}
    study = submitted(registered, bell, {"kind": "grid", "rates": 2}, full, lora)
    play(registered, bell, study, lambda run: 0.5)
    with registered.reading() as session:
        found = studies.comparison(session, study)
    [batch] = [confounder for confounder in found.confounders if confounder.kind == "batch_size"]
    assert batch.values == {"4": ("full",), "16": ("LoRA r=4",)}
    assert [one.values for one in found.conditions if one.name == "batch"] == [{"full": "4", "LoRA r=4": "16"}]


@pytest.mark.parametrize(
    ("arm", "path", "says"),
    [
        ({**LORA, "search": {"r": [2, 4096]}}, "arms.0.search.r", "adds nothing"),
        ({**LORA, "search": {"r": [2, 5000]}}, "arms.0.search.r", "Must be 4096 or less"),
    ],
)
def test_a_rank_that_the_model_does_not_have_is_refused(
    registered: Database, bell: SilentBell, arm: Any, path: str, says: str
) -> None:
    with pytest.raises((Invalid, ValueError)) as error:
        submitted(registered, bell, {"kind": "random", "budget": 2}, arm)
    if isinstance(error.value, Invalid):
        assert [field.path for field in error.value.fields] == [path]
    assert says in str(error.value)
    assert rows(registered, 1) == []


def untuned(db: Database, study_id: int) -> list[tuple[str, ...]]:
    """The arms whose rates were not tuned, by the study and by the comparison of its runs, which get test scores."""
    with db.transaction() as session:
        for run in run_queries.of_study(session, study_id):
            if run.trial_round is None:
                filled.succeed(session, run)
    with db.reading() as session:
        both = [
            studies.comparison(session, study_id),
            compare.compare(session, compare.Selection(studies=(study_id,))).strict,
        ]
        return [
            next((one.arms for one in found.confounders if one.kind is ConfounderKind.UNTUNED), ()) for found in both
        ]


def test_an_arm_whose_search_leaves_the_rate_out_was_not_tuned(registered: Database, bell: SilentBell) -> None:
    lora = {**LORA, "search": {"r": [2, 4]}}
    study = submitted(registered, bell, {"kind": "grid", "rates": 2}, FULL | {"learning_rates": [1e-4, 2e-4]}, lora)
    play(registered, bell, study, lambda run: 0.5)
    assert untuned(registered, study) == [("LoRA r tuned",), ("LoRA r tuned",)]


def test_an_arm_whose_budget_ended_after_one_trial_was_not_tuned(registered: Database, bell: SilentBell) -> None:
    study = submitted(registered, bell, {"kind": "random", "budget": 150, "unit": "tokens"}, FULL)
    play(registered, bell, study, lambda run: 0.5)
    assert [run.trial_round for run in rows(registered, study)] == [0, None, None]
    assert untuned(registered, study) == [("full",), ("full",)]
    with registered.reading() as session:
        [arm] = studies.comparison(session, study).arms
    assert tuning_remark(arm) == "The budget ended after one configuration, so it was compared with no other."


def test_a_budget_of_tokens_that_fits_no_two_trials_queues_nothing(registered: Database, bell: SilentBell) -> None:
    with pytest.raises(Invalid) as error:
        submitted(registered, bell, {"kind": "random", "budget": 1, "unit": "tokens"})
    assert [field.path for field in error.value.fields] == ["tuning.budget"]
    assert "at least 144 tokens" in str(error.value)  # 3 epochs of 24 rows, twice
    assert rows(registered, 1) == []


def test_a_sampler_that_fails_is_replaced_by_chance(
    registered: Database, bell: SilentBell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_args: object) -> Configuration:
        raise ValueError("no suggestion")

    monkeypatch.setattr(tuning, "suggest", fails)
    study = submitted(registered, bell, {"kind": "tpe", "budget": 8}, LORA)
    play(registered, bell, study, small_steps)
    assert len({run.configuration for run in rows(registered, study) if run.trial_round is not None}) == 8
    assert len(rows(registered, study)) == 8 + 2
