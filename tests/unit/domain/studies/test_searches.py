"""Searches: their spaces, budgets and samplers."""

from collections.abc import Callable
from dataclasses import replace
from math import log10
from typing import Any

import pytest
from pydantic import ValidationError

from app.domain.failures import Failure, FailureCode
from app.domain.methods import LoraSpec
from app.domain.runs.status import RunStatus
from app.domain.runs.training import TrainingBudget
from app.domain.studies.arms import ArmSpec
from app.domain.studies.budget_checks import budget_problem, least_rows, seconds_problem, unchecked_arms
from app.domain.studies.next_step import AllFailed, Chosen, Step, Suggest, Try, Wait, next_step
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.search_space import Configuration, DimensionSpec, SearchSpace, edge
from app.domain.studies.tuning.tpe import suggest
from app.domain.studies.tuning.trials import Trial, cost, tried
from app.domain.studies.tuning.tuning import FIRST_SEED, RandomTuning, TpeTuning, trials_owed
from app.web.http.errors import field_errors
from app.words.studies.tuning import unchecked_budget

FULL = {"method": {"kind": "full"}}


def study(search: dict[str, Any], tuning: Any = "random", **values: Any) -> StudySpec:
    arm = {"method": {"kind": "lora", "r": 8, "lora_alpha": 32}, "search": search}
    usual = {"name": "s", "base_model": "m", "dataset": "d", "arms": [arm]}
    return StudySpec.model_validate(usual | {"tuning": tuning} | values)


def mistakes(search: dict[str, Any], tuning: Any = "random", **values: Any) -> list[tuple[str, str, str]]:
    with pytest.raises(ValidationError) as error:
        study(search, tuning, **values)
    return [(f.path, str(f.message), str(f.remedy)) for f in field_errors(error.value.errors())]


def test_a_grid_has_every_combination_and_is_even_on_its_scale() -> None:
    space = SearchSpace(learning_rate=DimensionSpec(values=(1e-4, 1e-3)), r=DimensionSpec(low=4, high=16))
    assert [(c.learning_rate, c.r) for c in space.grid(3)] == [
        (1e-4, 4), (1e-4, 8), (1e-4, 16), (1e-3, 4), (1e-3, 8), (1e-3, 16)
    ]  # fmt: skip
    assert space.size == 6
    space = SearchSpace(learning_rate=DimensionSpec(low=1e-4, high=1e-2), weight_decay=DimensionSpec(low=0, high=0.1))
    assert [c.learning_rate for c in space.grid(3)][::3] == [1e-4, 1e-3, 1e-2]
    assert [c.weight_decay for c in space.grid(3)][:3] == [0, 0.05, 0.1]


def test_the_same_seed_draws_the_same_configurations_whatever_was_taken_from_them() -> None:
    space = SearchSpace(learning_rate=DimensionSpec(low=1e-5, high=1e-2), batch_size=DimensionSpec(low=8, high=64))
    ten = space.draw(10, seed=3)
    assert len(set(ten)) == 10
    assert space.draw(4, 3) + space.draw(6, 3, without=space.draw(4, 3)) == ten
    assert space.draw(10, seed=4) != ten
    assert all(1e-5 <= (c.learning_rate or 0) <= 1e-2 and c.batch_size in (8, 16, 32, 64) for c in ten)
    low = sum((c.learning_rate or 0) < 1e-3 for c in space.draw(400, 1))
    assert 240 <= low <= 290, "two of three decades lie below 1e-3"


def test_a_finite_space_is_drawn_from_until_nothing_is_left() -> None:
    space = SearchSpace(r=DimensionSpec(values=(4, 8, 16)), num_train_epochs=DimensionSpec(low=1, high=3))
    assert len(space.draw(50, 0)) == space.size == 9
    tiny = SearchSpace(learning_rate=DimensionSpec(low=1.0, high=1.01))
    assert len(tiny.draw(50, 0)) == 2, "three digits are all that is drawn"


def test_alpha_keeps_its_ratio_to_the_rank_unless_it_is_searched() -> None:
    arm = ArmSpec(method=LoraSpec(r=8, lora_alpha=32))
    budget = TrainingBudget()
    sixteen = arm.at(Configuration(r=16), budget).method
    assert isinstance(sixteen, LoraSpec)
    assert (sixteen.r, sixteen.lora_alpha) == (16, 64)
    own = arm.at(Configuration(r=16, lora_alpha=8), budget).method
    assert isinstance(own, LoraSpec)
    assert (own.r, own.lora_alpha) == (16, 8)
    assert arm.at(Configuration(learning_rate=1), budget).method == arm.method
    assert arm.at(Configuration(), budget) is arm


