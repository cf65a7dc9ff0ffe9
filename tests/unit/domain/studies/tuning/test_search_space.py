"""Search spaces: what is drawn, what a run makes of it, and which spaces contradict themselves."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.domain.methods import LoraSpec
from app.domain.runs.training import TrainingBudget
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.search_space import Configuration, DimensionSpec, SearchSpace, edge
from app.domain.studies.tuning.tuning import FIRST_SEED, trials_owed
from app.web.http.errors import field_errors

FULL = {"method": {"kind": "full"}}


def study(search: dict[str, Any], tuning: Any = "random", **values: Any) -> StudySpec:
    arm = {"method": {"kind": "lora", "r": 8, "lora_alpha": 32}, "search": search}
    usual = {"name": "s", "base_model": "m", "dataset": "d", "arms": [arm]}
    return StudySpec.model_validate(usual | {"tuning": tuning} | values)


def mistakes(search: dict[str, Any], tuning: Any = "random", **values: Any) -> list[tuple[str, str, str]]:
    with pytest.raises(ValidationError) as error:
        study(search, tuning, **values)
    return [(f.path, str(f.message), str(f.remedy)) for f in field_errors(error.value.errors())]


def test_a_grid_has_every_combination() -> None:
    space = SearchSpace(learning_rate=DimensionSpec(values=(1e-4, 1e-3)), r=DimensionSpec(low=4, high=16))
    assert [(c.learning_rate, c.r) for c in space.grid(3)] == [
        (1e-4, 4), (1e-4, 8), (1e-4, 16), (1e-3, 4), (1e-3, 8), (1e-3, 16)
    ]  # fmt: skip
    assert space.size == 6


def test_a_grid_over_a_range_is_even_on_its_scale() -> None:
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


def test_searched_epochs_replace_the_steps_of_the_budget() -> None:
    spec = study({"num_train_epochs": [1, 2]}, {"kind": "grid", "rates": 2}, training={"max_steps": 9})
    training = spec.run(spec.arms[0], 0, Configuration(num_train_epochs=2)).training
    assert (training.num_train_epochs, training.max_steps) == (2, None)


def test_an_arm_whose_rank_is_searched_is_not_named_after_one() -> None:
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
def test_a_contradictory_space_is_refused_at_its_field(
    search: dict[str, Any], values: dict[str, Any], path: str, says: str
) -> None:
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
