"""Recipes: what a file must have, what becomes of it on a base model, and the three outcomes."""

import tomllib
from fnmatch import fnmatch
from typing import Any

import pytest
import yaml

from app.domain.errors import Invalid
from app.domain.methods import LoraSpec
from app.features.recipes.rules.recipes import Condition, Outcome, Recipe
from app.features.recipes.rules.study import PARAMETER_TOLERANCE, study_of
from app.features.recipes.service import library, read
from app.settings import ROOT
from tests.support.filled.filled import bert, model_facts

FACTS = model_facts()
TASK = "sequence-classification"


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate(library()["attention-only"].model_dump() | changes)


@pytest.mark.parametrize("name", library())
def test_every_packaged_recipe_says_what_confirms_its_claim_and_where_it_is_from(name: str) -> None:
    one = library()[name]
    assert one.id == name and one.source.url.startswith("https://")
    words = one.rule.lower()
    assert "reproduced" in words and "not reproduced" in words and "undecided" in words
    assert {arm for check in one.checks for arm in check.statistic.arms} <= {arm.name for arm in one.study.arms}


def test_recipes_are_part_of_the_distribution_and_of_the_images() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert "recipes" in tools["packages"]["find"]["include"]
    patterns = tools["package-data"]["recipes"]
    assert all(any(fnmatch(file.name, one) for one in patterns) for file in (ROOT / "recipes").glob("*.[yj]*"))
    assert "!recipes" in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", [name for name, one in library().items() if one.study.task == TASK])
def test_every_recipe_of_classification_fits_the_sample_model(name: str) -> None:
    study = study_of(library()[name], "m", "d", None, FACTS, 5)
    assert [arm.title for arm in study.arms] == [arm.name for arm in library()[name].study.arms]
    assert not any(FACTS.incompatibility(arm.method, TASK) for arm in study.arms)


def test_attention_only_has_as_many_parameters_as_all_linear() -> None:
    whole, attention = study_of(library()["attention-only"], "m", "d", None, FACTS, 5).arms
    assert isinstance(whole.method, LoraSpec) and isinstance(attention.method, LoraSpec)
    assert attention.method.target_modules == [
        "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
    ]  # fmt: skip
    head = 5 * 384 + 5
    counts = [(FACTS.trainable_parameters(arm.method, TASK, 5) or 0) - head for arm in (whole, attention)]
    assert whole.method.r < attention.method.r
    assert counts[1] == pytest.approx(counts[0], rel=PARAMETER_TOLERANCE)


def test_a_model_of_another_task_is_refused_with_field_and_remedy() -> None:
    with pytest.raises(Invalid) as refused:
        study_of(library()["forgetting"], "MiniLM", "d", "text", FACTS, 1)
    [field] = refused.value.fields
    assert field.path == "base_model" and "does not support causal-lm" in field.message and field.remedy


def test_forgetting_needs_general_text() -> None:
    facts = FACTS.model_copy(update={"tasks": {"causal-lm": FACTS.tasks[TASK]}})
    with pytest.raises(Invalid, match="general text") as refused:
        study_of(library()["forgetting"], "m", "d", None, facts, 1)
    assert [field.path for field in refused.value.fields] == ["general_text"]


def test_where_no_rank_gives_as_many_parameters_the_model_is_refused() -> None:
    model = library()["attention-only"].model_dump()
    model["study"]["arms"][0]["method"] |= {"r": 1}  # all-linear of rank 1 has as many as attention of rank 2.3
    with pytest.raises(Invalid, match="No rank gives the arm 'attention-only' as many parameters"):
        study_of(Recipe.model_validate(model), "m", "d", None, FACTS, 5)


def test_a_model_without_named_attention_is_refused() -> None:
    task = FACTS.tasks[TASK]
    linear = [layer.model_copy(update={"name": f"net.{n}.dense"}) for n, layer in enumerate(task.linear)]
    facts = FACTS.model_copy(update={"tasks": {TASK: task.model_copy(update={"linear": linear})}})
    with pytest.raises(Invalid, match="part of its attention"):
        study_of(library()["attention-only"], "m", "d", None, facts, 5)