def test_searched_epochs_replace_the_budgets_steps_and_a_searched_rank_names_no_arm() -> None:
    spec = study({"num_train_epochs": [1, 2]}, {"kind": "grid", "rates": 2}, training={"max_steps": 9})
    training = spec.run(spec.arms[0], 0, Configuration(num_train_epochs=2)).training
    assert (training.num_train_epochs, training.max_steps) == (2, None)
    assert study({"r": [4, 8, 16]}, "grid").arms[0].title == "LoRA r tuned"


@pytest.mark.parametrize(
    ("size", "micro", "steps"), [(8, 8, 1), (16, 16, 1), (64, 16, 4), (24, 12, 2), (37, 1, 37), (1, 1, 1)]
)
def test_a_batch_size_needs_no_more_memory_than_the_budgets(size: int, micro: int, steps: int) -> None:
    spec = study({"batch_size": [size, 4096]}, {"kind": "grid", "rates": 2})
    training = spec.run(spec.arms[0], 0, Configuration(batch_size=size)).training
    assert (training.per_device_train_batch_size, training.gradient_accumulation_steps) == (micro, steps)


def test_a_trial_has_the_arguments_of_its_configuration_for_the_share_of_its_round() -> None:
    spec = study({"num_train_epochs": [2, 4], "weight_decay": [0, 0.1], "warmup_steps": [10, 20]}, "halving")
    configuration = Configuration(num_train_epochs=4, weight_decay=0.1, warmup_steps=20)
    [trial] = spec.trials(spec.arms[0], 0, [configuration])
    training = trial.spec.training
    assert training.num_train_epochs == pytest.approx(4 / 3)
    assert (training.weight_decay, training.warmup_steps) == (0.1, pytest.approx(20 / 3))
    assert (trial.seed, trial.configuration, trial.trial_round) == (FIRST_SEED, configuration, 0)
    [run] = spec.owed({"LoRA r=8": configuration})[:1]
    assert (run.spec.training.num_train_epochs, run.trial_round) == (4, None)


def test_the_rates_alone_are_short_for_a_space() -> None:
    arm = ArmSpec.model_validate({"method": {"kind": "full"}, "learning_rates": [1e-5, 2e-5]})
    assert arm.search == SearchSpace(learning_rate=DimensionSpec(values=(1e-5, 2e-5)))
    assert ArmSpec.model_validate(arm.model_dump(mode="json")) == arm


def test_a_random_search_without_a_space_covers_two_decades() -> None:
    spec = study({"r": [4, 8]}, arms=[FULL])
    rate, dimension = spec.arms[0].rate, spec.space(spec.arms[0]).learning_rate
    assert dimension is not None
    assert (dimension.low, dimension.high) == pytest.approx((rate / 10, rate * 10))
    assert trials_owed(spec.tuning, spec.space(spec.arms[0])) == 12


@pytest.mark.parametrize(
    ("search", "values", "path", "says"),
    [
        ({"learning_rate": {"low": 1e-3, "high": 1e-3}}, {}, "learning_rate.high", "is empty"),
        ({"learning_rate": {"low": 0, "high": 1e-3}}, {}, "learning_rate.low", "logarithmic range cannot begin at 0"),
        ({"weight_decay": {"low": 0, "high": 1, "log": True}}, {}, "weight_decay.low", "logarithmic"),
        ({"learning_rate": {"low": 1e-3}}, {}, "learning_rate.high", "needs low and high"),
        ({"learning_rate": []}, {}, "learning_rate.values", "1 or more"),
        ({"learning_rate": {"low": 1e-4, "high": 99}}, {}, "learning_rate", "is not possible"),
        ({"r": [0, 8]}, {}, "r", "Must be 1 or more"),
        ({"r": [2.5, 8]}, {}, "r.values.0", "not a whole number"),
        ({"r": {"low": 9, "high": 15}}, {}, "r.high", "no power of two"),
        ({"num_train_epochs": [1, 2], "max_steps": [5, 9]}, {}, "max_steps", "both searched"),
        ({"warmup_steps": {"low": 0, "high": 100}}, {}, "warmup_steps.high", "share of the steps"),
        ({"dropout": [0.1]}, {}, "dropout", "no such field"),
    ],
)
def test_a_contradictory_space_is_refused(search: dict[str, Any], values: dict[str, Any], path: str, says: str) -> None:
    [(found, message, _remedy), *_others] = mistakes(search, **values)
    assert found == f"arms.0.search.{path}"
    assert says in message


