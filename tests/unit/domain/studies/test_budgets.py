"""Searches with a budget: random ones and TPE, in trials, tokens and device-seconds."""

from collections.abc import Callable
from dataclasses import replace
from math import log10
from typing import Any

import pytest

from app.domain.failures import Failure, FailureCode
from app.domain.runs.status import RunStatus
from app.domain.runs.training import TrainingBudget
from app.domain.studies.budget_checks import budget_problem, least_rows, seconds_problem, unchecked_arms
from app.domain.studies.next_step import AllFailed, Chosen, Step, Suggest, Try, Wait, next_step
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.search_space import Configuration, DimensionSpec, SearchSpace
from app.domain.studies.tuning.tpe import suggest
from app.domain.studies.tuning.trials import Trial, cost, tried
from app.domain.studies.tuning.tuning import FIRST_SEED, RandomTuning, TpeTuning
from app.words.studies.tuning import unchecked_budget

RATES = SearchSpace(learning_rate=DimensionSpec(low=1e-5, high=1e-1))
BOTH = SearchSpace(learning_rate=DimensionSpec(low=1e-5, high=1e-1), r=DimensionSpec(values=(4, 8, 16, 32)))
DIVERGED = Failure(code=FailureCode.DIVERGED, message="not finite")


def trial(configuration: Configuration, score: float | None, number: int = 1, **values: Any) -> Trial:
    usual = {"arm": "a", "round": 0, "seed": FIRST_SEED, "steps": 10, "seconds": 20.0, "tokens": 1000, "rate": 1e-3}
    if score is None:
        usual |= {"status": RunStatus.FAILED, "failure": DIVERGED, "tokens": None}
    else:
        usual |= {"status": RunStatus.SUCCEEDED, "score": score, "loss": 1 - score, "items": 100}
    return Trial(run_id=number, configuration=configuration, **(usual | values))


def play(
    tuning: RandomTuning | TpeTuning,
    space: SearchSpace,
    score: Callable[[Configuration], float | None],
    **values: Any,
) -> tuple[list[Trial], Step]:
    """All trials of an arm, and the step after them."""
    trials: list[Trial] = []
    while True:
        step = next_step(tuning, space, trials)
        match step:
            case Try():
                more = list(step.configurations)
            case Suggest():
                more = [suggest(space, tuning.seed, tried(trials, 0))]
            case _:
                return trials, step
        assert more, "a step without trials would never end"
        trials += [trial(one, score(one), len(trials) + place, **values) for place, one in enumerate(more)]


def near(configuration: Configuration) -> float:
    """Best at 1e-3, by decades away from it."""
    return 0.9 - 0.1 * abs(log10(configuration.learning_rate or 1) + 3)


@pytest.mark.parametrize("kind", [RandomTuning, TpeTuning])
def test_a_budget_of_trials_is_used_up_exactly(kind: type[RandomTuning]) -> None:
    trials, step = play(kind(budget=9), BOTH, near)
    assert len(trials) == 9
    best = max(trials, key=lambda one: one.score or 0)
    assert step == Chosen(best.configuration)


def test_seeds_count_as_trials() -> None:
    step = next_step(RandomTuning(budget=9, seeds=2), RATES, ())
    assert isinstance(step, Try)
    assert len(step.configurations) == 4


def test_a_random_search_of_trials_is_queued_at_once() -> None:
    step = next_step(RandomTuning(budget=6), RATES, ())
    assert isinstance(step, Try)
    assert len(step.configurations) == 6
    waiting = [trial(step.configurations[0], 0.5), trial(step.configurations[1], None, 2, status=RunStatus.RUNNING)]
    assert next_step(RandomTuning(budget=2), RATES, waiting) == Wait()


@pytest.mark.parametrize(("unit", "each", "budget"), [("tokens", 1000, 10_500), ("seconds", 20, 210)])
@pytest.mark.parametrize("kind", [RandomTuning, TpeTuning])
def test_a_budget_of_tokens_or_seconds_is_used_and_not_exceeded(
    kind: type[RandomTuning], unit: Any, each: float, budget: float
) -> None:
    trials, step = play(kind(budget=budget, unit=unit), RATES, near)
    assert isinstance(step, Chosen)
    assert len(trials) == 10
    assert cost(unit, trials) == 10 * each <= budget