@pytest.mark.parametrize(
    ("condition", "interval", "holds"),
    [
        ({"below": 0}, (-3, -0.1), True),
        ({"below": 0}, (-3, 0.1), False),
        ({"above": -2}, (-1, 5), True),
        ({"above": -2, "below": 2}, (-1, 3), False),
        ({"contains": 10, "excludes": 1}, (5.6, 32), True),
        ({"contains": 10, "excludes": 1}, (0.9, 32), False),
        ({"excludes": 10}, (11, 32), True),
        ({"outside": 2}, (2.5, 4), True),
        ({"outside": 2}, (-4, -2.5), True),
        ({"outside": 2}, (-4, 4), False),
    ],
)
def test_conditions_are_about_the_whole_interval(
    condition: dict[str, float], interval: tuple[float, float], holds: bool
) -> None:
    assert Condition.model_validate(condition).holds(*interval) is holds


@pytest.mark.parametrize(
    ("interval", "outcome"),
    [
        ((-3.0, -0.5), Outcome.REPRODUCED),
        ((-1.5, -0.5), Outcome.REPRODUCED),  # worse, if only by little
        ((-1.5, 0.5), Outcome.NOT_REPRODUCED),
        ((-2.5, 0.5), Outcome.UNDECIDED),
        (None, Outcome.UNDECIDED),
    ],
)
def test_a_claim_has_one_of_three_outcomes(interval: tuple[float, float] | None, outcome: Outcome) -> None:
    assert library()["attention-only"].outcome([interval]) is outcome


def test_one_refuted_check_refutes_and_all_must_be_confirmed() -> None:
    ties = library()["variants-tie"]
    assert ties.outcome([(-1, 1), (-1, 1), (-1, 1)]) is Outcome.REPRODUCED
    assert ties.outcome([(-1, 1), (-1, 1), (-1, 2.5)]) is Outcome.UNDECIDED
    assert ties.outcome([(-1, 1), (-1, 1), (-5, -2.5)]) is Outcome.NOT_REPRODUCED


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"checks": []}, "1 or more entries"),
        ({"claim": ""}, "must not be empty"),
        ({"outcome": "reproduced"}, "no such field"),
    ],
)
def test_a_mistake_in_a_file_names_file_field_and_reason(changes: dict[str, Any], reason: str) -> None:
    broken = library()["attention-only"].model_dump(mode="json") | changes
    with pytest.raises(Invalid, match=f"(?i)recipe mine[.]yaml is invalid: .*{next(iter(changes))}.*{reason}"):
        read("mine.yaml", yaml.safe_dump(broken))


def test_a_check_reads_arms_that_exist() -> None:
    check = {
        "name": "x",
        "statistic": {"kind": "contrast", "weights": {"all-linear": 1, "elsewhere": -1}},
        "confirmed": {"below": 0},
        "refuted": {"above": 0},
    }
    with pytest.raises(ValueError, match="the arm 'elsewhere', which the study does not have"):
        recipe(checks=[check])


def test_weights_that_compare_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="do not add up to 0"):
        recipe(
            checks=[
                {
                    "name": "x",
                    "statistic": {"kind": "contrast", "weights": {"all-linear": 1, "attention-only": 1}},
                    "confirmed": {"below": 0},
                    "refuted": {"above": 0},
                }
            ]
        )


def test_what_is_not_yaml_is_refused() -> None:
    with pytest.raises(Invalid, match="is not YAML"):
        read("mine.yaml", "claim: [")


def test_a_rank_above_the_methods_limit_refuses_the_model() -> None:
    wide = bert(layers=2, width=4096, inner=16384, words=100, positions=64, heads=8)
    facts = FACTS.model_copy(update={"tasks": {TASK: wide}})
    model = library()["attention-only"].model_dump()
    model["study"]["arms"][0]["method"] |= {"r": 3000}  # attention alone would need a rank of 6750
    with pytest.raises(Invalid, match=r"The arm 'attention-only' does not fit this base model: .*4,?096") as refused:
        study_of(Recipe.model_validate(model), "m", "d", None, facts, 5)
    [field] = refused.value.fields
    assert field.path == "base_model" and field.remedy


def test_a_very_wide_interval_of_the_rate_ratio_reproduces_nothing() -> None:
    ratio = library()["rate-ratio"]
    assert ratio.outcome([(5.6, 32)]) is Outcome.REPRODUCED
    assert ratio.outcome([(1.1, 900)]) is Outcome.UNDECIDED
    assert ratio.outcome([(0.9, 32)]) is Outcome.UNDECIDED
    assert ratio.outcome([(1.1, 9)]) is Outcome.NOT_REPRODUCED