def test_a_rank_is_searched_only_where_the_method_has_one() -> None:
    [(path, message, remedy)] = mistakes({}, arms=[{**FULL, "search": {"r": [4, 8]}}])
    assert path == "arms.0.search.r"
    assert message == "The method full has no r"
    assert remedy


@pytest.mark.parametrize(
    ("tuning", "path", "says"),
    [
        ({"kind": "random", "budget": 1}, "tuning.budget", "fits 1 configurations"),
        ({"kind": "tpe", "budget": 5, "seeds": 3}, "tuning.budget", "fits 1 configurations"),
        ({"kind": "tpe", "budget": 2.5}, "tuning.budget", "not a number of trials"),
        ({"kind": "tpe", "budget": 0, "unit": "tokens"}, "tuning.budget", "above 0"),
        ({"kind": "tpe", "budget": 9, "unit": "hours"}, "tuning.unit", "one of"),
    ],
)
def test_a_budget_that_fits_no_search_is_refused(tuning: dict[str, Any], path: str, says: str) -> None:
    [(found, message, _remedy)] = mistakes({"r": {"low": 4, "high": 64}}, tuning)
    assert found == path
    assert says in message


def test_a_space_that_is_smaller_than_the_budget_is_refused() -> None:
    [(path, message, remedy)] = mistakes({"r": [4, 8]}, {"kind": "tpe", "budget": 5})
    assert path == "arms.0.search"
    assert message == "The arm 'LoRA r tuned' tries 2 configurations, but every arm gets the same tuning budget of 5"
    assert remedy == "Widen the search space, or lower the budget of all arms"


def test_every_arm_has_a_grid_of_the_same_size() -> None:
    lora = {"method": {"kind": "lora"}, "search": {"learning_rate": [1e-3, 2e-3], "r": [4, 8]}}
    four = {**FULL, "search": {"learning_rate": [1e-5, 2e-5, 3e-5, 4e-5]}}
    assert len(study({}, "grid", arms=[four, lora]).first_trials()) == 8
    [(path, message, _remedy)] = mistakes({}, "grid", arms=[FULL, lora])
    assert path == "arms.0.search.learning_rate"
    assert message == "The arm 'full' tries 3 configurations, but every arm gets the same tuning budget of 4"


def test_a_grid_is_counted_and_not_built_before_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def built(_space: SearchSpace, _points: int) -> tuple[Configuration, ...]:
        raise AssertionError("this grid has 64⁴ combinations")

    monkeypatch.setattr(SearchSpace, "grid", built)
    search: dict[str, Any] = {
        "learning_rate": [place * 1e-5 for place in range(1, 65)],
        "r": list(range(1, 65)),
        "num_train_epochs": list(range(1, 65)),
        "weight_decay": [place * 1e-3 for place in range(64)],
    }
    one = {"method": {"kind": "lora"}, "search": {"learning_rate": [1e-3, 2e-3], "r": [4, 8]}}
    [(path, message, remedy)] = mistakes({}, "grid", arms=[one, {**one, "name": "large", "search": search}])
    assert path == "arms.1.search"
    assert message == f"The grid of the arm 'large' has {64**4} combinations"
    assert remedy == "Use at most 256, or random or tpe"


@pytest.mark.parametrize(
    ("name", "high"), [("num_train_epochs", 1e300), ("max_steps", 1e19), ("r", 1e308), ("batch_size", 1e308)]
)
@pytest.mark.parametrize("tuning", ["random", "grid"])
def test_a_range_beyond_all_numbers_is_refused(name: str, high: float, tuning: str) -> None:
    [(path, message, _remedy)] = mistakes({name: {"low": 1, "high": high}}, tuning)
    assert path == f"arms.0.search.{name}"
    assert "is not possible" in message


def test_whole_numbers_are_drawn_within_fractional_bounds() -> None:
    dimension = DimensionSpec(low=0.3, high=100.7, log=True)
    space = SearchSpace(num_train_epochs=dimension)
    drawn = {one.num_train_epochs or 0 for one in (*space.grid(200), *space.draw(100, 0))}
    assert (min(drawn), max(drawn)) == (1, 100)
    assert all(value == int(value) for value in drawn)
    assert (edge("num_train_epochs", dimension, 1), edge("num_train_epochs", dimension, 100)) == ("smallest", "largest")