def test_a_budget_below_the_first_trial_ends_with_it() -> None:
    trials, step = play(TpeTuning(budget=5, unit="seconds"), RATES, near)
    assert len(trials) == 1
    assert step == Chosen(trials[0].configuration)


def test_tokens_of_a_failed_trial_are_those_of_its_steps() -> None:
    one = RATES.draw(1, 0)[0]
    trials = [trial(one, 0.5, tokens=1000, steps=10), trial(one, None, 2, steps=5)]
    assert cost("tokens", trials) == 1500
    assert cost("tokens", trials[1:]) == 0
    assert (cost("trials", trials), cost("seconds", trials)) == (2, 40)


def test_an_arm_that_always_fails_does_not_search_for_ever() -> None:
    trials, step = play(RandomTuning(budget=1e9, unit="tokens"), RATES, lambda _one: None)
    assert step == AllFailed()
    assert len(trials) <= 12
    assert play(TpeTuning(budget=7), RATES, lambda _one: None)[1] == AllFailed()


def test_a_space_that_is_used_up_ends_the_search() -> None:
    two = SearchSpace(learning_rate=DimensionSpec(low=1.0, high=1.01))
    for tuning in (RandomTuning(budget=1e9, unit="seconds"), TpeTuning(budget=1e9, unit="tokens")):
        trials, step = play(tuning, two, lambda _one: 0.5)
        assert len(trials) == 2
        assert isinstance(step, Chosen)
    trials, _step = play(TpeTuning(budget=4), SearchSpace(r=DimensionSpec(values=(4, 8, 16, 32))), lambda _one: 0.5)
    assert sorted(one.configuration.r or 0 for one in trials) == [4, 8, 16, 32]


def test_tpe_is_deterministic_and_finds_better_rates_than_chance() -> None:
    first, again = (play(TpeTuning(budget=20), BOTH, near)[0] for _ in range(2))
    assert first == again
    other = play(TpeTuning(budget=20, seed=100), BOTH, near)[0]
    assert [one.configuration for one in other] != [one.configuration for one in first]
    guided = [one.score or 0 for seed in range(8) for one in play(TpeTuning(budget=20, seed=seed), BOTH, near)[0][10:]]
    drawn = [one.score or 0 for seed in range(8) for one in play(RandomTuning(budget=20, seed=seed), BOTH, near)[0]]
    assert sum(guided) / len(guided) > sum(drawn) / len(drawn) + 0.02


def test_tpe_avoids_where_trials_fail() -> None:
    trials, _step = play(TpeTuning(budget=24), RATES, lambda one: None if (one.learning_rate or 0) > 1e-3 else 0.5)
    late = [one.configuration.learning_rate or 0 for one in trials[12:]]
    assert sum(rate > 1e-3 for rate in late) < len(late) / 3, "by chance half of them would"


def test_tpe_goes_by_the_loss_where_a_metric_needs_generated_text() -> None:
    trials: list[Trial] = []
    for place, rate in enumerate((1e-5, 1e-4, 1e-3, 1e-2, 1e-1)):
        one = Configuration(learning_rate=rate)
        trials.append(replace(trial(one, near(one), place), score=None))
    suggested = [suggest(RATES, seed, tried(trials, 0)).learning_rate or 0 for seed in range(0, 1600, 16)]
    assert sum(1e-4 <= rate <= 1e-2 for rate in suggested) > 60


def test_tpe_searches_whole_numbers_within_fractional_bounds() -> None:
    space = SearchSpace(num_train_epochs=DimensionSpec(low=0.3, high=100, log=True))
    trials, step = play(TpeTuning(budget=12), space, lambda one: 0.5 - (one.num_train_epochs or 0) / 1000)
    assert isinstance(step, Chosen)
    assert len(trials) == 12
    assert all(one.configuration.num_train_epochs in range(1, 101) for one in trials)
    below = [trial(Configuration(num_train_epochs=0.3), 0.5), trial(Configuration(num_train_epochs=7), 0.4, 2)]
    assert suggest(space, 0, tried(below, 0)).num_train_epochs in range(1, 101)


@pytest.mark.parametrize(
    ("training", "rows"),
    [
        ({"num_train_epochs": 2}, 200),
        ({"num_train_epochs": 0.001}, 1),
        ({"train_fraction": 0.5, "num_train_epochs": 3}, 150),
        ({"max_steps": 14}, 200),  # 7 steps of an epoch see 100 rows
        ({"max_steps": 14, "gradient_accumulation_steps": 2}, 350),
        ({"max_steps": 14, "packing": True}, 14),
        ({"max_steps": 14, "early_stopping_patience": 1}, 1),
    ],
)
def test_a_run_trains_on_at_least_as_many_rows(training: dict[str, Any], rows: int) -> None:
    assert least_rows(TrainingBudget.model_validate(training), 100) == rows