@pytest.mark.parametrize(("tuning", "wanted"), [("halving", 6), ("random", 12), ({"kind": "tpe", "budget": 5}, 5)])
def test_a_range_with_fewer_values_than_the_budget_is_refused(tuning: Any, wanted: int) -> None:
    search = {"learning_rate": {"low": 1.0, "high": 1.01}, "r": [4, 8]}
    [(path, message, _remedy)] = mistakes(search, tuning)
    assert path == "arms.0.search"
    assert f"tries 4 configurations, but every arm gets the same tuning budget of {wanted}" in message


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
    tuning: RandomTuning | TpeTuning, space: SearchSpace, score: Callable[[Configuration], float | None], **values: Any
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


def test_seeds_count_as_trials_and_a_random_search_is_queued_at_once() -> None:
    step = next_step(RandomTuning(budget=9, seeds=2), RATES, ())
    assert isinstance(step, Try)
    assert len(step.configurations) == 4
    step = next_step(RandomTuning(budget=6), RATES, ())
    assert isinstance(step, Try)
    assert len(step.configurations) == 6
    waiting = [trial(step.configurations[0], 0.5), trial(step.configurations[1], None, 2, status=RunStatus.RUNNING)]
    assert next_step(RandomTuning(budget=2), RATES, waiting) == Wait()


@pytest.mark.parametrize(("unit", "each", "budget"), [("tokens", 1000, 10_500), ("seconds", 20, 210)])
@pytest.mark.parametrize("kind", [RandomTuning, TpeTuning])
def test_tokens_and_seconds_are_not_exceeded(kind: type[RandomTuning], unit: Any, each: float, budget: float) -> None:
    trials, step = play(kind(budget=budget, unit=unit), RATES, near)
    assert isinstance(step, Chosen)
    assert len(trials) == 10
    assert cost(unit, trials) == 10 * each <= budget


def test_a_search_ends_with_its_budget_its_space_or_failures() -> None:
    trials, step = play(TpeTuning(budget=5, unit="seconds"), RATES, near)
    assert len(trials) == 1
    assert step == Chosen(trials[0].configuration)
    one = RATES.draw(1, 0)[0]
    trials = [trial(one, 0.5, tokens=1000, steps=10), trial(one, None, 2, steps=5)]
    assert cost("tokens", trials) == 1500
    assert cost("tokens", trials[1:]) == 0
    assert (cost("trials", trials), cost("seconds", trials)) == (2, 40)
    trials, step = play(RandomTuning(budget=1e9, unit="tokens"), RATES, lambda _one: None)
    assert step == AllFailed()
    assert len(trials) <= 12
    assert play(TpeTuning(budget=7), RATES, lambda _one: None)[1] == AllFailed()
    two = SearchSpace(learning_rate=DimensionSpec(low=1.0, high=1.01))
    for tuning in (RandomTuning(budget=1e9, unit="seconds"), TpeTuning(budget=1e9, unit="tokens")):
        trials, step = play(tuning, two, lambda _one: 0.5)
        assert len(trials) == 2
        assert isinstance(step, Chosen)
    trials, _step = play(TpeTuning(budget=4), SearchSpace(r=DimensionSpec(values=(4, 8, 16, 32))), lambda _one: 0.5)
    assert sorted(one.configuration.r or 0 for one in trials) == [4, 8, 16, 32]


def test_tpe_is_deterministic_better_than_chance_and_avoids_failures() -> None:
    first, again = (play(TpeTuning(budget=20), BOTH, near)[0] for _ in range(2))
    assert first == again
    other = play(TpeTuning(budget=20, seed=100), BOTH, near)[0]
    assert [one.configuration for one in other] != [one.configuration for one in first]
    guided = [one.score or 0 for seed in range(8) for one in play(TpeTuning(budget=20, seed=seed), BOTH, near)[0][10:]]
    drawn = [one.score or 0 for seed in range(8) for one in play(RandomTuning(budget=20, seed=seed), BOTH, near)[0]]
    assert sum(guided) / len(guided) > sum(drawn) / len(drawn) + 0.02
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
def test_too_few_tokens_are_refused(budget: float, seeds: int, search: list[int] | None, least: int | None) -> None:
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
def test_seconds_below_two_trials_are_refused(budget: float, change: dict[str, Any], least: int | None) -> None:
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