@pytest.mark.parametrize(
    ("budget", "seeds", "search", "least"),
    [(1, 1, None, 600), (599, 1, None, 600), (600, 1, None, None), (600, 2, None, 1200), (599, 1, [1, 2], None)],
)
def test_a_budget_of_tokens_below_one_token_per_row_is_refused(
    budget: float, seeds: int, search: list[int] | None, least: int | None
) -> None:
    arm = {"method": {"kind": "full"}, "search": {"num_train_epochs": search} if search else None}
    tuning = {"kind": "random", "unit": "tokens", "budget": budget, "seeds": seeds}
    body = {"name": "s", "base_model": "m", "dataset": "d", "arms": [arm], "tuning": tuning}
    found = budget_problem(StudySpec.model_validate(body), 100)
    if least is None:
        assert found is None
    else:
        assert found is not None and found.path == "tuning.budget"
        assert f"at least {least} tokens" in str(found.message)


@pytest.mark.parametrize(
    ("budget", "change", "least"),
    [
        (59, {}, 60),
        (60, {}, None),
        (119, {"seeds": 2}, 120),
        (19, {"search": {"num_train_epochs": [1, 3]}}, 20),  # a third of the rows
        (20, {"search": {"num_train_epochs": [1, 3]}}, None),
        (59, {"search": {"num_train_epochs": [3, 9]}}, 60),
        (1, {"unit": "trials", "budget": 4}, None),
        (1, {"training": {"early_stopping_patience": 2}}, None),
    ],
)
def test_a_budget_of_seconds_below_two_trials_by_the_estimate_is_refused(
    budget: float, change: dict[str, Any], least: int | None
) -> None:
    tuning = {"kind": "tpe", "unit": "seconds", "budget": budget, "seeds": 1}
    tuning |= {name: change[name] for name in ("unit", "budget", "seeds") if name in change}
    arms = [{"method": {"kind": "full"}, "search": change.get("search")}, {"method": {"kind": "lora"}}]
    body = {"name": "s", "base_model": "m", "dataset": "d", "arms": arms, "tuning": tuning}
    spec = StudySpec.model_validate(body | {"training": change.get("training", {"num_train_epochs": 3})})
    found = seconds_problem(spec, 100, {"full": 30.0})
    if least is None:
        assert found is None
    else:
        assert found is not None and found.path == "tuning.budget" and found.remedy
        assert f"the arm 'full' train for at least {least} s" in str(found.message)


def test_arms_that_a_budget_of_seconds_is_not_checked_against_are_named_with_the_reason() -> None:
    tuning = {"kind": "random", "unit": "seconds", "budget": 100}
    arms = [{"method": {"kind": "full"}}, {"method": {"kind": "lora"}}]
    body = {"name": "s", "base_model": "m", "dataset": "d", "arms": arms, "tuning": tuning}
    spec = StudySpec.model_validate(body)
    full, lora = (arm.title for arm in spec.arms)
    known, both = {full: 1.0}, {full: 1.0, lora: 1.0}
    assert (unchecked_arms(spec, known), unchecked_arms(spec, both)) == ([lora], [])
    assert unchecked_budget(spec, {}).startswith("Not checked: no estimate says")
    assert unchecked_budget(spec, known).startswith(f"Not checked for {lora}: no estimate says")
    assert unchecked_budget(spec, both) == ""
    early = StudySpec.model_validate(body | {"training": {"early_stopping_patience": 2}})
    assert unchecked_arms(early, both) == [full, lora]
    assert unchecked_budget(early, both).startswith("Not checked: early stopping")
    assert unchecked_arms(StudySpec.model_validate(body | {"tuning": tuning | {"unit": "trials"}}), {}) == []


def test_a_budget_of_seconds_is_accepted_where_nothing_is_known_of_a_trial() -> None:
    tuning = {"kind": "random", "unit": "seconds", "budget": 0.1}
    body = {"name": "s", "base_model": "m", "dataset": "d", "arms": [{"method": {"kind": "full"}}], "tuning": tuning}
    assert seconds_problem(StudySpec.model_validate(body), 100, {}) is None
